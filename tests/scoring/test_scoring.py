"""score() on networks of this project and of others."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from nas_relucode import InputError, Split, build_network, load_data, score
from nas_relucode.indices import RegularisedPatterns, SegmentTransitions
from nas_relucode.training import build_autoencoder


class HandWritten(nn.Module):
    """A network that this project has never seen: functions and methods, a skip, dropout, batch statistics."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.out = nn.Linear(6, 10)

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)))
        x = x + functional.dropout(self.body(x).relu_(), training=self.training)
        return self.out(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", train_samples=300, test_samples=100)


def byte_equal(network, before):
    return pickle.dumps(network) == before


@pytest.mark.parametrize("training", [True, False])
def test_a_network_never_seen_is_scored_and_left_byte_equal(digits, training):
    network = HandWritten().train(training)
    before = pickle.dumps(network)
    result = score(network, digits)
    assert byte_equal(network, before)
    assert network.training is training
    assert list(result.layers) == ["relu", "relu#2"]
    assert result.samples == 300


def test_resnet18_is_scored_and_left_byte_equal():
    network = torchvision.models.resnet18(num_classes=10)
    before = pickle.dumps(network)
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8)
    result = score(network, (images, labels))
    assert byte_equal(network, before)
    assert len(result.layers) == 17
    assert result.joint["cell_count"] == 8
    assert result.joint["parameter_count"] == 11_181_642  # torchvision's 11,689,512 less 990 of 1,000 outputs


def test_the_numbers_are_those_of_the_bits(digits):
    """Everything recomputed from a copy's own activations."""
    network = build_network("24-12", digits.image_shape, 10, backbone="none", seed=4)
    result = score(network, digits, layers="head")
    with torch.no_grad():
        x = digits.train.inputs.flatten(1)
        first = (x @ network.head[0].weight.T).relu()
        second = (first @ network.head[2].weight.T).relu()
        outputs = second @ network.head[4].weight.T
    right = (outputs.argmax(dim=1) == digits.train.labels).numpy()
    assert result.accuracy == right.mean()
    bits = {"head.1": (first > 0).numpy(), "head.3": (second > 0).numpy()}
    bits["joint"] = np.hstack([bits["head.1"], bits["head.3"]])
    for name, b in bits.items():
        values = result.joint if name == "joint" else result.layers[name]
        assert values["cell_count"] == len(np.unique(b, axis=0))
        assert values["correct_cell_count"] == len(np.unique(b[right], axis=0))
        assert values["dead_neuron_fraction"] == np.mean(~b.any(axis=0))


@pytest.mark.parametrize("batch_size", [7, 33, 300])
def test_scores_do_not_depend_on_the_batch_size_or_the_order(digits, batch_size):
    network = build_network("32-16", digits.image_shape, 10, backbone="small_conv")
    names = [name for name in score(network, digits).joint if name not in ("distinct_patterns", "logdet_kernel")]
    expected = score(network, digits, indices=names).as_dict()  # without those of the first samples
    assert score(network, digits, indices=names, batch_size=batch_size).as_dict() == expected
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    images, labels = digits.train.inputs[order], digits.train.labels[order]
    shuffled = score(network, (images, labels), indices=names, batch_size=batch_size).as_dict()
    for values in (shuffled["joint"], *shuffled["layers"].values()):
        assert values.keys() >= {"knn_accuracy", "connecting_theta_50"}
    assert shuffled["joint"] == pytest.approx(expected["joint"])
    assert shuffled["layers"] == {layer: pytest.approx(values) for layer, values in expected["layers"].items()}
    assert (shuffled["accuracy"], shuffled["saturated"]) == (expected["train_accuracy"], expected["saturated"])


def test_splits_are_scored_by_name(digits):
    network = build_network("16", digits.image_shape, 10, backbone="none")
    sizes = {split: score(network, digits, split=split).samples for split in ("train", "test", "all")}
    assert sizes == {"train": 300, "test": 100, "all": 400}
    test = score(network, digits.test).as_dict()
    test["test_accuracy"] = test.pop("accuracy")
    assert score(network, digits, split="test").as_dict() == test | {"split": "test"}
    with pytest.raises(InputError, match=r"unknown split 'tset'. Known: train, validation, test, all"):
        score(network, digits, split="tset")


def test_a_reconstruction_has_no_accuracy(digits):
    result = score(build_autoencoder(digits.image_shape), digits, layers="head")
    assert result.accuracy is None
    assert "correct_cell_count" not in result.joint
    assert "cell_purity" in result.joint


def test_inputs_without_labels_give_the_indices_that_need_none():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    result = score(network, torch.rand(7, 3))
    assert result.accuracy is None
    assert result.split == "given"
    assert {"cell_count", "component_count"} <= result.joint.keys()
    assert "cell_purity" not in result.joint


def test_the_dictionary_is_json_and_undefined_indices_are_null():
    """One sample a class: there is no pair within a class."""
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    result = score(network, (torch.rand(2, 3), torch.tensor([0, 1])))
    table = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert table["joint"]["within_class_distance"] is None
    assert list(table) == ["accuracy", "split", "samples", "joint", "layers", "saturated"]
    assert "cell_count" in table["saturated"]["joint"]


