"""Activations packed in tiles, and as a GPU packs them, against numpy's packbits of the same comparison."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from nas_relucode.codes import packing
from nas_relucode.codes.packing import Packer, pack_bits

SHAPES = [(1,), (63,), (64,), (65,), (1000,), (3, 5), (2, 3, 3), (4, 8, 8), (3, 5, 2), (2, 3, 4, 5), (0,)]


def random_values(shape, samples=9, dtype=torch.float32):
    values = torch.randn((samples, *shape), generator=torch.Generator().manual_seed(0))
    values[:, ...] = torch.where(values.abs() < 0.2, torch.zeros(()), values)
    return values.to(dtype)


def expected(values, preset="paper", maps="pixel"):
    """From torch's own comparison and pooling: uint8, (samples, whole words)."""
    values = values.double()
    bits = (values > 0 if preset == "paper" else values.int() > 0).double()
    if values.ndim > 3 and maps == "channel":
        bits = bits.flatten(2).amax(dim=2)
    elif values.ndim > 3 and maps == "pooled":
        bits = functional.max_pool2d(bits.flatten(1, -3), 2, ceil_mode=True)
    rows = np.packbits(bits.flatten(1).bool().numpy(), axis=1, bitorder="little")
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))


def packed(values, preset="paper", maps="pixel", signed=True):
    packer = Packer(tuple(values.shape[1:]), preset=preset, maps=maps, signed=signed)
    room = np.zeros((len(values), -(-int(np.prod(packer.neurons)) // 64) * 8), np.uint8)
    assert packer.on_cpu(values, room)
    bits, finite = packer.on_device(values)  # the CPU is a device, too
    assert finite
    assert np.array_equal(bits.numpy(), room)
    return room


@given(arrays.arrays(bool, st.tuples(st.integers(0, 9), st.sampled_from([1, 7, 8, 63, 64, 65, 1000]))))
def test_a_gpu_packs_as_numpy_does(bits):
    rows = np.packbits(bits, axis=1, bitorder="little")
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))
    assert np.array_equal(pack_bits(torch.from_numpy(bits)).numpy(), filled)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("preset", ["paper", "released_code"])
@pytest.mark.parametrize("maps", ["pixel", "channel", "pooled"])
def test_bits_are_those_of_torchs_comparison_and_pooling(shape, preset, maps):
    values = 2 * random_values(shape)
    assert np.array_equal(packed(values, preset, maps), expected(values, preset, maps))


@pytest.mark.parametrize("tile", [1, 50, 130, 1 << 20])
def test_bits_do_not_depend_on_the_tile(tile, monkeypatch):
    monkeypatch.setattr(packing, "TILE", tile)
    for shape in [(65,), (3, 5, 2)]:
        for maps in ("pixel", "channel", "pooled"):
            values = random_values(shape)
            assert np.array_equal(packed(values, maps=maps), expected(values, maps=maps))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_is_read(dtype):
    values = random_values((70,), dtype=dtype)
    values[0, :3] = torch.tensor([torch.finfo(dtype).smallest_normal, -0.0, 1.0], dtype=dtype)
    assert np.array_equal(packed(values), expected(values))
    assert np.array_equal(packed(values, "released_code"), expected(values, "released_code"))


@pytest.mark.parametrize("maps", ["pixel", "channel", "pooled"])
def test_neurons_are_ordered_alike_however_the_activation_lies_in_memory(maps):
    values = random_values((4, 6, 5))
    for other in (
        values.contiguous(memory_format=torch.channels_last),
        values.transpose(1, 3).contiguous().transpose(1, 3),
    ):
        assert np.array_equal(packed(other, maps=maps), packed(values, maps=maps))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("place", [0, 37, 8 * 70 - 1])
def test_values_that_are_not_finite_are_detected(bad, dtype, place, monkeypatch):
    monkeypatch.setattr(packing, "TILE", 140)
    values = random_values((70,), samples=8, dtype=dtype)
    values.view(-1)[place] = bad
    packer = Packer((70,), preset="paper", maps="pixel", signed=True)
    assert not packer.on_cpu(values, np.zeros((8, 16), np.uint8))
    assert not packer.on_device(values)[1]


def test_large_values_are_finite():
    values = torch.full((3, 70), torch.finfo(torch.float32).max)  # their sum is not
    assert packed(values).any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("maps", ["pixel", "channel", "pooled"])
def test_bits_packed_on_a_gpu_are_those_of_the_cpu(shape, maps):
    values = random_values(shape)
    bits, finite = Packer(shape, preset="paper", maps=maps, signed=True).on_device(values.cuda())
    assert bits.is_cuda
    assert bool(finite)
    assert np.array_equal(bits.cpu().numpy(), packed(values, maps=maps))
