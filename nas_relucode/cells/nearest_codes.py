"""The nearest codes of each code under the Hamming distance, exactly: the graph that embeddings are made of."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from nas_relucode.codes.codes import Codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to
from nas_relucode.errors import InputError

TILE = 16  # rows that share the columns of a block while they are in the cache
FAR = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class Nearest:
    """The nearest other rows of each row of some codes, ordered by distance and then by row."""

    rows: np.ndarray  # int64, (samples, k)
    distances: np.ndarray  # int64, (samples, k): Hamming distances, not truncated

    def __len__(self) -> int:
        return len(self.rows)


def nearest(codes: Codes, k: int, *, threads: int | None = None) -> Nearest:
    """The ``k`` nearest other rows of each row, exactly; of rows at one distance the first ones.

    Rows with equal codes are neighbours at distance 0. Time grows with the square of the rows, memory with rows x k.
    ``threads`` (None: torch's) do not change what is found. Raises InputError unless there are more than k rows.

    >>> from nas_relucode import pack
    >>> found = nearest(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]), 2)
    >>> found.rows.tolist(), found.distances.tolist()
    ([[1, 2], [0, 2], [1, 0]], [[1, 3], [1, 2], [2, 3]])
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k < codes.samples:
        raise InputError(
            f"k {k!r} neighbours were asked for among {codes.samples} codes. "
            "Give a whole number of at least 1 and below the number of codes."
        )
    rows = np.ascontiguousarray(codes.words)
    columns = np.ascontiguousarray(rows.T)
    keys = np.empty((len(rows), int(k)), np.uint64)
    threads = threads or torch.get_num_threads()
    starts = np.linspace(0, len(rows), min(len(rows), 8 * threads) + 1).astype(int)

    def search(start: int, stop: int) -> None:
        _search(rows, columns, start, stop, keys)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(search, starts[:-1], starts[1:]))
    return Nearest((keys & np.uint64(0xFFFFFFFF)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int64))


@compiled
def _search(rows, columns, begin, end, keys):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fills keys[begin:end] with the least keys of each row, growing: a distance and, below it, the row it is to."""
    n, k = rows.shape[0], keys.shape[1]
    out = np.empty(BLOCK, np.uint64)
    keys[begin:end] = FAR
    for top in range(begin, end, TILE):
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            for i in range(top, min(end, top + TILE)):
                distances_to(rows[i], columns, start, stop, out)
                if start <= i < stop:
                    out[i - start] = FAR  # not a neighbour of itself
                best = keys[i]
                far = best[k - 1] >> np.uint64(32)  # later rows at this distance do not count
                for first in range(0, stop - start, 32):  # most of these hold no neighbour, and are left after one look
                    last = min(first + 32, stop - start)
                    near = np.int64(0)
                    for j in range(first, last):
                        near += np.int64(out[j] < far)
                    for j in range(first if near else last, last):
                        if out[j] < far:
                            key = (out[j] << np.uint64(32)) | np.uint64(start + j)
                            place = k - 1
                            while place > 0 and best[place - 1] > key:
                                best[place] = best[place - 1]
                                place -= 1
                            best[place] = key
                            far = best[k - 1] >> np.uint64(32)
