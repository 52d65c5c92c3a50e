"""Compiled code reads class counts without looking at their bounds, so that counts of other cells are refused first."""

import numpy as np
import pytest

from nas_relucode import InputError
from nas_relucode.cells import connectivity
from nas_relucode.cells.classes import class_silhouette, knn_accuracy
from nas_relucode.cells.hamming import class_distance_sums, ones_by_class
from nas_relucode.codes import pack

CODES = pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]])
FUNCTIONS = {
    "knn_accuracy": lambda counts: knn_accuracy(CODES, counts),
    "class_silhouette": lambda counts: class_silhouette(CODES, counts),
    "ones_by_class": lambda counts: ones_by_class(CODES, counts),
    "class_distance_sums": lambda counts: class_distance_sums(CODES, counts, 2),
    "purity": lambda counts: connectivity(CODES).purity(1, counts),
    "dendrogram_purity": lambda counts: connectivity(CODES).dendrogram_purity(counts),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    ("counts", "named"),
    [
        (np.ones((2, 2), np.int64), r"\(2, 2\) for 3 cells"),
        (np.ones((4, 2), np.int64), r"\(4, 2\) for 3 cells"),
        (np.ones(3, np.int64), r"\(3,\) for 3 cells"),
        (np.ones((3, 2, 2), np.int64), r"\(3, 2, 2\)"),
        (np.ones((3, 2)), "float64"),
        (np.array([[1, 0], [0, 1], [0, -7]]), "-7"),
        ("abc", "class counts are"),
        (None, "class counts are object"),
    ],
)
def test_class_counts_are_a_row_of_whole_numbers_for_each_cell(function, counts, named):
    with pytest.raises(InputError, match=named):
        function(counts)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_order_and_the_type_of_whole_numbers_change_nothing(function):
    counts = np.array([[2, 0], [1, 1], [0, 3]])
    expected = function(counts)
    for other in (counts.tolist(), counts.astype(np.uint8), np.asfortranarray(counts), np.repeat(counts, 2, 1)[:, ::2]):
        np.testing.assert_equal(function(other), expected)
