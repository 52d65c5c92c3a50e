"""Loops over packed codes that run as machine code: bits counted, rows hashed, one code against a block of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

ALL = np.uint64(0xFFFFFFFFFFFFFFFF)  # a mask of all bits of a word
BLOCK = 512  # columns that `distances_to` is given at once: they and their distances stay in the first cache


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled, free of Python's lock, and kept on disk where there is a place for it."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to write to
        return njit(nogil=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """``function`` for use in compiled ones, into which it is copied: a call would count references to its arrays."""
    return njit(inline="always")(function)


@intrinsic
def popcount(context, word):  # type: ignore[no-untyped-def]
    """The bits set in a word, as one instruction that compilers can apply to many words at once."""
    return types.uint64(types.uint64), lambda _, builder, signature, arguments: builder.ctpop(arguments[0])


@inlined
def row_hash(rows, i, start, step, mask):  # type: ignore[no-untyped-def]  # pragma: no cover
    """64 bits that are the same for rows with the same bits of ``mask`` in their words start, start + step, ..."""
    total = np.uint64(0)
    factor = np.uint64(0x9E3779B97F4A7C15)
    word = start
    while word < rows.shape[1]:  # a range with a step would divide first
        x = rows[i, word] & mask
        total += (x ^ (x >> np.uint64(29))) * factor
        factor += np.uint64(0x3C6EF372FE94F82A)
        word += step
    total = (total ^ (total >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return total ^ (total >> np.uint64(32))


@compiled
def distances_to(row, columns, start, stop, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out[:stop - start] = the Hamming distances of a code to the codes start..stop, which lie in ``columns``.

    ``columns`` is uint64, (words, codes): a word of neighbouring codes lies side by side, so that compilers count
    the bits of eight of them at once. Four words go together to spare reads and writes of ``out``.
    """
    out[: stop - start] = 0
    words = row.shape[0]
    for word in range(0, words - words % 4, 4):
        p, q, r, s = row[word], row[word + 1], row[word + 2], row[word + 3]
        a, b = columns[word, start:stop], columns[word + 1, start:stop]
        c, d = columns[word + 2, start:stop], columns[word + 3, start:stop]
        for j in range(stop - start):
            out[j] += popcount(p ^ a[j]) + popcount(q ^ b[j]) + popcount(r ^ c[j]) + popcount(s ^ d[j])
    for word in range(words - words % 4, words):
        p = row[word]
        a = columns[word, start:stop]
        for j in range(stop - start):
            out[j] += popcount(p ^ a[j])
