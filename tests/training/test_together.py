"""Training alone and together: the oracle is a plain loop over torch.optim.SGD and torch's own losses."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.training.data import Split, load_data
from nas_relucode.training.loop import Epoch, Recipe, train
from nas_relucode.training.networks import build_autoencoder, build_network
from nas_relucode.training.together import train_together

RATES = [0.3, 0.1, 0.01]


class Curved(nn.Module):
    """Not a Sequential, without ReLU, and with a layer that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.second = nn.Linear(4, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(inputs)))


def head() -> nn.Module:
    return build_network("6-5", (1, 4, 2), 3, backbone="none")


def autoencoder() -> nn.Module:
    return build_autoencoder((1, 3, 2), head="4-3", decoder="5")


def no_bias() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))


def normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))


def odd_convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=(1, 0), bias=False),
        nn.Conv2d(3, 4, 2, dilation=(2, 1)),
        nn.ReLU(),
        nn.Conv2d(4, 4, 1, groups=2, padding="same"),
        nn.Flatten(),
        nn.Linear(40, 3),
    )


def frozen_first() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    return network


def twice() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied(*names: str) -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    for name in names:
        setattr(network[2], name, getattr(network[0], name))
    return network


def with_gaps() -> nn.Module:
    """Its weights are every other number of a tensor, which torch's fused optimizer would write wrongly."""
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].weight = nn.Parameter(torch.zeros(4, 6)[:, ::2])
    return network


NETWORKS = {  # how to build it, the shape of an input, the classes, the loss
    "head": (head, (1, 4, 2), 3, "cross_entropy"),
    "no bias": (no_bias, (3,), 2, "cross_entropy"),
    "one layer": (lambda: nn.Sequential(nn.Linear(3, 2)), (3,), 2, "cross_entropy"),
    "sigmoid": (autoencoder, (1, 3, 2), 0, "sigmoid"),
    "squares": (autoencoder, (1, 3, 2), 0, "mse"),
    "images": (lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()), (2, 4, 3), 0, "mse"),
    "convolutions": (lambda: build_network("6", (1, 8, 8), 3, backbone="small_conv"), (1, 8, 8), 3, "cross_entropy"),
    "odd convolutions": (odd_convolutions, (2, 6, 7), 3, "cross_entropy"),
    "batch norm": (normed, (1, 8, 8), 3, "cross_entropy"),
    "curved": (Curved, (3,), 2, "cross_entropy"),
    "frozen": (frozen_first, (3,), 2, "cross_entropy"),
    "one layer twice": (twice, (3,), 3, "cross_entropy"),
    "tied weights": (lambda: tied("weight", "bias"), (3,), 3, "cross_entropy"),
    "tied biases": (lambda: tied("bias"), (3,), 3, "cross_entropy"),
    "weights with gaps": (with_gaps, (3,), 2, "cross_entropy"),
}


def built(name: str, count: int = 3, dtype: torch.dtype = torch.float64) -> list[nn.Module]:
    networks = []
    for number in range(count):
        with torch.random.fork_rng(devices=[]):
            network = NETWORKS[name][0]().to(dtype)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        networks.append(network)
    return networks


def samples(name: str, count: int = 22, dtype: torch.dtype = torch.float64) -> Split:
    generator = torch.Generator().manual_seed(0)
    _, shape, classes, _ = NETWORKS[name]
    inputs = torch.rand(count, *shape, generator=generator, dtype=torch.float64).to(dtype)
    return Split(inputs, torch.randint(classes, (count,), generator=generator) if classes else None)


