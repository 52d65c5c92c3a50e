"""Codes: one bit for each ReLU neuron and input, 1 where the activation is positive (Definition 1, Equation 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas_relucode.codes.batches import as_array
from nas_relucode.errors import InputError, a_type, unknown

WORD = 64  # bits


@dataclass(frozen=True)
class Layer:
    """One ReLU call of a network's forward pass."""

    name: str  # the module that called ReLU, as in named_modules(); "#2" is appended for its second call
    shape: tuple[int, ...]  # of the activation of one sample
    start: int  # the layer's first column in Codes.words
    activation: str = "relu"  # or "leaky_relu", ...; smooth ones ("gelu") only on request

    @property
    def neurons(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        return self.start + -(-self.neurons // WORD)


@dataclass(frozen=True, eq=False)
class Codes:
    """The bit-packed codes of a sample: each layer starts at a new word, and unused bits of its last word are 0.

    Distances between rows, and their equality, are therefore those of the codes, for one layer and for all together.
    """

    words: np.ndarray  # uint64, (samples, words)
    layers: tuple[Layer, ...]  # in the order of the forward pass

    def __repr__(self) -> str:
        layers = ", ".join(f"{layer.name} ({layer.neurons})" for layer in self.layers)
        return f"Codes: {self.samples} samples, {self.neurons} neurons\n  layers: {layers}"

    @property
    def samples(self) -> int:
        return len(self.words)

    @property
    def neurons(self) -> int:
        return sum(layer.neurons for layer in self.layers)

    @property
    def columns(self) -> np.ndarray:
        """The positions of the neurons among the bits of a row: int64, (neurons,)."""
        return np.concatenate([np.arange(layer.neurons) + layer.start * WORD for layer in self.layers])

    def __getitem__(self, rows: Any) -> Codes:
        """The codes of some samples; ``rows`` is a slice, a mask, an array of row numbers or one of them."""
        chosen: Any = [rows] if isinstance(rows, int | np.integer) else rows
        return replace(self, words=self.words[chosen])

    def layer(self, name: str) -> Codes:
        """The codes of one layer.

        ``name`` is one of the names in ``layers``.
        """
        for layer in self.layers:
            if layer.name == name:
                words = np.ascontiguousarray(self.words[:, layer.start : layer.stop])
                return Codes(words, (replace(layer, start=0),))
        raise unknown("layer", name, [layer.name for layer in self.layers])

    def bits(self) -> np.ndarray:
        """The codes unpacked: bool, (samples, neurons).

        >>> pack([[1, 0, 1], [0, 0, 1]]).bits().astype(int)
        array([[1, 0, 1],
               [0, 0, 1]])
        """
        return np.unpackbits(self.words.view(np.uint8), axis=1, bitorder="little").view(bool)[:, self.columns]


def check_codes(codes: object) -> None:
    """Raises InputError for something else than codes."""
    if not isinstance(codes, Codes):
        raise InputError(
            f"the codes are {a_type(codes)}. Give Codes: those of capture(network, inputs), of pack(bits), or the "
            ".codes of cells or of a code space."
        )


def pack(bits: Any, name: str = "layer") -> Codes:
    """Codes of a layer called ``name`` from ``bits``, a 0/1 matrix of shape (samples, neurons)."""
    try:
        array = as_array(bits).astype(bool)
    except (TypeError, ValueError) as error:
        raise InputError(f"bits are {a_type(bits)}, and no matrix. Give one, (samples, neurons).") from error
    if array.ndim != 2:
        raise InputError(f"bits have the shape {array.shape}. Give a matrix, (samples, neurons).")
    layer = Layer(name, (array.shape[1],), 0)
    words = np.zeros((len(array), layer.stop * WORD // 8), np.uint8)
    words[:, : -(-array.shape[1] // 8)] = np.packbits(array, axis=1, bitorder="little")
    return Codes(words.view(np.uint64), (layer,))
