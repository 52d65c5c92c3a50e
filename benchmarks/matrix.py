"""The dense matrix of truncated Hamming distances: ours against scipy's cdist and FAISS."""

from __future__ import annotations

import measure

# isort: split
import faiss
import numpy as np
from codes_to_measure import distinct_cells
from measure import Claim, Way
from scipy.spatial.distance import cdist

import nas_relucode as rc

WORK = "dense truncated matrix, {cells} x 512"
CLAIMS = {
    "cdist": Claim(WORK, "scipy cdist", 60, 3_000, 1_500, 60),
    "hammings": Claim(WORK, "faiss.hammings", None, 3_000, 1_500, None),
}
THETA = 2  # the distances of Definition 2: equal, adjacent, apart


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    faiss.omp_set_num_threads(1)
    codes = distinct_cells(bench.cells("cdist"), "256-256", bench.data_root)
    bits, rows = codes.bits().astype(np.float64), codes.words.view(np.uint8)
    n = len(rows)

    def hammings() -> np.ndarray:
        matrix = np.empty((n, n), np.int32)
        faiss.hammings(faiss.swig_ptr(rows), faiss.swig_ptr(rows), n, n, rows.shape[1], faiss.swig_ptr(matrix))
        return np.minimum(matrix, THETA, out=matrix)

    ours = Way(lambda: rc.cells.distance_matrix(codes, theta=THETA), as_matrix)
    # scipy's fastest Hamming distance is the squared Euclidean distance of zeros and ones.
    peers = {
        "cdist": Way(lambda: np.minimum(cdist(bits, bits, "sqeuclidean"), THETA), as_matrix, "sqeuclidean"),
        "hammings": Way(hammings, as_matrix),
    }
    bench.race(ours, peers)
    bench.finish()


def as_matrix(matrix: np.ndarray) -> tuple[np.ndarray]:
    return (matrix.astype(np.int64),)


if __name__ == "__main__":
    main()
