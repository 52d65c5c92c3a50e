"""UMAP of the codes of 60,000 images: time and memory, and the search for the nearest codes against its peers."""

from __future__ import annotations

import measure

# isort: split
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from alone import peak
from codes_to_measure import as_codes, source, trained
from measure import Claim, Way, processor_seconds

import nas_relucode as rc
from nas_relucode.cells.embedding import embed
from nas_relucode.cells.neighbours import nearest
from nas_relucode.codes.bits import Codes

HEAD = "512-256-128"
NEIGHBOURS = 15
WORK = "UMAP of the codes of {cells} images x 896, the machine's threads"
SEARCH = "15 nearest of {cells} x 896"
CLAIMS = {
    "time": Claim(WORK + ", by the clock", "4 min", 1, 60_000, 1_000, 1),
    "memory": Claim(WORK + ", peak of the process", "4 GiB", 1, 60_000, 1_000, 1),
    "umap": Claim(SEARCH, "umap-learn's own search", 1, 60_000, 1_000, None),
    "faiss": Claim(SEARCH, "FAISS IndexBinaryFlat", None, 60_000, 1_000, None),
}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    codes = images(bench.cells("time"), bench.data_root)
    threads = os.cpu_count() or 1
    usage = alone(codes, threads)
    note = f"{threads} threads; the neighbours {usage['neighbours']:.0f} s of it; 1 run"
    bench.row("time", usage["seconds"], 240, note, lambda seconds: f"{seconds:,.0f} s")
    bench.row("memory", usage["peak"], 2**32, "with Python, torch, numba and umap", measure.mebibytes)
    ours = Way(lambda: nearest(codes, NEIGHBOURS - 1), lambda result: (result.distances,))
    seconds = statistics.median(processor_seconds(ours.run) for _ in range(3))
    by_umap(codes[:500])  # so that it is compiled
    rows: list[np.ndarray] = []
    umap_seconds = processor_seconds(lambda: rows.append(by_umap(codes)))
    share = recall(codes, rows[0], nearest(codes, NEIGHBOURS - 1).distances[:, -1])
    bench.row("umap", seconds, umap_seconds, f"NN-descent, of whose neighbours {share:.1%} are the nearest; 1 run")
    by_faiss(bench, codes, ours)
    bench.finish()


def images(count: int, root: Path) -> Codes:
    """The codes of the first training images under a trained perceptron."""
    data = rc.load_data(source(root), data_root=root)
    return as_codes(rc.capture(trained(data, HEAD), data.train.inputs[:count], layers="head").words, HEAD)


def alone(codes: Codes, threads: int) -> dict[str, float]:
    """Seconds and peak memory of the first embedding of a new process, including what it has to compile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.npy"
        np.save(path, codes.words)
        command = [sys.executable, __file__, "--alone", str(path), str(threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def embedded(path: str, threads: str) -> None:
    space = rc.CodeSpace.of(as_codes(np.load(path), HEAD))
    start = time.perf_counter()
    embedding = embed(space, neighbours=NEIGHBOURS, threads=int(threads))
    seconds = time.perf_counter() - start
    assert np.isfinite(embedding.points).all()
    start = time.perf_counter()
    nearest(space.codes, NEIGHBOURS - 1, threads=int(threads))
    print(json.dumps({"seconds": seconds, "neighbours": time.perf_counter() - start, "peak": peak()}))


def by_umap(codes: Codes) -> np.ndarray:
    """The nearest codes of each code by umap-learn's own search: int, (codes, neighbours), the code itself first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        from umap.umap_ import nearest_neighbors

    bits = codes.bits().astype(np.float32)
    return nearest_neighbors(bits, NEIGHBOURS, "hamming", {}, False, np.random.RandomState(0), n_jobs=1)[0]


def recall(codes: Codes, rows: np.ndarray, farthest: np.ndarray) -> float:
    """The fraction of the neighbours in ``rows`` that are no farther away than the last of the exact ones."""
    near = 0
    for start in range(0, codes.samples, 1_000):
        part = rows[start : start + 1_000]
        apart = np.bitwise_count(codes.words[part] ^ codes.words[start : start + 1_000, None]).sum(axis=2)
        other = part != np.arange(start, start + len(part))[:, None]
        near += int(((apart <= farthest[start : start + 1_000, None]) & other & (part >= 0)).sum())
    return near / (codes.samples * (NEIGHBOURS - 1))


def by_faiss(bench: measure.Bench, codes: Codes, ours: Way) -> None:
    """Adds a row if FAISS is installed, which takes each code for its own first neighbour, at distance 0."""
    try:
        import faiss
    except ImportError:
        return
    faiss.omp_set_num_threads(1)
    rows = codes.words.view(np.uint8)

    def run() -> Any:
        index = faiss.IndexBinaryFlat(8 * rows.shape[1])
        index.add(rows)
        return index.search(rows, NEIGHBOURS)[0]

    bench.race(ours, {"faiss": Way(run, lambda distances: (distances[:, 1:].astype(np.int64),))})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        embedded(*sys.argv[2:])
    else:
        main()