def plain_loop(network: nn.Module, data: Split, rate: float, recipe: Recipe, seed: int) -> list[float]:
    """Trains in number as one writes it; the mean loss of each epoch."""
    loss_of = {
        "cross_entropy": functional.cross_entropy,
        "sigmoid": functional.binary_cross_entropy_with_logits,
        "mse": functional.mse_loss,
    }[recipe.loss]
    generator = torch.Generator().manual_seed(seed)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        weights, lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay, foreach=False
    )
    schedule = None
    if recipe.schedule == "cosine":
        steps = recipe.epochs * math.ceil(len(data) / recipe.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    network.train()
    losses = []
    for _ in range(recipe.epochs):
        total = 0.0
        for rows in torch.randperm(len(data), generator=generator).split(recipe.batch_size):
            targets = data.inputs if data.labels is None else data.labels
            loss = loss_of(network(data.inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule:
                schedule.step()
            total += loss.item() * len(rows)
        losses.append(total / len(data))
    return losses


def losses_alone(network: nn.Module, data: Split, rate: float, recipe: Recipe, seed: int) -> list[float]:
    """The losses of `train`, which trains in number."""
    epochs: list[Epoch] = []
    train(network, data, learning_rate=rate, recipe=recipe, seed=seed, on_epoch=epochs.append)
    return [epoch.loss for epoch in epochs[1:]]


def one_by_one(networks, data, recipe, seeds) -> np.ndarray:
    """The losses (epochs, networks) of `train`, one network after the other."""
    runs = zip(networks, RATES, seeds, strict=True)
    return np.array([losses_alone(network, data, rate, recipe, seed) for network, rate, seed in runs]).T


def assert_alike(first: nn.Module, second: nn.Module, tolerance: float) -> None:
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


STEPS = [{}, {"momentum": 0.5, "weight_decay": 0.01, "schedule": "cosine"}]


@pytest.mark.parametrize("steps", STEPS, ids=["plain steps", "all options"])
@pytest.mark.parametrize("seeds", [[5, 5, 5], [5, 6, 7]], ids=["one order", "own orders"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_trained_alone_and_together_are_those_of_a_plain_loop(name, seeds, steps):
    data, plain = samples(name), built(name)
    alone, together = built(name), built(name)
    recipe = Recipe(epochs=3, batch_size=8, loss=NETWORKS[name][3], **steps)
    result = train_together(together, data, learning_rates=RATES, seeds=seeds, recipe=recipe)
    assert result.diverged == (None, None, None)
    for number, (rate, seed) in enumerate(zip(RATES, seeds, strict=True)):
        expected = plain_loop(plain[number], data, rate, recipe, seed)
        assert losses_alone(alone[number], data, rate, recipe, seed) == pytest.approx(expected, rel=1e-9)
        assert result.losses[:, number] == pytest.approx(expected, rel=1e-9)
        for ours in (alone[number], together[number]):
            assert_alike(plain[number], ours, 1e-9)
            assert ours.training
            assert all(parameter.grad is None for parameter in ours.parameters())


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_memory_layout_of_images_and_kernels_changes_nothing(channels_last):
    data, plain, recipe = (
        samples("convolutions"),
        built("convolutions")[0],
        Recipe(epochs=3, batch_size=8, momentum=0.9),
    )
    data = Split(data.inputs.contiguous(memory_format=torch.channels_last), data.labels)
    ours = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    expected = plain_loop(plain, data, 0.1, recipe, seed=1)
    recipe = dataclasses.replace(recipe, channels_last=channels_last)
    assert losses_alone(ours, data, 0.1, recipe, seed=1) == pytest.approx(expected, rel=1e-9)
    assert_alike(plain, ours, 1e-9)


def test_the_network_of_the_digits_study_learns_as_in_a_plain_loop_in_float32():
    data = load_data("digits", train_samples=200).train
    ours = build_network("64-32-16", (1, 8, 8), 10, backbone="small_conv")
    plain, recipe = copy.deepcopy(ours), Recipe(epochs=3, batch_size=32, momentum=0.9)
    expected = plain_loop(plain, data, 0.05, recipe, seed=3)
    assert losses_alone(ours, data, 0.05, recipe, seed=3) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_in_float32_the_losses_agree_to_four_digits(momentum):
    data = load_data("digits").train
    networks = [build_network("32-16", (1, 8, 8), 10, backbone="none", seed=seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=3, batch_size=64, momentum=momentum)
    result = train_together(networks, data, learning_rates=RATES, seeds=[1, 1, 1], recipe=recipe)
    np.testing.assert_allclose(result.losses, one_by_one(alone, data, recipe, [1, 1, 1]), atol=1e-4)


@pytest.mark.parametrize("name", ["head", "batch norm"])
def test_the_callback_sees_the_current_weights(name):
    data, networks, alone = samples(name), built(name), built(name)
    recipe = Recipe(epochs=2, batch_size=8)
    path: list[list[dict]] = []
    expected: list[list[dict]] = []
    reports: list[tuple[int, np.ndarray]] = []

    def look(number: int, losses: np.ndarray) -> None:
        reports.append((number, losses))
        path.append([copy.deepcopy(network.state_dict()) for network in networks])

    train_together(networks, data, learning_rates=RATES, seeds=[1, 2, 3], recipe=recipe, on_epoch=look)
    for network, rate, seed in zip(alone, RATES, [1, 2, 3], strict=True):
        states: list[dict] = []
        keep = lambda epoch: states.append(copy.deepcopy(network.state_dict()))  # noqa: B023, E731
        train(network, data, learning_rate=rate, recipe=recipe, seed=seed, on_epoch=keep)
        expected.append(states)
    assert [number for number, _ in reports] == [0, 1, 2]
    assert np.isnan(reports[0][1]).all()
    for epoch in range(3):
        for place in range(3):
            for key, value in expected[place][epoch].items():
                torch.testing.assert_close(path[epoch][place][key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["head", "convolutions"])
@pytest.mark.parametrize("seeds", [[1, 1, 1], [1, 2, 3]])
def test_a_network_that_diverges_does_not_disturb_the_others(name, seeds):
    data, networks = samples(name), built(name)
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=3, batch_size=8)
    rates = [0.1, 1e300, 0.01]
    result = train_together(networks, data, learning_rates=rates, seeds=seeds, recipe=recipe)
    assert result.diverged[0] is result.diverged[2] is None
    with pytest.raises(NonFiniteError, match=f"in epoch {result.diverged[1]} "):
        train(alone[1], data, learning_rate=1e300, recipe=recipe, seed=seeds[1])
    at = result.diverged[1] - 1
    assert np.isfinite(result.losses[:at]).all()
    assert np.isnan(result.losses[at:, 1]).all()
    for number in (0, 2):
        expected = losses_alone(alone[number], data, rates[number], recipe, seeds[number])
        np.testing.assert_allclose(result.losses[:, number], expected, rtol=1e-9)
        assert_alike(alone[number], networks[number], 1e-9)


def test_mixed_precision_trains_alike():
    data = load_data("digits").train
    networks = [build_network("16", (1, 8, 8), 10, backbone="none", seed=seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=1, batch_size=64, mixed_precision=True)
    result = train_together(networks, data, learning_rates=RATES, seeds=[1, 1, 1], recipe=recipe)
    np.testing.assert_allclose(result.losses, one_by_one(alone, data, recipe, [1, 1, 1]), rtol=0.01)
    assert {parameter.dtype for network in networks for parameter in network.parameters()} == {torch.float32}


def test_no_epochs_leave_the_networks_as_they_were():
    networks = built("head")
    before = copy.deepcopy(networks)
    result = train_together(networks, samples("head"), learning_rates=RATES, seeds=[1, 1, 1], recipe=Recipe(epochs=0))
    assert result.losses.shape == (0, 3)
    for first, second in zip(before, networks, strict=True):
        assert_alike(first, second, 0)


def test_hooks_are_called():
    networks, called = built("head"), []
    networks[0].head[0].register_forward_hook(lambda *_: called.append(1))
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


@pytest.mark.slow
def test_compiled_networks_train_alike():
    data = load_data("digits", train_samples=256).train
    networks = [build_network("16", (1, 8, 8), 10, backbone="none", seed=seed) for seed in range(3)]
    alone = copy.deepcopy(networks)
    recipe = Recipe(epochs=2, batch_size=128, compile=True)
    result = train_together(networks, data, learning_rates=RATES, seeds=[1, 1, 1], recipe=recipe)
    expected = one_by_one(alone, data, Recipe(epochs=2, batch_size=128), [1, 1, 1])
    np.testing.assert_allclose(result.losses, expected, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", [False, "reduce-overhead"])
def test_the_gpu_trains_them_like_the_cpu(compile):
    losses = []
    for device in ("cpu", "cuda"):
        data, recipe = samples("head"), Recipe(epochs=2, compile=device == "cuda" and compile)
        data = Split(data.inputs.to(device), data.labels.to(device))
        networks = [network.to(device) for network in built("head")]
        result = train_together(networks, data, learning_rates=RATES, seeds=[1, 2, 3], recipe=recipe)
        losses.append(result.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert not math.isnan(losses[0].sum())
