"""Calls in a process of their own: time and peak memory, which can't be told apart where others ran before.

Used by tree.py and curve.py: ``python benchmarks/alone.py cells,tree 60000 60000 256-256 DATA_ROOT`` prints JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from codes_to_measure import distinct_cells
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import nas_relucode as rc
from nas_relucode.cells.spanning import spanning_tree
from nas_relucode.codes.bits import Codes

WORK: dict[str, Callable[[Codes], Any]] = {
    "cells": rc.cells.find_cells,
    "pairs": lambda codes: rc.cells.pairs_within(codes, 1),
    "tree": spanning_tree,
}
SHORT = 1.0  # seconds: what takes less is run again, for a median of up to nine


def main(works: str, cells: str, of: str, head: str, data_root: str) -> None:
    codes = distinct_cells(int(of), head, Path(data_root))
    if int(cells) < codes.samples:
        codes = Codes(codes.words[: int(cells)].copy(), codes.layers)
    print(json.dumps([taken(work, codes) for work in works.split(",")]))


def taken(work: str, codes: Codes) -> dict[str, float]:
    call = WORK[work]
    call(codes[: min(9_000, codes.samples)])  # the compiled functions are loaded or compiled
    give_back()
    reset_peak()
    before = peak()
    clock, processor = time.perf_counter(), time.process_time()
    result = call(codes)
    seconds, processor_seconds = [time.perf_counter() - clock], [time.process_time() - processor]
    after = peak()
    check(work, codes, result)
    while sum(processor_seconds) < SHORT and len(seconds) < 9:
        clock, processor = time.perf_counter(), time.process_time()
        call(codes)
        seconds.append(time.perf_counter() - clock)
        processor_seconds.append(time.process_time() - processor)
    return {
        "seconds": statistics.median(seconds),
        "processor_seconds": statistics.median(processor_seconds),
        "added_bytes": after - before,
        "peak_bytes": after,
    }


def check(work: str, codes: Codes, result: Any) -> None:
    """What no peer can check at these sizes: the cells are all distinct, the distances true, the tree spans."""
    if work == "cells":
        assert (result.sizes == 1).all()
        return
    for start in range(0, len(result.first), 100_000):
        part = slice(start, start + 100_000)
        apart = codes.words[result.first[part]] ^ codes.words[result.second[part]]
        assert np.array_equal(np.bitwise_count(apart).sum(axis=1), result.distance[part])
    if work == "tree":
        assert len(result.first) == codes.samples - 1
        ones = np.ones(len(result.first), np.int8)
        graph = coo_array((ones, (result.first, result.second)), shape=(codes.samples, codes.samples))
        assert connected_components(graph, directed=False)[0] == 1


def give_back() -> None:
    """Memory that is free goes back to the system, else what is taken from it again would not be counted."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim:
        trim(0)


def reset_peak() -> None:
    """From here on the peak counts anew, where the system can do that (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> int:
    """The most memory that the process has held so far, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
