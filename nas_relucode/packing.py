"""From activations to packed bits: in tiles that fit the cache on the CPU, and on a GPU on the GPU."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nas_relucode.codes import WORD

TILE = 65_536  # numbers that are compared, checked and packed at a time: 256 KB of float32
LEVELS = {"paper": 0, "released_code": 1}  # a bit is 1 above 0, or from 1 on, which is int(activation) > 0


def neurons_shape(shape: tuple[int, ...], maps: str) -> tuple[int, ...]:
    """The shape of the bits of one sample, whose activation has ``shape``.

    >>> neurons_shape((64, 7, 7), "pooled"), neurons_shape((64, 7, 7), "channel"), neurons_shape((128,), "channel")
    ((64, 4, 4), (64,), (128,))
    """
    if len(shape) < 3 or maps == "pixel":
        return shape
    return shape[:1] if maps == "channel" else (*shape[:-2], -(-shape[-2] // 2), -(-shape[-1] // 2))


def row_bytes(shape: tuple[int, ...]) -> int:
    """The bytes of the bits of one sample: whole words."""
    return -(-math.prod(shape) // WORD) * WORD // 8


def pack_on_cpu(values: Tensor, room: np.ndarray, *, preset: str, maps: str, signed: bool) -> bool:
    """Writes the bits of ``values`` (samples, ...) into ``room``, uint8 (samples, bytes); whether all are finite.

    ``signed`` values may be negative. A whole layer is never copied, whatever the order in which it lies in memory.
    """
    plain = values.layout == torch.strided and values.dtype in (torch.float32, torch.float64)
    whole = values.numpy(force=True) if plain else None
    shape = neurons_shape(tuple(values.shape[1:]), maps)
    used = -(-math.prod(shape) // 8)
    step = max(1, TILE // max(1, math.prod(values.shape[1:])))
    tile = np.empty((min(step, len(values)), *values.shape[1:]), bool)
    for start in range(0, len(values), step):
        rows = slice(start, min(start + step, len(values)))
        # numpy has no bfloat16; float32 holds all of its numbers, and float16's
        part = whole[rows] if whole is not None else values[rows].to_dense().float().numpy(force=True)
        if part.size and not (part.max() < np.inf and (not signed or part.min() > -np.inf)):  # NaN is the maximum, too
            return False
        bits = tile[: len(part)]
        if preset == "paper":
            np.greater(part, 0, out=bits)
        else:
            np.greater_equal(part, 1, out=bits)
        if maps != "pixel":
            bits = _reduced(torch.from_numpy(bits), maps).numpy()
        room[rows, :used] = np.packbits(bits.reshape(len(part), -1), axis=1, bitorder="little")
    return True


def pack_on_device(values: Tensor, *, preset: str, maps: str) -> tuple[Tensor, Tensor]:
    """The same on the values' own device: uint8 (samples, bytes), and whether all are finite, both still there."""
    values = values.detach()
    bits = _reduced(values > 0 if preset == "paper" else values >= 1, maps)
    finite = torch.isfinite(values).all()
    return pack_bits(bits.flatten(1)), finite


def pack_bits(bits: Tensor) -> Tensor:
    """Bool (samples, neurons) as uint8 (samples, bytes), in little bit order and filled up to whole words with 0.

    >>> pack_bits(torch.tensor([[True, False, True]])).tolist()
    [[5, 0, 0, 0, 0, 0, 0, 0]]
    """
    filled = functional.pad(bits.to(torch.uint8), (0, -bits.shape[1] % WORD))
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=bits.device)
    return (filled.reshape(len(bits), -1, 8) * weights).sum(dim=2, dtype=torch.uint8)


def _reduced(bits: Tensor, maps: str) -> Tensor:
    """Bits of pixels (samples, channels, ..., height, width) as those of channels, or of 2 x 2 pixels."""
    if bits.ndim < 4 or maps == "pixel":
        return bits
    if maps == "channel":
        return bits.flatten(2).any(dim=2)
    rows = bits[..., ::2, :].clone()
    rows[..., : bits.shape[-2] // 2, :] |= bits[..., 1::2, :]
    pooled = rows[..., ::2].clone()
    pooled[..., : bits.shape[-1] // 2] |= rows[..., 1::2]
    return pooled
