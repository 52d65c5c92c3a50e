"""The silhouette of the classes against scikit-learn's, from the matrix of all distances of all samples."""

import math
from dataclasses import replace

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from nas_relucode import CodeSpace, InputError, compute_indices
from nas_relucode.cells import distance_matrix, find_cells
from nas_relucode.cells.classes import class_silhouette, separability
from nas_relucode.codes import pack
from nas_relucode.codes.bits import Codes


def found(bits, labels):
    cells = find_cells(pack(bits))
    return class_silhouette(cells.codes, cells.class_counts(labels))


@given(
    arrays.arrays(bool, st.tuples(st.integers(3, 40), st.sampled_from([1, 3, 8, 65]))),
    st.randoms(use_true_random=False),
)
def test_it_is_the_silhouette_of_the_matrix_of_distances(bits, random):
    labels = np.array([random.choice([0, 1, 5]) for _ in bits])
    assume(1 < len(set(labels)) < len(labels))
    expected = silhouette_score(distance_matrix(pack(bits)), labels, metric="precomputed")
    assert found(bits, labels) == pytest.approx(expected, abs=1e-12)


def test_it_is_so_over_many_blocks_of_cells(monkeypatch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3_000)
    bits = rng.random((3_000, 100)) < rng.random((10, 100))[labels]
    expected = silhouette_score(bits.astype(float), labels, metric="cityblock")
    assert found(bits, labels) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr("nas_relucode.cells.classes.BLOCK_BITS", 1_000)
    assert found(bits, labels) == pytest.approx(expected, abs=1e-12)


def test_classes_a_code_apart_are_at_1_and_mixed_ones_at_0():
    apart = np.repeat([[0, 0, 0], [1, 1, 1]], 10, axis=0)
    assert found(apart, np.arange(20) // 10) == 1
    assert found(np.zeros((20, 3)), np.arange(20) // 10) == 0


def test_a_class_of_one_sample_counts_as_0_and_a_single_class_has_none():
    assert found(np.array([[0, 0], [0, 0], [1, 1]]), np.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert math.isnan(found(np.eye(3), np.zeros(3, int)))


def test_the_numbers_of_each_layer_are_those_of_its_code_space_alone():
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


def test_without_labels_nothing_can_be_told_apart():
    with pytest.raises(InputError, match="separability needs labels"):
        separability(CodeSpace.of(pack(np.eye(3))))
