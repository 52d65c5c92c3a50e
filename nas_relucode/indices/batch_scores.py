"""Scores of the codes of one batch, as published for networks at initialisation: NASWOT, SWAP and TE-NAS."""

from __future__ import annotations

import math

import numpy as np

from nas_relucode.cells.hamming import distance_matrix
from nas_relucode.cells.occupied import find_cells
from nas_relucode.codes.bits import Codes, Layer
from nas_relucode.codes.words import compiled
from nas_relucode.errors import InputError


def logdet_kernel(codes: Codes) -> float:
    """log |det K| with K_ij = neurons - d_H(i, j), the bits on which two samples agree: NASWOT's score.

    Between 0 and samples * ln(neurons): K is a Gram matrix of whole numbers with the number of neurons on its
    diagonal, so its determinant is a whole number, and by Hadamard at most neurons ** samples. NaN where K is
    singular, as with two equal codes, or more samples than neurons + 1. The time grows with samples ** 2 * neurons.

    Source: Mellor, Turner, Storkey, Crowley, "Neural Architecture Search without Training", ICML 2021: train mode, one
    batch of 128 images, all ReLUs.

    >>> from nas_relucode.codes import pack
    >>> round(math.exp(logdet_kernel(pack([[0, 0, 0], [0, 0, 1]]))), 9)  # 3 * 3 - 2 * 2
    5.0
    >>> logdet_kernel(pack([[0, 0, 1], [0, 0, 1]]))
    nan
    """
    _check(codes)
    kernel = (codes.neurons - distance_matrix(codes)).astype(np.float64)
    sign, value = np.linalg.slogdet(kernel)
    singular = sign <= 0 or np.linalg.matrix_rank(kernel, hermitian=True) < len(kernel)
    return math.nan if singular else max(0.0, float(value))


def distinct_patterns(codes: Codes) -> float:
    """Distinct columns of the samples x neurons bit matrix, sample-wise activation patterns: SWAP's score.

    Between 1 and min(neurons, 2 ** samples). Unlike the number of distinct codes it does not end at the number of
    samples: 16 samples distinguish up to 65,536 neurons.

    Source: Peng, Song, Fayek, Ciesielski, Chang, "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS", ICLR
    2024: one batch of 16 images, the ReLUs of convolution maps, mean over 32 initialisations.

    >>> from nas_relucode.codes import pack
    >>> distinct_patterns(pack([[0, 0, 1, 1], [0, 0, 1, 0]]))
    3.0
    """
    _check(codes)
    starts = np.array([layer.start for layer in codes.layers])
    neurons = np.array([layer.neurons for layer in codes.layers])
    columns = Codes(_columns(codes.words, starts, neurons), (Layer("samples", (codes.samples,), 0),))
    return float(len(find_cells(columns)))


def regularised_patterns(codes: Codes, parameters: int, *, mu: float, sigma: float) -> float:
    """`distinct_patterns` * exp(-(p - mu)^2 / sigma), p the network's parameters in thousands: regularised SWAP.

    Between 0 and `distinct_patterns`, which it equals at p = mu. ``mu`` is the wanted size of the network, in
    thousands of parameters; ``sigma``, in their square (it is not squared here), is how far from it a network may be:
    where (p - mu)^2 / sigma exceeds 745, the score is 0 in float64 and ranks no networks.

    Source: as `distinct_patterns`; the unit of a thousand parameters is that of the authors' code.

    >>> from nas_relucode.codes import pack
    >>> codes = pack([[0, 0, 1, 1], [0, 0, 1, 0]])
    >>> regularised_patterns(codes, 40_000, mu=40, sigma=40)
    3.0
    >>> regularised_patterns(codes, 42_000, mu=40, sigma=4) == 3 * math.exp(-1)
    True
    """
    if parameters < 0:
        raise InputError(f"there are {parameters} parameters. Give the number that the network has.")
    if not (math.isfinite(mu) and 0 < sigma < math.inf):
        raise InputError(
            f"mu is {mu} and sigma is {sigma}, but mu must be finite and sigma positive. Give the wanted size in "
            "thousands of parameters, and the width in its square."
        )
    return distinct_patterns(codes) * math.exp(-((parameters / 1000 - mu) ** 2) / sigma)


def distinct_codes(codes: Codes) -> float:
    """Distinct codes of the batch: TE-NAS' count of linear regions.

    Between 1 and min(samples, 2 ** neurons). A batch of images hardly ever has two equal codes under a network of
    some width, so for nearly all networks the score is the number of samples, and distinguishes none of them.

    Source: Chen, Gong, Wang, "Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically Inspired
    Perspective", ICLR 2021.

    >>> from nas_relucode.codes import pack
    >>> distinct_codes(pack([[0, 1], [1, 1], [0, 1]]))
    2.0
    """
    _check(codes)
    return float(len(find_cells(codes)))


def _check(codes: Codes) -> None:
    if codes.samples == 0 or codes.neurons == 0:
        raise InputError(
            f"there are {codes.samples} codes of {codes.neurons} neurons. Give the codes of one batch, of at least one."
        )


@compiled
def _columns(words, starts, neurons):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The bit matrix transposed, without the bits that fill a layer's last word: uint64, (neurons, samples / 64)."""
    groups = (len(words) + 63) // 64
    columns = np.empty((neurons.sum(), groups), np.uint64)
    block = np.empty(64, np.uint64)  # 64 samples x 64 neurons
    done = 0
    for layer in range(len(starts)):
        for word in range((neurons[layer] + 63) // 64):
            used = min(64, neurons[layer] - 64 * word)
            for group in range(groups):
                rows = min(64, len(words) - 64 * group)
                for i in range(rows):
                    block[i] = words[64 * group + i, starts[layer] + word]
                block[rows:] = 0
                # Swap the two off-diagonal quarters, then those of each quarter, down to single bits.
                size, mask = 32, np.uint64(0xFFFFFFFF)
                while size > 0:
                    shift = np.uint64(size)
                    for i in range(64):
                        if i & size == 0:
                            swap = ((block[i] >> shift) ^ block[i + size]) & mask
                            block[i] ^= swap << shift
                            block[i + size] ^= swap
                    size >>= 1
                    mask ^= mask << np.uint64(size)
                for k in range(used):
                    columns[done + k, group] = block[k]
            done += used
    return columns
