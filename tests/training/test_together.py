"""Training together: the oracle is `train` of each network alone."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.training.data import Split, load_data
from nas_relucode.training.descent import Descent
from nas_relucode.training.loop import Epoch, Recipe, train
from nas_relucode.training.networks import build_autoencoder, build_network
from nas_relucode.training.perceptrons import dense_layers
from nas_relucode.training.together import train_together

RATES = [0.3, 0.1, 0.01]


class Bent(nn.Module):
    """Not a Sequential: what it does can't be read off its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(inputs)))


def normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))


def frozen_first() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    return network


def twice() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    network[2].weight = network[0].weight
    return network


NETWORKS = {  # how to build it, the shape of an input, the classes, the loss, whether it is written out as products
    "head": (lambda: build_network("6-5", (1, 4, 2), 3, backbone="none"), (1, 4, 2), 3, "cross_entropy", True),
    "no bias": (lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)), (3,), 2,
                "cross_entropy", True),
    "one layer": (lambda: nn.Sequential(nn.Linear(3, 2)), (3,), 2, "cross_entropy", True),
    "ReLU last": (lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()), (3,), 2,
                  "cross_entropy", True),
    "sigmoid": (lambda: build_autoencoder((1, 3, 2), head="4-3", decoder="5"), (1, 3, 2), 0, "sigmoid", True),
    "squares": (lambda: build_autoencoder((1, 3, 2), head="4-3", decoder="5"), (1, 3, 2), 0, "mse", True),
    "convolutions": (lambda: build_network("6", (1, 8, 8), 3, backbone="small_conv"), (1, 8, 8), 3, "cross_entropy",
                     True),
    "batch norm": (normed, (1, 8, 8), 3, "cross_entropy", False),
    "bent": (Bent, (3,), 2, "cross_entropy", False),
    "frozen": (frozen_first, (3,), 2, "cross_entropy", False),
    "one layer twice": (twice, (3,), 3, "cross_entropy", False),
    "tied weights": (tied, (3,), 3, "cross_entropy", False),
}  # fmt: skip


