"""An index of one batch as the zero-cost packages call their scores, in parts or whole."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas_relucode.cells.code_spaces import code_space, merge_code_spaces
from nas_relucode.errors import InputError
from nas_relucode.indices.registry import INDICES, compute_indices
from nas_relucode.integrations.zero_cost import MEASURES, zero_cost_score

SAMPLES = 12


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture(scope="module")
def inputs():
    return torch.randn(SAMPLES, 2, 8, 8, generator=torch.Generator().manual_seed(1))


TARGETS = torch.arange(SAMPLES) % 3
NO_PARTS = (2.0, np.float64(2), math.nan, True, np.True_, "2", None, [2])


def test_every_measure_is_a_function_as_the_packages_call_it(inputs):
    net = network()
    for name, function in MEASURES.items():
        value = function(net, inputs, TARGETS, loss_fn=functional.cross_entropy, split_data=2)
        assert type(value) is float, name
    assert {"logdet_kernel", "distinct_patterns", "cell_count", "cell_purity"} <= set(MEASURES)
    assert not {"new_cell_fraction", "segment_transitions", "facet_count", "regularised_patterns"} & set(MEASURES)


def test_measures_are_the_indices_of_the_batch_in_train_mode(inputs):
    expected = compute_indices(code_space(network(), (inputs, TARGETS), mode="train"))
    expected["parameter_count"] = sum(p.numel() for p in network().parameters())
    result = {name: function(network(), inputs, TARGETS) for name, function in MEASURES.items()}
    np.testing.assert_equal(result, {name: expected[name] for name in MEASURES})


def test_the_default_is_the_log_determinant_of_plain_hooks(inputs):
    """The kernel counts, ReLU by ReLU, the neurons on which two samples agree."""
    net, kernel = network(), np.zeros((SAMPLES, SAMPLES))

    def count(module, given, output):
        on = (given[0] > 0).flatten(1).double()
        kernel.__iadd__((on @ on.T + (1 - on) @ (1 - on).T).numpy())

    hooks = [module.register_forward_hook(count) for module in net if isinstance(module, nn.ReLU)]
    with torch.no_grad():
        net.train()(inputs)
    for hook in hooks:
        hook.remove()
    assert math.isclose(zero_cost_score(net, inputs, TARGETS), np.linalg.slogdet(kernel)[1], rel_tol=1e-9)


@given(st.integers(1, SAMPLES + 3), st.sampled_from(["cell_count", "logdet_kernel", "class_silhouette"]))
def test_in_evaluation_mode_the_parts_make_no_difference(inputs, parts, index):
    whole = zero_cost_score(network(), inputs, TARGETS, index=index, mode="eval")
    assert zero_cost_score(network(), inputs, TARGETS, parts, index=index, mode="eval") == whole


def test_the_parts_are_those_of_the_packages_and_normalised_each_on_its_own(inputs):
    sizes = []
    net = network()
    net.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    value = zero_cost_score(net, inputs, TARGETS, split_data=5)
    assert [sizes.pop(1), sizes.pop(1)] == [3, 3]  # one sample is checked, the first time a network is read
    assert sizes == [2, 2, 3, 2, 3]
    spaces = [code_space(network(), part, mode="train") for part in inputs.split(sizes)]
    assert value == compute_indices(merge_code_spaces(spaces), ["logdet_kernel"])["logdet_kernel"]
    assert value != zero_cost_score(network(), inputs, TARGETS)


def test_a_batch_that_does_not_fit_fits_in_parts(inputs):
    """The loop of the packages: on a RuntimeError that says so, try again with more parts."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, images):
            if len(images) > 4:
                raise RuntimeError("CUDA out of memory.")
            return self.inner(images)

    for parts in (1, 2):
        with pytest.raises(RuntimeError, match="out of memory"):
            zero_cost_score(Small(), inputs, TARGETS, split_data=parts, index="cell_count", mode="eval")
    result = zero_cost_score(Small(), inputs, TARGETS, split_data=3, index="cell_count", mode="eval")
    assert result == zero_cost_score(network(), inputs, TARGETS, index="cell_count", mode="eval")


