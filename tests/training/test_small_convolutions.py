"""Small convolutions by products: the oracles are torch's convolution, its autograd and loops over torch.optim.SGD."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas_relucode.training.data import Split
from nas_relucode.training.loop import Epoch, train
from nas_relucode.training.networks import build_network
from nas_relucode.training.perceptrons import dense_layers
from nas_relucode.training.products import LARGE
from nas_relucode.training.recipe import Recipe
from nas_relucode.training.small_convolutions import patches_of
from nas_relucode.training.together import train_together

RATES = [0.3, 0.1, 0.01]


def odd() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, (2, 3), stride=(1, 2), padding=(1, 0), bias=False),
        nn.Conv2d(3, 4, 2, dilation=(2, 1)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(40, 3),
    )


def kernels_last() -> nn.Module:
    return build_network("6", (2, 6, 7), 3, backbone="small_conv").to(memory_format=torch.channels_last)


def decoder() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 84), nn.Unflatten(1, (2, 6, 7)))


SHAPE = (2, 6, 7)
KINDS = {  # how to build it, the loss, whether it is written out
    "small_conv": (lambda: build_network("6-5", SHAPE, 3, backbone="small_conv"), "cross_entropy", True),
    "odd": (odd, "cross_entropy", True),
    "ends in ReLU": (lambda: nn.Sequential(nn.Conv2d(2, 3, (6, 7)), nn.ReLU(), nn.Flatten()), "cross_entropy", True),
    "kernels last": (kernels_last, "cross_entropy", True),
    "decoder": (decoder, "mse", True),
    "groups": (lambda: nn.Sequential(nn.Conv2d(2, 4, 6, groups=2), nn.Flatten(), nn.Linear(8, 3)), "cross_entropy",
               False),
    "same": (lambda: nn.Sequential(nn.Conv2d(2, 1, 3, padding="same"), nn.Flatten(), nn.Linear(42, 3)), "cross_entropy",
             False),
    "circular": (lambda: nn.Sequential(nn.Conv2d(2, 1, 3, padding=1, padding_mode="circular"), nn.Flatten(),
                                       nn.Linear(42, 3)), "cross_entropy", False),
    "images": (lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()), "mse", False),
}  # fmt: skip


def built(kind: str) -> list[nn.Module]:
    networks = []
    for number in range(3):
        network = KINDS[kind][0]().double()
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        networks.append(network)
    return networks


def samples(count: int = 22) -> Split:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)
    return Split(inputs, torch.randint(3, (count,), generator=generator))


def plain_loop(network: nn.Module, data: Split, rate: float, recipe: Recipe, seed: int) -> list[float]:
    """Trains in place; the mean loss of each epoch."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    losses = []
    for _ in range(recipe.epochs):
        total = 0.0
        for rows in torch.randperm(len(data), generator=generator).split(recipe.batch_size):
            inputs = data.inputs[rows]
            outputs = network(inputs)
            if recipe.loss == "mse":
                loss = functional.mse_loss(outputs, inputs)
            else:
                loss = functional.cross_entropy(outputs, data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        losses.append(total / len(data))
    return losses


def assert_alike(ours: nn.Module, theirs: nn.Module) -> None:
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("seeds", [[5, 5, 5], [5, 6, 7]], ids=["one order", "own orders"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_alone_and_together_are_trained_as_by_a_plain_loop(kind, channels_last, seeds):
    _, loss, read = KINDS[kind]
    data, alone = samples(), built(kind)
    together, plain = copy.deepcopy(alone), copy.deepcopy(alone)
    if channels_last:
        data = Split(data.inputs.contiguous(memory_format=torch.channels_last), data.labels)
    assert bool(dense_layers(alone[0], SHAPE, 8)) == read
    recipe = Recipe(epochs=3, batch_size=8, momentum=0.5, weight_decay=0.01, loss=loss)
    found = train_together(together, data, learning_rates=RATES, seeds=seeds, recipe=recipe)
    for place, (rate, seed) in enumerate(zip(RATES, seeds, strict=True)):
        expected = plain_loop(plain[place], data, rate, recipe, seed)
        told: list[Epoch] = []
        train(alone[place], data, learning_rate=rate, recipe=recipe, seed=seed, on_epoch=told.append)
        assert [epoch.loss for epoch in told[1:]] == pytest.approx(expected, rel=1e-9)
        assert found.losses[:, place] == pytest.approx(expected, rel=1e-9)
        assert_alike(alone[place], plain[place])
        assert_alike(together[place], plain[place])


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=pairs,
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    networks=st.integers(1, 2),
)
def test_patches_times_kernels_are_torchs_convolution(channels, size, kernel, stride, dilation, padding, networks):
    layer = nn.Conv2d(*channels, kernel, stride=stride, dilation=dilation, padding=padding, bias=False).double()
    shape = (channels[0], *size)
    read = patches_of(layer, shape, 5)
    fits = all(s + 2 * p > d * (k - 1) for s, p, d, k in zip(size, padding, dilation, kernel, strict=True))
    assert (read is not None) == fits
    if read is None:
        return
    patches, outputs = read
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(networks, 5, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    expected = torch.stack([layer(own) for own in images])
    assert expected.shape == (networks, 5, *outputs)
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    by_images, by_weight = torch.autograd.grad(expected, (images, layer.weight), slope)
    with torch.no_grad():
        matrix = layer.weight.flatten(1)
        gathered = patches.gather(images.flatten(2).transpose(1, 2))
        torch.testing.assert_close(gathered[0], patches.gather(images[0].flatten(1).t()), rtol=0, atol=0)
        found = (matrix @ gathered).view(networks, -1, 5).transpose(1, 2).view(expected.shape)
        torch.testing.assert_close(found, expected)
        turned = slope.flatten(2).transpose(1, 2).reshape(networks, channels[1], -1)
        torch.testing.assert_close((turned @ gathered.transpose(1, 2)).sum(dim=0).view(layer.weight.shape), by_weight)
        spread = patches.spread(matrix.t() @ turned)
        torch.testing.assert_close(spread.transpose(1, 2).view(images.shape), by_images)


def test_the_network_of_the_digits_study_is_written_out_and_learns_alike_in_float32():
    generator = torch.Generator().manual_seed(0)
    data = Split(torch.rand(200, 1, 8, 8, generator=generator), torch.randint(10, (200,), generator=generator))
    ours = build_network("64-32-16", (1, 8, 8), 10, backbone="small_conv")
    theirs = copy.deepcopy(ours)
    recipe = Recipe(epochs=3, batch_size=32, momentum=0.9)
    assert len(dense_layers(ours, (1, 8, 8), 32)) == 6
    told: list[Epoch] = []
    train(ours, data, learning_rate=0.05, recipe=recipe, seed=3, on_epoch=told.append)
    assert [epoch.loss for epoch in told[1:]] == pytest.approx(plain_loop(theirs, data, 0.05, recipe, 3), abs=1e-5)


def test_only_small_convolutions_on_a_processor_are_read():
    layer, shape = nn.Conv2d(4, 8, 3, padding=1), (4, 16, 16)
    each = 8 * 16 * 16 * 4 * 9  # multiplications of an image
    assert patches_of(layer, shape, (LARGE - 1) // each)
    assert patches_of(layer, shape, math.ceil(LARGE / each)) is None
    assert patches_of(layer, (3, 16, 16), 1) is None
    assert patches_of(layer, (4 * 16 * 16,), 1) is None
    assert patches_of(copy.deepcopy(layer).to("meta"), shape, 1) is None


def test_a_convolution_that_is_there_twice_is_not_read():
    layer = nn.Conv2d(2, 2, 3, padding=1)
    assert dense_layers(nn.Sequential(layer, nn.Flatten()), SHAPE, 8)
    assert dense_layers(nn.Sequential(layer, nn.ReLU(), layer, nn.Flatten()), SHAPE, 8) is None


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Conv2d(2, 3, 9), nn.Flatten()), nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(9, 3))],
)
def test_images_that_do_not_fit_are_refused_as_torch_does(network):
    data = samples()
    with pytest.raises(RuntimeError) as ours:
        train(network.double(), data, learning_rate=0.1, recipe=Recipe(epochs=1))
    with pytest.raises(RuntimeError) as theirs:
        network(data.inputs)
    assert str(ours.value) == str(theirs.value)
