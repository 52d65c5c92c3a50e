"""A network whose rows are not the samples, or whose codes are noise or depend on the batch, is refused."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from nas_relucode import InputError, capture, score


class Calls(nn.Module):
    """One linear layer, and what is done with its outputs."""

    def __init__(self, call, features=6):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.call, self.passes = nn.Linear(4, features), call, []
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, x):
        self.passes.append(len(x))
        return self.call(self, self.linear(x))


ROWS = {
    "a parameter": lambda network, x: functional.relu(x) * functional.relu(network.scale),
    "features first": lambda network, x: functional.relu(functional.relu(x).T).T,
    "tokens first": lambda network, x: functional.relu(torch.stack([x] * 6)).mean(0),
}


@pytest.mark.parametrize("call", ROWS.values(), ids=ROWS)
def test_rows_that_equal_the_batch_by_coincidence_are_not_samples(call):
    network = Calls(call)
    for samples in (6, 5):
        with pytest.raises(InputError, match="samples first, or choose other layers"):
            capture(network, torch.randn(samples, 4))


def with_numpy(network, x):
    return functional.relu(x + torch.from_numpy(np.random.default_rng().normal(size=x.shape).astype(np.float32)))


OWN_GENERATOR = torch.Generator()

NOISE = {
    "dropout": lambda network, x: functional.relu(functional.dropout(x, 0.5) - 0.1),
    "noise": lambda network, x: functional.relu(x + torch.randn_like(x)),
    "noise of the whole batch": lambda network, x: functional.relu(x * torch.randn(x.shape[1:])),
    "dropout of weights": lambda network, x: functional.linear(x, functional.dropout(torch.ones(3, 6)) - 0.5).relu(),
    "numpy": with_numpy,
    "a generator of its own": lambda network, x: functional.relu(x + torch.randn(6, generator=OWN_GENERATOR)),
    "Python's random numbers": lambda network, x: functional.relu(x + random.random()),
}


@pytest.mark.parametrize("call", NOISE.values(), ids=NOISE)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_forward_pass_that_draws_random_numbers_is_refused(call, mode):
    with pytest.raises(InputError, match=r"random numbers.*training=self\.training"):
        capture(Calls(call), torch.randn(20, 4), mode=mode)


def test_random_numbers_that_change_nothing_are_no_noise():
    def draws(network, x):
        torch.rand(3)
        return functional.relu(functional.dropout(x, 0.5, network.training))

    x = torch.randn(20, 4)
    network = Calls(draws)
    assert np.array_equal(capture(network, x).bits(), (network.linear(x) > 0).numpy())


def normalised(statistics):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, track_running_stats=statistics)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.ReLU())


@pytest.mark.parametrize(("statistics", "mode"), [(True, "eval"), (True, "train"), (False, "train")])
def test_normalisation_by_the_batch_is_no_noise(statistics, mode):
    assert capture(normalised(statistics), torch.rand(9, 1, 8, 8), mode=mode).neurons == 152


MIXED = {
    "the largest value": (Calls(lambda network, x: functional.relu(x / x.abs().amax() - 0.1)), (200, 4)),
    "standardised, which copies cannot be": (
        Calls(lambda network, x: functional.relu((x - x.mean(0)) / x.std(0))),
        (20, 4),
    ),
    "the mean of the batch": (Calls(lambda network, x: functional.relu(x - x.mean(0))), (20, 4)),
    "normalisation without statistics": (normalised(statistics=False), (9, 1, 8, 8)),
    "attention over the first dimension": (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0), (7, 5, 4)),
}


@pytest.mark.parametrize(("network", "shape"), MIXED.values(), ids=MIXED)
def test_samples_that_depend_on_each_other_are_refused_in_evaluation_mode(network, shape):
    x = torch.randn(shape)
    capture(network, x, mode="train", layers="all")  # where a batch may have statistics
    with pytest.raises(InputError, match="depend on the batch"):
        capture(network, x, layers="all")


class Branching(nn.Module):
    """Takes one of two ways by a value of the whole batch."""

    def __init__(self, largest):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.one, self.two, self.largest = nn.Linear(4, 6), nn.ReLU(), nn.ReLU(), largest

    def forward(self, x):
        x = self.linear(x)
        return self.one(x) if self.largest(x) > 0 else self.two(-x)


BRANCHES = {
    "on the mean, to other layers": (Branching(torch.mean), "batch"),
    "on the first sample": (Branching(lambda x: x[0, 0]), "batch"),
    "on the mean, to the same layer": (
        Calls(lambda network, x: functional.relu(x if x.mean() > 0 else -x)),
        "depend on the batch",
    ),
    "on how many are positive": (
        Calls(lambda network, x: functional.relu(x if (x > 0).float().mean().item() > 0.5 else x - 1)),
        "depend on the batch",
    ),
}


@pytest.mark.parametrize(("network", "words"), BRANCHES.values(), ids=BRANCHES)
def test_a_branch_on_a_value_of_the_batch_is_refused(network, words):
    for seed in range(10):
        torch.manual_seed(seed)
        with pytest.raises(InputError, match=words):
            capture(network, torch.randn(40, 4))


def test_asking_for_a_value_without_a_branch_is_left_alone():
    def forward(network, x):
        assert torch.isfinite(x).all()
        return functional.relu(x)

    network, x = Calls(forward), torch.randn(40, 4)
    assert np.array_equal(capture(network, x).bits(), (network.linear(x) > 0).numpy())


def test_a_refusal_ends_with_its_cause_and_a_new_cause_is_seen():
    network, x = Calls(lambda network, x: functional.relu(functional.dropout(x, network.rate))), torch.randn(20, 4)
    for rate in (0.5, 0.0, 0.5, 0.0):
        network.rate = rate
        if rate:
            with pytest.raises(InputError, match="random numbers"):
                capture(network, x)
        else:
            assert capture(network, x).samples == 20
    with pytest.raises(InputError, match="random numbers"):
        capture(network, x, forward=lambda network, x: network(functional.dropout(x, 0.5)))
    assert capture(network, x, forward=lambda network, x: network(x)).samples == 20


@pytest.mark.parametrize(
    ("samples", "checks"), {1: [2, 2], 2: [3, 2, 3], 3: [2, 3, 2], 7: [3, 7, 4], 50: [4, 8, 4]}.items()
)
def test_a_network_is_checked_by_small_passes_the_first_time_only(samples, checks):
    network = Calls(lambda network, x: x.relu())
    for _ in range(3):
        capture(network, torch.randn(samples, 4), batch_size=50)
    capture(network, torch.randn(samples, 4), layers="relu", mode="train")
    assert network.passes == [samples, *checks, *[samples] * 3]


CHANGES = {
    "another module": lambda network: network.__setattr__("act", Mixing()),
    "a hook": lambda network: network.linear.register_forward_hook(lambda _, args, x: x - x.mean(0)),
    "another forward pass": lambda network: setattr(
        network, "forward", lambda x: functional.relu(network.linear(x) - x.mean())
    ),
    "more samples": lambda network: None,
}


class Mixing(nn.Module):
    def forward(self, x):
        return functional.relu(x - x.mean(0))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_is_checked_again(change):
    torch.manual_seed(0)
    network = nn.Sequential()
    network.linear = nn.Linear(4, 6)
    network.act = Mixing() if change == "more samples" else nn.ReLU()
    x = torch.randn(20, 4)
    capture(network, x[:1] if change == "more samples" else x)
    CHANGES[change](network)
    with pytest.raises(InputError, match="depend on the batch"):
        capture(network, x)


@pytest.mark.parametrize("shape", [(8,), (3, 8, 8)])
def test_one_sample_without_a_dimension_of_samples_is_not_read_as_many(shape):
    first = nn.Linear(8, 8) if len(shape) == 1 else nn.Conv2d(3, 3, 3)
    for data in (torch.randn(shape), [torch.randn(shape) for _ in range(3)]):
        with pytest.raises(InputError, match=r"are one sample for Sequential.*inputs\[None\]"):
            capture(nn.Sequential(first, nn.ReLU()), data)


def test_a_network_of_one_batch_size_is_not_checked():
    network = Calls(lambda network, x: x.reshape(5, 6).relu())
    assert capture(network, torch.randn(5, 4)).samples == 5


class Writing(nn.Module):
    """Overwrites its inputs where they are large, in a way of its own."""

    def __init__(self, write):
        super().__init__()
        self.linear, self.write = nn.Linear(3, 8), write

    def forward(self, x):
        if x.max() > 1:
            self.write(x)
        return functional.relu(self.linear(x))


def by_numpy(x):
    array = x.numpy()
    array /= 255


@pytest.mark.parametrize("write", [lambda x: x.div_(255), lambda x: x.data.div_(255), by_numpy])
def test_inputs_stay_as_they_are_if_a_later_batch_is_overwritten(write):
    x = torch.rand(8, 3)
    x[4:] *= 255
    before, network = x.clone(), Writing(write)
    capture(network, x, batch_size=4)
    assert torch.equal(x, before)
    capture(network, x[4:])
    assert torch.equal(x, before)


def test_inputs_stay_as_they_are_if_the_network_overwrites_them():
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.ReLU())
    x = torch.randn(10, 4)
    for data in (x, x.numpy(), [x[:5], x[5:]], DataLoader(TensorDataset(x), batch_size=3)):
        before = x.clone()
        codes = capture(network, data, batch_size=4)
        assert torch.equal(x, before)
        assert np.array_equal(codes.layer("0").bits(), (x > 0).numpy())


class Images(nn.Module):
    """Takes a list of images of any size, as detectors do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images, targets=None):
        return self.conv(torch.stack(list(images))).relu()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_list_of_images_has_as_many_samples_as_images(count):
    images, network = torch.rand(count, 3, 8, 8), Images()
    expected = capture(network, images).words
    targets = tuple({"boxes": torch.zeros(2, 4)} for _ in images)
    for batch, forward in {
        "list": (list(images), lambda network, batch: network(batch)),
        "images and targets": ((tuple(images), targets), lambda network, batch: network(batch[0])),
        "arguments": ((tuple(images), targets), None),
    }.values():
        assert np.array_equal(capture(Images(), [batch], forward=forward).words, expected)


def test_a_score_says_what_was_taken_for_inputs_and_labels():
    network, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(10, 4)
    result = score(network, (x, torch.arange(10)[:, None] % 3), indices=["cell_count"])
    assert result.accuracy is not None
    assert "(10, 4) as inputs, whole numbers as labels" in repr(result)
    assert "no labels" in repr(score(network, [x], indices=["cell_count"]))
