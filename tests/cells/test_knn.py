"""The vote of the nearest neighbours against the same vote among samples, one at a time."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from nas_relucode import InputError
from nas_relucode.cells import find_cells
from nas_relucode.cells.classes import knn_accuracy
from nas_relucode.codes import pack


def by_hand(bits, labels, k):
    right = 0.0
    for i in range(len(bits)):
        distances = np.delete((bits != bits[i]).sum(axis=1), i)
        others = np.delete(labels, i)
        votes = np.bincount(others[distances <= np.sort(distances)[min(k, len(others)) - 1]], minlength=3)
        right += (votes[labels[i]] == votes.max()) / (votes == votes.max()).sum()
    return right / len(bits)


@given(
    arrays.arrays(bool, st.tuples(st.integers(2, 40), st.sampled_from([1, 3, 8, 65]))),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_the_vote_is_that_of_the_nearest_other_samples_and_of_all_at_the_last_distance(bits, k, random):
    labels = np.array([random.randrange(3) for _ in bits])
    cells = find_cells(pack(bits))
    assert knn_accuracy(cells.codes, cells.class_counts(labels, 3), k=k) == pytest.approx(by_hand(bits, labels, k))


def test_without_ties_it_is_sklearns_leave_one_out():
    """Columns weigh 1, 2, 4, ... by repetition, so that all distances of a row differ."""
    rng = np.random.default_rng(0)
    bits = np.repeat(rng.permutation(2**8)[:60, None] >> np.arange(8) & 1, 2 ** np.arange(8), axis=1).astype(bool)
    labels = (bits[:, -1] ^ (rng.random(60) < 0.2)).astype(int)
    cells = find_cells(pack(bits))
    right = 0
    for i in range(60):
        rest = np.delete(np.arange(60), i)
        model = KNeighborsClassifier(3, metric="hamming").fit(bits[rest], labels[rest])
        right += model.predict(bits[i : i + 1])[0] == labels[i]
    assert knn_accuracy(cells.codes, cells.class_counts(labels), k=3, threads=2) == pytest.approx(right / 60)


def test_a_single_sample_has_no_neighbours_and_none_may_not_vote():
    assert np.isnan(knn_accuracy(pack([[0, 1]]), np.array([[1]])))
    with pytest.raises(InputError, match="k 0"):
        knn_accuracy(pack([[0], [1]]), np.eye(2, dtype=int), k=0)
