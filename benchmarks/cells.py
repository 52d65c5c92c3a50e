"""Distinct codes with the cell of each sample and the sizes, exactly: ours against np.unique in four ways."""

from __future__ import annotations

import measure

# isort: split
from collections.abc import Callable
from typing import Any

import numpy as np
from codes_to_measure import samples
from measure import Claim, Way

import nas_relucode as rc

WORK = "distinct codes with inverse and counts, {cells} x 512"
CLAIMS = {
    "bool": Claim(WORK, "np.unique(bool, axis=0)", 300, 60_000, 20_000, 300),
    "bytes": Claim(WORK, "np.unique(packed bytes, axis=0)", 15, 60_000, 20_000, 15),
    "words": Claim(WORK, "np.unique(packed words, axis=0)", None, 60_000, 20_000, None),
    "void": Claim(WORK, "np.unique on a void view of packed rows", 4, 60_000, 20_000, 4),
}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    codes = samples(bench.cells("bool"), "256-256", bench.data_root)
    words = codes.words
    bits, rows = codes.bits(), words.view(np.dtype((np.void, words.itemsize * words.shape[1])))[:, 0]
    ours = Way(lambda: rc.cells.find_cells(codes), lambda cells: in_order(cells.cell_of, cells.sizes))
    peers = {
        "bool": unique(bits, axis=0),
        "bytes": unique(words.view(np.uint8), axis=0),
        "words": unique(words, axis=0),
        "void": unique(rows),
    }
    bench.race(ours, {name: Way(run, lambda result: in_order(result[1], result[2])) for name, run in peers.items()})
    bench.finish()


def unique(rows: np.ndarray, axis: int | None = None) -> Callable[[], Any]:
    return lambda: np.unique(rows, axis=axis, return_inverse=True, return_counts=True)


def in_order(cell_of: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells numbered by their first samples."""
    _, first, cell_of = np.unique(cell_of.reshape(-1), return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[cell_of], sizes[order]


if __name__ == "__main__":
    main()
