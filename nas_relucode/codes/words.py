"""Compiled loops over packed codes: counting bits, hashing rows, distances of one code to a block of codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)  # a mask of all bits of a word
BLOCK = 512  # codes that `distances_to` compares at once: they and their distances fit into the first-level cache
GLANCE = 32  # distances that are looked through with `any_below` before each is compared


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled by numba, without the interpreter lock, and cached on disk where that is possible."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written
        return njit(nogil=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """``function`` for use in compiled ones, copied into each of them: a call would count references to its arrays."""
    return njit(inline="always")(function)


@intrinsic
def popcount(context, word):  # type: ignore[no-untyped-def]
    """The number of bits set in a word, as one instruction, which the compiler can vectorise."""
    return types.uint64(types.uint64), lambda _, builder, signature, arguments: builder.ctpop(arguments[0])


@inlined
def row_hash(rows, i, start, step, mask):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A 64-bit hash of row i: of the bits of ``mask`` in its words start, start + step, ..."""
    total = np.uint64(0)
    factor = np.uint64(0x9E3779B97F4A7C15)
    word = start
    while word < rows.shape[1]:  # not a range, whose step would cost a division
        x = rows[i, word] & mask
        total += (x ^ (x >> np.uint64(29))) * factor
        factor += np.uint64(0x3C6EF372FE94F82A)
        word += step
    total = (total ^ (total >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return total ^ (total >> np.uint64(32))


@compiled
def distances_to(row, columns, start, stop, distances):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes the Hamming distances of code ``row`` to the codes start..stop of ``columns`` to distances[:stop - start].

    ``columns`` is uint64, (words, codes): the same word of consecutive codes is contiguous, so that the compiler counts
    the bits of eight codes at once. Four words are added at a time to save reads and writes of ``distances``.
    """
    distances[: stop - start] = 0
    words = row.shape[0]
    for word in range(0, words - words % 4, 4):
        p, q, r, s = row[word], row[word + 1], row[word + 2], row[word + 3]
        a, b = columns[word, start:stop], columns[word + 1, start:stop]
        c, d = columns[word + 2, start:stop], columns[word + 3, start:stop]
        for j in range(stop - start):
            distances[j] += popcount(p ^ a[j]) + popcount(q ^ b[j]) + popcount(r ^ c[j]) + popcount(s ^ d[j])
    for word in range(words - words % 4, words):
        p = row[word]
        a = columns[word, start:stop]
        for j in range(stop - start):
            distances[j] += popcount(p ^ a[j])


@inlined
def any_below(distances, start, stop, limit):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether one of distances[start:stop] is below ``limit``: counted without a branch, as it is rarely so."""
    count = np.int64(0)
    for j in range(start, stop):
        count += np.int64(distances[j] < limit)
    return count > 0


@compiled
def doubled(pairs):  # type: ignore[no-untyped-def]  # pragma: no cover
    """``pairs`` (3, pairs) copied to an array of twice as many columns."""
    larger = np.empty((3, 2 * pairs.shape[1]), np.int64)
    larger[:, : pairs.shape[1]] = pairs
    return larger
