"""Linear layers by oneDNN: the oracles are torch's own product in float64 and autograd."""

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nas_relucode.training import products
from nas_relucode.training.data import Split
from nas_relucode.training.loop import Epoch, Recipe, train
from nas_relucode.training.networks import build_autoencoder
from nas_relucode.training.products import quick_products

needs_product = pytest.mark.skipif(products._product() is None, reason="this torch has no such product")


@needs_product
@given(
    samples=st.integers(1, 40),
    inputs=st.integers(1, 40),
    outputs=st.integers(1, 40),
    bias=st.booleans(),
    by_inputs=st.booleans(),
    frozen=st.booleans(),
)
def test_products_and_their_gradients_are_torchs(samples, inputs, outputs, bias, by_inputs, frozen):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias=bias)
    layer.weight.requires_grad_(not frozen)
    values = torch.randn(samples, inputs, generator=generator).requires_grad_(by_inputs)
    slope = torch.randn(outputs, samples, generator=generator).t()  # not contiguous
    wanted = [value for value in (values, *layer.parameters()) if value.requires_grad]
    double = nn.Linear(inputs, outputs, bias=bias).double()
    double.load_state_dict(layer.state_dict())
    exact = values.detach().double().requires_grad_()
    expected = double(exact)
    found = products._Linear.apply(values, layer.weight, layer.bias)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    if not wanted:
        return
    gradients = torch.autograd.grad(found, wanted, slope)
    of = {id(values): exact} | {id(ours): theirs for ours, theirs in zip(
        layer.parameters(), double.parameters(), strict=True)}  # fmt: skip
    theirs = torch.autograd.grad(expected, [of[id(value)] for value in wanted], slope.double())
    for first, second in zip(gradients, theirs, strict=True):
        torch.testing.assert_close(first.double(), second, rtol=1e-4, atol=1e-4)


@needs_product
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [4, 160])
def test_a_product_of_two_matrices_is_torchs(size, dtype):
    left, right = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = left.double() @ right.double().t()
    torch.testing.assert_close(products.times(left, right).double(), expected, rtol=1e-4, atol=1e-4)
    turned = products.times(left.t(), right.t()).double()
    torch.testing.assert_close(turned, left.double().t() @ right.double(), rtol=1e-4, atol=1e-4)


@needs_product
def test_large_layers_of_float32_alone_are_taken(monkeypatch):
    network = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 2))
    assert isinstance(quick_products(network, 64), products._Products)
    assert isinstance(quick_products(network, 63), contextlib.nullcontext)
    assert isinstance(quick_products(network.double(), 64), contextlib.nullcontext)
    taken = []
    real = products._Linear.apply
    monkeypatch.setattr(products._Linear, "apply", lambda *args: taken.append(args[1].shape) or real(*args))
    network.float()
    with quick_products(network, 64):
        network(torch.zeros(64, 64))
        network(torch.zeros(63, 64))
    network(torch.zeros(64, 64))
    assert taken == [(512, 64)]


def test_a_torch_without_the_product_does_without(monkeypatch):
    monkeypatch.setattr(products, "_product", lambda: None)
    assert isinstance(quick_products(nn.Linear(512, 512), 512), contextlib.nullcontext)


@needs_product
@pytest.mark.parametrize("loss", ["sigmoid", "mse"])
def test_an_autoencoder_trains_alike_with_and_without(monkeypatch, loss):
    data = Split(torch.rand(600, 1, 28, 28, generator=torch.Generator().manual_seed(0)), None)
    losses = []
    for large in (products.LARGE, 2**60):
        monkeypatch.setattr(products, "LARGE", large)
        told: list[Epoch] = []
        network = build_autoencoder((1, 28, 28))
        recipe = Recipe(epochs=3, loss=loss, momentum=0.9)
        train(network, data, learning_rate=0.1, recipe=recipe, on_epoch=told.append)
        losses.append([epoch.loss for epoch in told[1:]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