def built(kind: str, count: int = 3, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    networks = []
    for number in range(count):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            network = NETWORKS[kind][0]()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        networks.append(network.to(dtype))
    return networks


def samples(kind: str, count: int = 22, dtype: torch.dtype = torch.float64) -> Split:
    generator = torch.Generator().manual_seed(0)
    _, shape, classes, *_ = NETWORKS[kind]
    inputs = torch.rand(count, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return Split(inputs, torch.randint(classes, (count,), generator=generator) if classes else None)


def one_by_one(networks, data, recipe, seeds) -> np.ndarray:
    """The losses (epochs, networks)."""
    losses = []
    for network, rate, seed in zip(networks, RATES, seeds, strict=True):
        told: list[Epoch] = []
        train(network, data, learning_rate=rate, recipe=recipe, seed=seed, on_epoch=told.append)
        losses.append([epoch.loss for epoch in told[1:]])
    return np.array(losses).T


def assert_alike(first: nn.Module, second: nn.Module, tolerance: float) -> None:
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("seeds", [[5, 5, 5], [5, 6, 7]], ids=["one order", "own orders"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_trained_together_are_those_trained_alone(kind, seeds):
    data, networks = samples(kind), built(kind)
    alone = copy.deepcopy(networks)
    *_, loss, products = NETWORKS[kind]
    assert bool(dense_layers(networks[0], data.inputs.shape[1:], 8)) == products
    recipe = Recipe(epochs=3, batch_size=8, momentum=0.5, weight_decay=0.01, schedule="cosine", loss=loss)
    expected = one_by_one(alone, data, recipe, seeds)
    found = train_together(networks, data, learning_rates=RATES, seeds=seeds, recipe=recipe)
    np.testing.assert_allclose(found.losses, expected, rtol=1e-9)
    assert found.diverged == (None, None, None)
    for ours, theirs in zip(networks, alone, strict=True):
        assert_alike(theirs, ours, 1e-9)
        assert ours.training


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_in_float32_the_losses_agree_to_four_digits(momentum):
    data = load_data("digits").train
    networks = [build_network("32-16", (1, 8, 8), 10, backbone="none", seed=seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=3, batch_size=64, momentum=momentum)
    found = train_together(networks, data, learning_rates=RATES, seeds=[1, 1, 1], recipe=recipe)
    np.testing.assert_allclose(found.losses, one_by_one(alone, data, recipe, [1, 1, 1]), atol=1e-4)


@pytest.mark.parametrize("kind", ["head", "batch norm"])
def test_the_callback_sees_the_current_weights(kind):
    data, networks, alone = samples(kind), built(kind), built(kind)
    recipe = Recipe(epochs=2, batch_size=8)
    path: list[list[dict]] = []
    expected: list[list[dict]] = []
    told: list[tuple[int, np.ndarray]] = []

    def look(number: int, losses: np.ndarray) -> None:
        told.append((number, losses))
        path.append([copy.deepcopy(network.state_dict()) for network in networks])

    train_together(networks, data, learning_rates=RATES, seeds=[1, 2, 3], recipe=recipe, on_epoch=look)
    for network, rate, seed in zip(alone, RATES, [1, 2, 3], strict=True):
        states: list[dict] = []
        keep = lambda epoch: states.append(copy.deepcopy(network.state_dict()))  # noqa: B023, E731
        train(network, data, learning_rate=rate, recipe=recipe, seed=seed, on_epoch=keep)
        expected.append(states)
    assert [number for number, _ in told] == [0, 1, 2]
    assert np.isnan(told[0][1]).all()
    for number in range(3):
        for place in range(3):
            for name, value in expected[place][number].items():
                torch.testing.assert_close(path[number][place][name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["head", "convolutions"])
@pytest.mark.parametrize("seeds", [[1, 1, 1], [1, 2, 3]])
def test_one_that_diverges_goes_alone(kind, seeds):
    data, networks = samples(kind), built(kind)
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=3, batch_size=8)
    rates = [0.1, 1e300, 0.01]
    found = train_together(networks, data, learning_rates=rates, seeds=seeds, recipe=recipe)
    assert found.diverged[0] is found.diverged[2] is None
    with pytest.raises(NonFiniteError, match=f"in epoch {found.diverged[1]} "):
        train(alone[1], data, learning_rate=1e300, recipe=recipe, seed=seeds[1])
    at = found.diverged[1] - 1
    assert np.isfinite(found.losses[:at]).all()
    assert np.isnan(found.losses[at:, 1]).all()
    for place in (0, 2):
        told: list[Epoch] = []
        train(alone[place], data, learning_rate=rates[place], recipe=recipe, seed=seeds[place], on_epoch=told.append)
        np.testing.assert_allclose(found.losses[:, place], [epoch.loss for epoch in told[1:]], rtol=1e-9)
        assert_alike(alone[place], networks[place], 1e-9)


def test_mixed_precision_trains_alike():
    data = load_data("digits").train
    networks = [build_network("16", (1, 8, 8), 10, backbone="none", seed=seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=1, batch_size=64, mixed_precision=True)
    found = train_together(networks, data, learning_rates=RATES, seeds=[1, 1, 1], recipe=recipe)
    np.testing.assert_allclose(found.losses, one_by_one(alone, data, recipe, [1, 1, 1]), rtol=0.01)
    assert {parameter.dtype for network in networks for parameter in network.parameters()} == {torch.float32}


def test_no_epochs_leave_the_networks_as_they_were():
    networks = built("head")
    before = copy.deepcopy(networks)
    found = train_together(networks, samples("head"), learning_rates=RATES, seeds=[1, 1, 1], recipe=Recipe(epochs=0))
    assert found.losses.shape == (0, 3)
    for first, second in zip(before, networks, strict=True):
        assert_alike(first, second, 0)


def test_hooks_are_called():
    networks, called = built("head"), []
    networks[0].head[0].register_forward_hook(lambda *_: called.append(1))
    assert dense_layers(networks[0], (1, 4, 2), 22) is None
    train_together(
        networks, samples("head"), learning_rates=RATES, seeds=[1, 1, 1], recipe=Recipe(epochs=1, batch_size=22)
    )
    assert called


def test_networks_that_cannot_be_trained_together_are_explained():
    data, recipe = samples("head"), Recipe(epochs=1)

    def refused(message, networks, rates=RATES, seeds=(1, 1, 1), data=data, recipe=recipe):
        with pytest.raises(InputError, match=message):
            train_together(networks, data, learning_rates=rates, seeds=list(seeds), recipe=recipe)

    networks = built("head")
    refused("there are 0 networks, 3 learning rates and 3 seeds", [])
    refused("there are 3 networks, 2 learning rates and 3 seeds", networks, rates=[1, 2])
    refused("there are 3 networks, 3 learning rates and 1 seeds", networks, seeds=[1])
    refused("two of the networks share weights", [networks[0], networks[1], networks[0]])
    other = build_network("6-6", (1, 4, 2), 3, backbone="none").double()
    refused("network 2 has another structure than network 0", [*networks[:2], other])
    refused("network 1 has another structure", [networks[0], built("head")[1].float(), networks[2]])
    refused("learning rate 0 is out of range", networks, rates=[0.1, 0, 0.1])
    refused("no labelled samples", networks, data=Split(data.inputs, None))
    refused("network that reconstructs its inputs", networks, recipe=Recipe(epochs=1, loss="mse"))


def test_a_network_with_nothing_to_train_is_explained():
    network = built("head")[0].requires_grad_(False)
    with pytest.raises(InputError, match="nothing to train"):
        train(network, samples("head"), learning_rate=0.1, recipe=Recipe(epochs=1))


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("weight_decay", [0, 0.1])
@pytest.mark.parametrize("each", [False, True])
def test_descent_is_torchs_sgd(momentum, weight_decay, each):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 2, generator=generator)
    rates = torch.tensor([0.1, 0.2, 0.3]) if each else torch.full((3,), 0.1)
    theirs = [row.clone().requires_grad_() for row in start]
    optimizers = [
        torch.optim.SGD([row], lr=float(rate), momentum=momentum, weight_decay=weight_decay)
        for row, rate in zip(theirs, rates, strict=True)
    ]
    ours = [start.clone(), torch.ones(3, 2)]
    descent = Descent(ours, rates if each else 0.1, momentum=momentum, weight_decay=weight_decay)
    for _ in range(3):
        slopes = torch.randn(3, 4, 2, generator=generator)
        for row, slope, optimizer in zip(theirs, slopes, optimizers, strict=True):
            row.grad = slope.clone()
            optimizer.step()
        descent.step([slopes, None])
    torch.testing.assert_close(ours[0], torch.stack([row.detach() for row in theirs]), rtol=1e-6, atol=1e-6)
    assert (ours[1] == 1).all()


@pytest.mark.slow
def test_compiled_networks_train_alike():
    data = load_data("digits", train_samples=256).train
    networks = [build_network("16", (1, 8, 8), 10, backbone="none", seed=seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=2, batch_size=128, compile=True)
    found = train_together(networks, data, learning_rates=RATES, seeds=[1, 1, 1], recipe=recipe)
    expected = one_by_one(alone, data, Recipe(epochs=2, batch_size=128), [1, 1, 1])
    np.testing.assert_allclose(found.losses, expected, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_trains_them_like_the_cpu():
    losses = []
    for device in ("cpu", "cuda"):
        data = samples("head", dtype=torch.float64)
        data = Split(data.inputs.to(device), data.labels.to(device))
        networks = [network.to(device) for network in built("head")]
        found = train_together(networks, data, learning_rates=RATES, seeds=[1, 2, 3], recipe=Recipe(epochs=2))
        losses.append(found.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert not math.isnan(losses[0].sum())
