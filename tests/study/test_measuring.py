"""What a record keeps of a trained network, on every form in which people hold their samples."""

from __future__ import annotations

import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import nas_relucode as rc
from nas_relucode.codes.reading import Reading
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.study.measuring import Splits, default_layers, measure_network
from nas_relucode.study.predictions import correct_samples
from nas_relucode.study.samples import ordered_samples

SAMPLES, FEATURES, CLASSES = 40, 6, 3


def inputs_and_labels(seed: int = 0, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, FEATURES, generator=generator)
    return inputs, torch.randint(0, classes, (SAMPLES,), generator=generator)


def classifier(outputs: int = CLASSES, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, outputs))


class InOrder(Dataset):
    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.inputs[row], int(self.labels[row])


class Stream(IterableDataset):
    def __init__(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __iter__(self):
        yield from zip(self.inputs, self.labels, strict=True)


class Noisy(InOrder):
    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.inputs[row] + torch.randn(FEATURES), int(self.labels[row])


FORMS = {
    "tensors": lambda x, y: (x, y),
    "a list of tensors": lambda x, y: [x, y],
    "float32 arrays": lambda x, y: (x.numpy(), y.numpy()),
    "labels in a column": lambda x, y: (x, y[:, None].float()),
    "a Split": rc.Split,
    "a TensorDataset": TensorDataset,
    "a part of a TensorDataset": lambda x, y: Subset(
        TensorDataset(torch.cat([x, x]), torch.cat([y, y])), range(len(x), 2 * len(x))
    ),
    "a Dataset": InOrder,
    "an IterableDataset": Stream,
    "a loader": lambda x, y: DataLoader(InOrder(x, y), batch_size=7),
    "a loader that leaves out a batch": lambda x, y: DataLoader(InOrder(x, y), batch_size=7, drop_last=True),
    "a loader that shuffles": lambda x, y: DataLoader(InOrder(x, y), batch_size=7, shuffle=True),
    "a loader of tensors that shuffles": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7, shuffle=True),
    "batches": lambda x, y: list(zip(x.split(9), y.split(9), strict=True)),
    "batches of dicts": lambda x, y: [{"input": a, "labels": b} for a, b in zip(x.split(9), y.split(9), strict=True)],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_samples_gives_the_same_accuracy_loss_bits_and_digest(form):
    inputs, labels = inputs_and_labels()
    network = classifier()
    result = measure_network(
        network, Splits.of(train=inputs, validation=FORMS[form](inputs, labels)), indices=["cell_count"]
    )
    scores = network(inputs).detach().double().softmax(dim=1).numpy()
    assert result["accuracy"] == accuracy_score(labels, scores.argmax(axis=1))
    assert result["validation_loss"] == pytest.approx(log_loss(labels, scores), rel=1e-6)
    np.testing.assert_array_equal(correct_samples(result["validation"]), scores.argmax(axis=1) == labels.numpy())
    same_names = form != "batches of dicts"  # the names of inputs belong to the digest
    assert (result["validation"]["digest"] == ordered_samples((inputs, labels), "validation").digest) is same_names
    assert (result["classes"], result["validation"]["samples"]) == (CLASSES, SAMPLES)
    assert result["joint"] == rc.score(network, inputs, indices=["cell_count"]).joint


def test_the_random_state_of_torch_is_the_same_after_samples_are_read_from_loaders():
    loader = DataLoader(InOrder(*inputs_and_labels()), batch_size=7, shuffle=True)
    before = torch.get_rng_state()
    splits = Splits.of(train=loader, validation=loader, test=loader)
    measure_network(classifier(), splits, indices=["cell_count"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("outputs", ["one column", "no column"])
def test_one_logit_per_sample_is_judged_as_two_classes(outputs):
    inputs, labels = inputs_and_labels(classes=2)
    network = classifier(1)
    if outputs == "no column":
        network.append(nn.Flatten(0))
    result = measure_network(
        network, Splits.of(train=(inputs, labels), validation=(inputs, labels)), indices=["correct_cell_count"]
    )
    logits = network(inputs).detach().flatten()
    assert result["accuracy"] == accuracy_score(labels, (logits > 0).long())
    assert result["train_accuracy"] == result["accuracy"]
    expected = nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    assert result["validation_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert result["classes"] == 2
    assert result["joint"]["correct_cell_count"] > 0


@pytest.mark.parametrize("outputs", ["one column", "no column"])
def test_the_cells_of_one_logit_are_those_of_the_scores_0_and_the_logit(outputs):
    inputs, labels = inputs_and_labels(classes=2)
    network, both = classifier(1), classifier(2)
    both.load_state_dict(network.state_dict() | {"2.weight": torch.zeros(2, 5), "2.bias": torch.zeros(2)})
    both[2].weight.data[1], both[2].bias.data[1] = network[2].weight.data[0], network[2].bias.data[0]
    if outputs == "no column":
        network.append(nn.Flatten(0))
    indices = [name for name, index in rc.INDICES.items() if index.on_request and name != "regularised_patterns"]
    splits = Splits.of(train=(inputs, labels), validation=(inputs, labels))
    result, expected = (measure_network(each, splits, indices=indices)["joint"] for each in (network, both))
    assert result == pytest.approx(expected, rel=1e-5)
    assert result["margin_mean_correct"] > 0
    assert result["confidence_growth"] > 0


class Sum(nn.Module):
    """A network with two named inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = classifier()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        return OrderedDict(logits=self.body(a + b))


@pytest.mark.parametrize("whole", [True, False])
def test_dict_inputs_are_read_with_forward(whole):
    inputs, labels = inputs_and_labels()
    network = Sum()
    parts = {"a": inputs / 2, "b": inputs / 2}
    data = (parts, labels)
    if not whole:
        data = [{name: values[rows] for name, values in (parts | {"label": labels}).items()} for rows in ([0, 1], [2])]
    result = measure_network(
        network,
        Splits.of(train=data, validation=data),
        indices=["cell_count"],
        forward=lambda network, batch: (
            network(**batch[0])["logits"] if whole else network(batch["a"], batch["b"])["logits"]
        ),
    )
    rows = slice(None) if whole else slice(0, 3)
    expected = network.body(inputs[rows]).argmax(dim=1) == labels[rows]
    np.testing.assert_array_equal(correct_samples(result["validation"]), expected)
    assert result["train_accuracy"] == result["accuracy"]


def test_the_codes_may_be_those_of_the_validation_samples():
    held, train = inputs_and_labels(1), inputs_and_labels(0)
    network = classifier()
    result = measure_network(network, Splits.of(train=train, validation=held), split="validation")
    assert result["joint"]["cell_count"] == rc.score(network, held[0]).joint["cell_count"]
    assert result["train_accuracy"] == rc.score(network, train).accuracy
    assert result["split"] == "validation"


def test_an_autoencoder_has_losses_and_no_accuracy():
    inputs, _ = inputs_and_labels()
    network = classifier(FEATURES)
    splits = Splits.of(train=inputs, validation=inputs, labelled=False)
    result = measure_network(network, splits, loss="mse", indices=["cell_count"])
    assert result["validation_loss"] == pytest.approx(float((network(inputs).detach() - inputs).square().mean()))
    assert result["accuracy"] is result["train_accuracy"] is result["classes"] is None


def test_the_users_own_accuracy_stands_and_bits_are_kept_only_if_they_agree():
    inputs, labels = inputs_and_labels()
    splits = Splits.of(train=inputs, validation=(inputs, labels))
    measured = measure_network(classifier(), splits, indices=["cell_count"])["accuracy"]
    same = measure_network(classifier(), splits, indices=["cell_count"], accuracy=round(measured, 3))
    other = measure_network(classifier(), splits, indices=["cell_count"], accuracy=measured + 0.1)
    assert "correct" in same["validation"]
    assert "correct" not in other["validation"]
    assert other["accuracy"] == measured + 0.1


def test_outputs_that_are_no_class_scores_need_the_users_accuracy():
    inputs, labels = inputs_and_labels()
    splits = Splits.of(train=inputs, validation=(inputs, labels))
    network = nn.Sequential(classifier(), nn.Unflatten(1, (1, 3)))
    with pytest.raises(InputError, match=r"(?s)\(40, 1, 3\).*forward=.*accuracy="):
        measure_network(network, splits)
    assert measure_network(network, splits, accuracy=0.5, indices=["cell_count"])["accuracy"] == 0.5


def test_outputs_that_are_not_finite_are_an_error_that_names_the_samples():
    inputs, labels = inputs_and_labels()
    network = classifier()
    network[2].weight.data.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="validation"):
        measure_network(network, Splits.of(train=inputs, validation=(inputs, labels)))


def test_a_network_with_fewer_outputs_than_classes_is_refused():
    inputs, labels = inputs_and_labels()
    with pytest.raises(InputError, match=r"label is 2.*2 classes"):
        measure_network(classifier(2), Splits.of(train=inputs, validation=(inputs, labels)))


def iterator_of_batches(x, y):
    return iter([(x, y)])


class Shuffled:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        order = torch.randperm(len(self.x))
        yield self.x[order], self.y[order]


REFUSED = {
    "empty": (lambda x, y: (x[:0], y[:0]), "no validation samples"),
    "an empty Dataset": (lambda x, y: InOrder(x[:0], y[:0]), "no validation samples"),
    "no labels": (lambda x, y: x, "labels"),
    "too few labels": (lambda x, y: (x, y[1:]), "40"),
    "labels that are not whole": (lambda x, y: (x, y + 0.5), "whole"),
    "negative labels": (lambda x, y: (x, y - 1), "-1"),
    "an iterator": (iterator_of_batches, "iterator"),
    "a number": (lambda x, y: 3, "int"),
    "another order in each pass": (Shuffled, "order"),
    "noise": (Noisy, "augments"),
    "a random sampler of a part": (
        lambda x, y: DataLoader(InOrder(x, y), sampler=torch.utils.data.SubsetRandomSampler(range(20))),
        "shuffles",
    ),
    "ImageData": (lambda x, y: rc.load_data("digits"), r"data\.validation"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_samples_that_cannot_be_compared_one_by_one_are_refused(form):
    build, named = REFUSED[form]
    with warnings.catch_warnings(), pytest.raises(InputError, match=named):
        Splits.of(validation=build(*inputs_and_labels()))


def test_fully_connected_layers_are_read_by_default_where_there_are_any():
    images = torch.randn(4, 1, 8, 8)
    splits = Splits.of(validation=(images, torch.arange(4)))
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4))
    both = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4), nn.ReLU())
    assert default_layers(convolution, splits) == "all"
    assert default_layers(both, splits) == "fc"
    layers = measure_network(both, splits, split="validation", reading=Reading(layers=("fc",)))["layers"]
    assert list(layers) == ["4"]
