"""Activations to bits: each number is compared, packed into 64-bit words and checked for NaN in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor
from torch.nn import functional

from nas_relucode.codes.bits import WORD
from nas_relucode.codes.words import ALL, compiled


@intrinsic
def compare_64(context, numbers, start, level):  # type: ignore[no-untyped-def]
    """Two words of bits for numbers[start : start + 64]: which are above ``level``, and which are finite."""

    def code(machine, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array = machine.make_array(numbers)(machine, builder, arguments[0])
        lane = arguments[2].type
        vector, word = ir.VectorType(lane, 64), ir.IntType(64)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        loaded = builder.load(place, align=numbers.dtype.bitwidth // 8)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        levels = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), everywhere)
        above = builder.fcmp_ordered(">", loaded, levels)
        nothing = builder.fsub(loaded, loaded)  # NaN for a number that is not finite
        finite = builder.fcmp_ordered("==", nothing, nothing)
        words = [builder.bitcast(above, word), builder.bitcast(finite, word)]
        return machine.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(numbers, types.intp, numbers.dtype), code


@compiled
def pack_above(values: Any, level: Any, words: Any) -> bool:  # pragma: no cover
    """Sets ``words``, uint64 (samples, words), to the bits of values > level; returns whether all values are finite.

    ``values`` is float32 or float64, (samples, numbers), contiguous, and ``level`` of the same type.
    """
    samples, width = values.shape
    flat = values.reshape(samples * width)
    whole = width // 64
    finite = ALL
    for i in range(samples):
        for j in range(whole):
            word, good = compare_64(flat, i * width + j * 64, level)
            words[i, j] = word
            finite &= good
        if whole * 64 < width:
            word = np.uint64(0)
            for k in range(whole * 64, width):
                x = flat[i * width + k]
                word |= np.uint64(1 if x > level else 0) << np.uint64(k - whole * 64)
                finite &= ALL if abs(x) < np.inf else np.uint64(0)
            words[i, whole] = word
    return bool(finite == ALL)


TILE = 131_072  # numbers that are compared, checked and packed at a time: 512 KB of float32


def neurons_shape(shape: tuple[int, ...], maps: str) -> tuple[int, ...]:
    """The shape of the bits of one sample, whose activation has ``shape``.

    >>> neurons_shape((64, 7, 7), "pooled"), neurons_shape((64, 7, 7), "channel"), neurons_shape((128,), "channel")
    ((64, 4, 4), (64,), (128,))
    """
    if len(shape) < 3 or maps == "pixel":
        return shape
    return shape[:1] if maps == "channel" else (*shape[:-2], -(-shape[-2] // 2), -(-shape[-1] // 2))


class Packer:
    """Packs the activations of one layer, each sample's of ``shape``; ``signed`` if they may be negative."""

    def __init__(self, shape: tuple[int, ...], *, preset: str, maps: str, signed: bool) -> None:
        self.preset = preset
        self.maps = maps if len(shape) > 2 else "pixel"
        self.signed = signed
        self.neurons = neurons_shape(shape, maps)
        self.used = -(-math.prod(self.neurons) // 8)  # bytes of a row that are written
        self.step = max(1, TILE // max(1, math.prod(shape)))  # samples in a tile
        self.tile = np.empty((0, *shape), bool)

    def on_cpu(self, values: Tensor, room: np.ndarray) -> bool:
        """Writes the bits of ``values`` into ``room``, uint8 (samples, bytes); returns whether the values are finite.

        A whole layer is never copied, whatever its order in memory.
        """
        plain = values.dtype in _NUMPY and values.layout == torch.strided
        whole = values.numpy(force=True) if plain else None
        if whole is not None and whole.flags.c_contiguous and self.maps == "pixel":
            one = whole.dtype.type(1)
            level = one - one if self.preset == "paper" else np.nextafter(one, one - one)  # the number before 1
            return bool(pack_above(whole.reshape(len(whole), -1), level, room.view(np.uint64)))
        return self._in_tiles(values, whole, room)

    def _in_tiles(self, values: Tensor, whole: np.ndarray | None, room: np.ndarray) -> bool:
        step, samples = self.step, len(values)
        compare, level = (np.greater, 0) if self.preset == "paper" else (np.greater_equal, 1)
        if len(self.tile) < min(step, samples):
            self.tile = np.empty((min(step, samples), *self.tile.shape[1:]), bool)
        for start in range(0, samples, step):
            part = _float32(values[start : start + step]) if whole is None else whole[start : start + step]
            if part.size:
                largest = np.maximum.reduce(part, axis=None)  # NaN, if there is one
                if not (largest < np.inf and (not self.signed or np.minimum.reduce(part, axis=None) > -np.inf)):
                    return False
            bits = self.tile[: len(part)]
            if part.flags.c_contiguous:
                compare(part, level, out=bits)
            else:  # compared in memory order, then transposed: bits are transposed faster than numbers
                order = np.argsort([-stride for stride in part.strides])
                bits.transpose(order)[...] = compare(part.transpose(order), level)
            if self.maps != "pixel":
                bits = _reduced(torch.from_numpy(bits), self.maps).numpy()
            flat = bits.reshape(len(part), -1)
            room[start : start + step, : self.used] = np.packbits(flat, axis=1, bitorder="little")
        return True

    def on_device(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The bits, uint8 (samples, bytes), and whether all values are finite, both on the values' own device."""
        values = values.detach()
        bits = _reduced(values > 0 if self.preset == "paper" else values >= 1, self.maps)
        return pack_bits(bits.flatten(1)), torch.isfinite(values).all()


_NUMPY = {torch.float32, torch.float64}


def _float32(values: Tensor) -> np.ndarray:
    """Values that numpy cannot read: 16-bit numbers and oneDNN's memory layouts; float32 holds them exactly."""
    return np.asarray(values.to_dense().float().numpy(force=True))


def pack_bits(bits: Tensor) -> Tensor:
    """Bool (samples, neurons) as uint8 (samples, bytes), in little bit order, padded with 0 to whole words.

    >>> pack_bits(torch.tensor([[True, False, True]])).tolist()
    [[5, 0, 0, 0, 0, 0, 0, 0]]
    """
    filled = functional.pad(bits.to(torch.uint8), (0, -bits.shape[1] % WORD))
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    return (filled.reshape(len(bits), filled.shape[1] // 8, 8) * weights).sum(dim=2, dtype=torch.uint8)


def _reduced(bits: Tensor, maps: str) -> Tensor:
    """Bits of pixels, (samples, channels, ..., height, width), as bits of channels or of 2 x 2 pixels."""
    if maps == "pixel":
        return bits
    if maps == "channel":
        return bits.flatten(2).view(torch.uint8).amax(dim=2).view(torch.bool)  # 40 times as fast as any() on a CPU
    rows = bits[..., ::2, :].clone()
    rows[..., : bits.shape[-2] // 2, :] |= bits[..., 1::2, :]
    pooled = rows[..., ::2].clone()
    pooled[..., : bits.shape[-1] // 2] |= rows[..., 1::2]
    return pooled