def test_arrays_and_a_single_index_name_are_accepted():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs, labels = np.ones((5, 3), np.float32), np.zeros(5, np.int64)
    assert score(network, (inputs, labels), indices="cell_count").joint == {"cell_count": 1}
    assert score(network, torch.utils.data.DataLoader(inputs, batch_size=2)).samples == 5
    with pytest.raises(InputError, match="labels are float64"):
        score(network, (inputs, labels + 0.5))


def test_held_out_samples_tell_how_much_of_the_code_space_the_sample_has_seen(digits):
    network = build_network("32-16", digits.image_shape, 10, backbone="none")
    result = score(network, digits, layers="head", indices=["new_cell_fraction"], held_out="test")
    bits = {split: network.head[:4](network.backbone(digits.split(split).inputs)) > 0 for split in ("train", "test")}
    seen = {row.numpy().tobytes() for row in bits["train"]}
    unseen = np.mean([row.numpy().tobytes() not in seen for row in bits["test"]])
    assert result.layers["head.3"]["new_cell_fraction"] == unseen
    assert 0 < unseen < result.joint["new_cell_fraction"]
    with pytest.raises(InputError, match="needs held-out samples"):
        score(network, digits.train, indices=["new_cell_fraction"])
    with pytest.raises(InputError, match="'test' names a split, but the data have none"):
        score(network, digits.train, held_out="test")
    with pytest.raises(InputError, match="'validation' names a split, but the data have none"):
        score(network, digits.train, split="validation")


def test_transitions_are_counted_on_request(digits):
    network = build_network("8", digits.image_shape, 10, backbone="none")
    assert "segment_transitions" not in score(network, digits).joint
    result = score(network, digits, indices=["all", SegmentTransitions(segments=20)])
    assert result.joint["segment_transitions"] > 0
    assert "segment_transitions" not in result.layers["head.1"]
    assert score(network, digits, indices=["segment_transitions"]).joint.keys() == {"segment_transitions"}


def test_two_batches_are_not_read_as_inputs_and_labels():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x, y = torch.rand(10, 3), torch.arange(10) % 2
    whole = score(network, (x, y)).as_dict()
    assert score(network, [(x[:4], y[:4]), (x[4:], y[4:])]).as_dict() == whole
    assert score(network, [x[:5], x[5:]]).samples == 10


def test_layers_without_neurons_and_a_layer_called_joint_do_not_spoil_the_joint_indices():
    class Empty(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name
            self.add_module(name, nn.ReLU())

        def forward(self, x):
            return x.relu() + getattr(self, self.name)(x[:, :0]).sum()

    inputs = torch.tensor([[-1.0], [1.0]])
    result = score(Empty("nothing"), inputs)
    assert result.joint["cell_count"] == 2
    assert result.layers["nothing"] == {}
    with pytest.raises(InputError, match="a module is called joint"):
        score(Empty("joint"), inputs)
    assert score(Empty("joint"), inputs, indices=["parameter_count"]).joint == {"parameter_count": 0}


def test_weights_that_differ_give_other_scores(digits):
    network = build_network("32", digits.image_shape, 10, backbone="none")
    other = copy.deepcopy(network)
    other.head[0].bias.data -= 0.5
    assert score(network, digits).joint["cell_count"] != score(other, digits).joint["cell_count"]


def test_labels_that_the_network_does_not_know_are_errors():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"the largest is 5, but the network has 2 outputs.*0..1"):
        score(network, (torch.rand(2, 3), torch.tensor([0, 5])))
    with pytest.raises(InputError, match="2 inputs, but labels of shape"):
        score(network, Split(torch.rand(2, 3), torch.tensor([0])))
    with pytest.raises(InputError, match="unknown index 'cells'"):
        score(network, torch.rand(2, 3), indices=["cells"])


def test_regularised_patterns_are_scored_for_a_wanted_size():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))  # of 23 parameters
    images = torch.randn(20, 1, 2, 2)
    patterns = score(network, images).joint["distinct_patterns"]
    assert "regularised_patterns" not in score(network, images).joint
    result = score(network, images, indices=RegularisedPatterns(mu=0.023, sigma=1.0)).joint
    assert result["regularised_patterns"] == patterns
    with pytest.raises(InputError, match="wanted size"):
        score(network, images, indices=["regularised_patterns"])


def test_a_score_is_printed_as_a_short_table(digits):
    network = build_network("8-4", digits.image_shape, 10, backbone="none")
    result = score(network, digits, indices=["cell_count", "parameter_count"])
    title, parts, head, cells, parameters, *_ = repr(result).splitlines()
    assert title == f"Score: train_accuracy {result.accuracy:.4f} on 300 samples (train)"
    assert parts.strip() == "float32 of shape (300, 1, 8, 8) as inputs, whole numbers as labels"
    assert head.split() == ["index", "joint", "head.1", "head.3"]
    assert [cell.rstrip("*") for cell in cells.split()[1:]] == [
        f"{values['cell_count']:.0f}" for values in (result.joint, *result.layers.values())
    ]
    assert parameters.split() == ["parameter_count", f"{result.joint['parameter_count']:.0f}"]
    assert result._repr_html_().count("<tr>") == 3
    assert len(repr(score(torchvision.models.resnet18(), torch.rand(3, 3, 32, 32))).splitlines()) < 20
