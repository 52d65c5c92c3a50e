"""Votes against a count by hand and scikit-learn's classifier; silhouettes against scikit-learn's, of all samples."""

import math
from dataclasses import replace

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from nas_relucode import Codes, CodeSpace, InputError, compute_indices
from nas_relucode.cells import distance_matrix, find_cells, separability
from nas_relucode.cells.classes import class_silhouette, knn_accuracy
from nas_relucode.codes import pack


def accuracy_by_hand(bits, labels, k):
    correct = 0.0
    for i in range(len(bits)):
        distances = np.delete((bits != bits[i]).sum(axis=1), i)
        others = np.delete(labels, i)
        votes = np.bincount(others[distances <= np.sort(distances)[min(k, len(others)) - 1]], minlength=3)
        correct += (votes[labels[i]] == votes.max()) / (votes == votes.max()).sum()
    return correct / len(bits)


@given(
    arrays.arrays(bool, st.tuples(st.integers(2, 40), st.sampled_from([1, 3, 8, 65]))),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_the_nearest_other_samples_vote_and_all_at_the_last_distance(bits, k, random):
    labels = np.array([random.randrange(3) for _ in bits])
    cells = find_cells(pack(bits))
    assert knn_accuracy(cells.codes, cells.class_counts(labels, 3), k=k) == pytest.approx(
        accuracy_by_hand(bits, labels, k)
    )


def test_without_ties_the_vote_is_sklearns_leave_one_out():
    """Columns weigh 1, 2, 4, ... by repetition, so that all distances of a row differ."""
    rng = np.random.default_rng(0)
    bits = np.repeat(rng.permutation(2**8)[:60, None] >> np.arange(8) & 1, 2 ** np.arange(8), axis=1).astype(bool)
    labels = (bits[:, -1] ^ (rng.random(60) < 0.2)).astype(int)
    cells = find_cells(pack(bits))
    correct = 0
    for i in range(60):
        rest = np.delete(np.arange(60), i)
        model = KNeighborsClassifier(3, metric="hamming").fit(bits[rest], labels[rest])
        correct += model.predict(bits[i : i + 1])[0] == labels[i]
    assert knn_accuracy(cells.codes, cells.class_counts(labels), k=3, threads=2) == pytest.approx(correct / 60)


def test_a_single_sample_has_no_accuracy_and_k_0_is_an_error():
    assert np.isnan(knn_accuracy(pack([[0, 1]]), np.array([[1]])))
    with pytest.raises(InputError, match="k 0"):
        knn_accuracy(pack([[0], [1]]), np.eye(2, dtype=int), k=0)


def silhouette(bits, labels):
    cells = find_cells(pack(bits))
    return class_silhouette(cells.codes, cells.class_counts(labels))


@given(
    arrays.arrays(bool, st.tuples(st.integers(3, 40), st.sampled_from([1, 3, 8, 65]))),
    st.randoms(use_true_random=False),
)
def test_the_silhouette_is_sklearns_of_the_matrix_of_distances(bits, random):
    labels = np.array([random.choice([0, 1, 5]) for _ in bits])
    assume(1 < len(set(labels)) < len(labels))
    expected = silhouette_score(distance_matrix(pack(bits)), labels, metric="precomputed")
    assert silhouette(bits, labels) == pytest.approx(expected, abs=1e-12)


def test_the_silhouette_is_exact_over_many_blocks_of_cells(monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3_000)
    bits = rng.random((3_000, 100)) < rng.random((10, 100))[labels]
    expected = silhouette_score(bits.astype(float), labels, metric="cityblock")
    assert silhouette(bits, labels) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("nas_relucode.cells.classes.BLOCK_BITS", 1_000)
    assert silhouette(bits, labels) == pytest.approx(expected, abs=1e-12)


def test_classes_with_a_code_each_have_silhouette_1_and_classes_with_the_same_code_0():
    apart = np.repeat([[0, 0, 0], [1, 1, 1]], 10, axis=0)
    assert silhouette(apart, np.arange(20) // 10) == 1
    assert silhouette(np.zeros((20, 3)), np.arange(20) // 10) == 0


def test_a_class_of_one_sample_counts_as_0_and_a_single_class_is_nan():
    assert silhouette(np.array([[0, 0], [0, 0], [1, 1]]), np.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert math.isnan(silhouette(np.eye(3), np.zeros(3, int)))


def test_the_separability_of_a_layer_is_that_of_its_own_code_space():
    rng = np.random.default_rng(0)
    first, second, labels = rng.random((80, 5)) < 0.5, rng.random((80, 70)) < 0.5, rng.integers(0, 3, 80)
    one, two = pack(first, "one"), pack(second, "two")
    both = Codes(np.hstack([one.words, two.words]), (*one.layers, replace(two.layers[0], start=1)))
    values = separability(CodeSpace.of(both, labels))
    assert list(values) == ["joint", "one", "two"]
    for name, bits in {"joint": np.hstack([first, second]), "one": first, "two": second}.items():
        expected = compute_indices(CodeSpace.of(pack(bits), labels), ["knn_accuracy", "class_silhouette"])
        assert values[name] == pytest.approx(expected)
        assert all(type(value) is float for value in values[name].values())


def test_separability_without_labels_is_an_error():
    with pytest.raises(InputError, match="separability needs labels"):
        separability(CodeSpace.of(pack(np.eye(3))))