def test_the_network_is_unchanged(inputs):
    net = network().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    zero_cost_score(net, inputs, TARGETS, split_data=2)
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    "targets",
    [
        None,
        torch.rand(SAMPLES, 3),
        torch.rand(SAMPLES),
        torch.ones(SAMPLES, dtype=torch.bool),
        np.array(["cat"] * SAMPLES),
        np.array([None] * SAMPLES),
    ],
)
def test_targets_that_are_not_labels_are_ignored(inputs, targets):
    assert zero_cost_score(network(), inputs, targets) == zero_cost_score(network(), inputs, TARGETS)
    with pytest.raises(InputError, match="'cell_purity' needs targets that are whole numbers, one per sample"):
        zero_cost_score(network(), inputs, targets, index="cell_purity")


def test_labels_may_be_numbers_of_numpy(inputs):
    result = zero_cost_score(network(), inputs, TARGETS.numpy(), index="cell_purity")
    assert result == zero_cost_score(network(), inputs, TARGETS, index="cell_purity")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"index": "nwot"}, "unknown index of a batch 'nwot'. Known: cell_count, "),
        ({"index": "new_cell_fraction"}, "unknown index of a batch 'new_cell_fraction'"),
        ({"layers": "body"}, "no layer matches body"),
        ({"also": "tan"}, "unknown smooth activation 'tan'"),
        *(({"split_data": parts}, "split_data .*a whole number of at least 1") for parts in (0, -1, *NO_PARTS)),
        *(({"index": index}, "unknown index of a batch") for index in (None, 3, [], ["cell_count"], {}, math.nan)),
        *(({name: value}, f"{name} is ") for name in ("layers", "also") for value in (None, 3, math.nan, True, [3])),
        *(
            ({name: value}, f"unknown value .* for {name}")
            for name in ("mode", "preset", "maps")
            for value in (None, 3, True, [])
        ),
        *(({"inputs": value}, "inputs are") for value in (None, [[1.0]], "x", torch.tensor(1.0), np.float32(1))),
        *(({"net": value}, "net is") for value in (None, "resnet18", nn.ReLU, abs)),
    ],
)
def test_what_can_not_be_used_is_refused(inputs, settings, message):
    with pytest.raises(InputError, match=message):
        zero_cost_score(**{"net": network(), "inputs": inputs, "targets": TARGETS} | settings)


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_parts_may_be_counted_by_any_whole_number(inputs, number):
    assert zero_cost_score(network(), inputs, TARGETS, number(5)) == zero_cost_score(network(), inputs, TARGETS, 5)


def test_more_parts_than_samples_are_a_sample_each_however_many(inputs):
    one_each = zero_cost_score(network(), inputs, TARGETS, SAMPLES)
    assert (
        zero_cost_score(network(), inputs, TARGETS, SAMPLES + 3)
        == zero_cost_score(network(), inputs, TARGETS, 10**30)
        == one_each
    )


def test_a_name_stands_for_a_list_of_one(inputs):
    smooth = nn.Sequential(*network()[:2], nn.GELU(), nn.Flatten(), nn.Linear(216, 3))
    result = [
        zero_cost_score(smooth, inputs, index="cell_count", layers=("2",), also=also) for also in ("gelu", ["gelu"])
    ]
    assert result[0] == result[1] == zero_cost_score(smooth, inputs, index="cell_count", layers="2", also={"gelu"})


def test_an_empty_batch_is_refused(inputs):
    with pytest.raises(InputError, match="no samples"):
        zero_cost_score(network(), inputs[:0], TARGETS[:0])


def test_indices_of_a_batch_need_nothing_else():
    needs = {need for name in MEASURES for need in INDICES[name].needs}
    assert needs == {"class_counts", "correct_counts", "parameters"}
