"""Indices against their formulas written out on samples and bits, and against networks with a known answer."""

import math
from collections import Counter

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import silhouette_score

from nas_relucode import INDICES, CodeSpace, InputError, compute_indices
from nas_relucode.cells import distance_matrix
from nas_relucode.codes import pack
from nas_relucode.indices import Evidence
from nas_relucode.indices.registry import saturated_indices

BITS = arrays.arrays(bool, st.tuples(st.integers(1, 20), st.sampled_from([1, 3, 8, 65])))


@st.composite
def spaces(draw):
    bits = draw(BITS)
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=len(bits), max_size=len(bits))))
    correct = np.array(draw(st.lists(st.booleans(), min_size=len(bits), max_size=len(bits))))
    theta = draw(st.sampled_from([None, 1, 2, 70]))
    return bits, labels, correct, theta


def evidence(bits, labels, correct, theta):
    """Everything that an index can need; the held-out samples are the first half of the samples and new codes."""
    held_out = CodeSpace.of(pack(np.vstack([bits[: len(bits) // 2], ~bits[:1]])))
    return Evidence(
        CodeSpace.of(pack(bits), labels, correct),
        parameters=7,
        distance_theta=theta,
        held_out=held_out,
        transitions=np.array([2, 5]),
        wanted_size=(0.005, 0.001),
    )


OF_THE_FIRST = ("new_cell_fraction", "distinct_patterns", "regularised_patterns")  # samples


def silhouette(bits, labels):
    """sklearn's, which wants a label twice; labels that all stand once are 0 by Rousseeuw's definition."""
    classes = len(set(labels.tolist()))
    if classes < 2:
        return math.nan
    return 0 if classes == len(labels) else silhouette_score(bits.astype(float), labels, metric="cityblock")


def by_hand(bits, labels, correct, theta):
    """The definitions, one sample and one pair at a time."""
    samples = len(bits)
    codes = [row.tobytes() for row in bits]
    cells = Counter(codes)
    distances = {"within": [], "between": []}
    for i in range(samples):
        for j in range(i):
            d = min(int((bits[i] != bits[j]).sum()), math.inf if theta is None else theta)
            distances["within" if labels[i] == labels[j] else "between"].append(d)
    within, between = (np.mean(d) if d else math.nan for d in distances.values())
    known, unknown = {row.tobytes() for row in bits}, (~bits[0]).tobytes()
    on = bits.mean(axis=0)
    majority = sum(max(Counter(labels[[c == cell for c in codes]].tolist()).values()) for cell in cells)
    return {
        "cell_count": len(cells),
        "correct_cell_count": len({code for code, right in zip(codes, correct, strict=True) if right}),
        "cells_per_sample": len(cells) / samples,
        "singleton_fraction": sum(size == 1 for size in cells.values()) / len(cells),
        "occupancy_entropy": entropy(list(cells.values()), base=2),
        "cell_purity": majority / samples,
        "within_class_distance": within,
        "between_class_distance": between,
        "class_distance_ratio": within / between if between else math.nan,
        "class_silhouette": silhouette(bits, labels),
        "new_cell_fraction": (unknown not in known) / (samples // 2 + 1),
        "varying_neurons": sum(entropy([p, 1 - p], base=2) for p in on),
        "distinct_patterns": len({column.tobytes() for column in bits[:16].T}),
        "regularised_patterns": len({column.tobytes() for column in bits[:16].T}) * math.exp(-(0.002**2) / 0.001),
        "segment_transitions": 3.5,
        "parameter_count": 7,
        "dead_neuron_fraction": np.mean([not bits[:, j].any() for j in range(bits.shape[1])]),
        "always_on_fraction": np.mean([bits[:, j].all() for j in range(bits.shape[1])]),
    }


@given(spaces())
def test_indices_are_their_formulas(case):
    expected = by_hand(*case)
    found = compute_indices(evidence(*case), expected)
    assert found == pytest.approx(expected, nan_ok=True)


@given(spaces())
def test_every_index_is_a_float_in_its_range(case):
    space = evidence(*case)
    values = compute_indices(space)
    assert list(values) == [name for name, index in INDICES.items() if "geometry" not in index.needs]
    for name, value in values.items():
        low, high = INDICES[name].range(space)
        assert type(value) is float
        assert math.isnan(value) or low - 1e-9 <= value <= high + 1e-9


@given(spaces(), st.randoms(use_true_random=False))
def test_indices_do_not_depend_on_the_order_of_the_samples(case, random):
    bits, labels, correct, theta = case
    order = list(range(len(bits)))
    random.shuffle(order)
    names = [name for name in compute_indices(evidence(*case)) if name not in OF_THE_FIRST]
    values = compute_indices(evidence(bits, labels, correct, theta), names)
    shuffled = compute_indices(evidence(bits[order], labels[order], correct[order], theta), names)
    assert shuffled == pytest.approx(values, nan_ok=True)


@given(spaces())
def test_the_indices_over_all_theta_are_those_of_the_distance_matrix(case):
    """The longest of all least distances from a set of cells to the others is the theta that connects all."""
    bits = np.unique(case[0], axis=0)
    values = compute_indices(CodeSpace.of(pack(bits)), ["connecting_theta_100", "nearest_cell_distance"])
    matrix = distance_matrix(pack(bits)) + np.eye(len(bits), dtype=int) * 10_000
    if len(bits) == 1:
        assert values["connecting_theta_100"] == 0
        assert math.isnan(values["nearest_cell_distance"])
        return
    inside, longest = [0], 0
    while len(inside) < len(bits):
        outside = [i for i in range(len(bits)) if i not in inside]
        nearest = matrix[np.ix_(inside, outside)]
        longest = max(longest, nearest.min())
        inside.append(outside[nearest.min(axis=0).argmin()])
    assert values == {"connecting_theta_100": longest, "nearest_cell_distance": matrix.min(axis=1).mean()}


def test_the_kernel_is_that_of_the_first_128_samples():
    bits = np.random.default_rng(0).random((200, 300)) < 0.5
    agree = 300.0 - (bits[:128, None] != bits[None, :128]).sum(axis=2)
    found = compute_indices(CodeSpace.of(pack(bits)), ["logdet_kernel"])["logdet_kernel"]
    assert found == pytest.approx(np.linalg.slogdet(agree)[1])


def test_graph_indices_of_a_path_and_a_point():
    """000 - 001 - 011 is a path; 111111 is apart."""
    bits = [[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    names = ["edge_count", "component_count", "largest_component_share", "isolated_cell_fraction"]
    values = compute_indices(CodeSpace.of(pack(bits)), names)
    assert values == {
        "edge_count": 2,
        "component_count": 2,
        "largest_component_share": 3 / 4,
        "isolated_cell_fraction": 1 / 4,
    }
    joined = compute_indices(Evidence(CodeSpace.of(pack(bits)), graph_theta=4), names)
    assert joined == {
        "edge_count": 4,
        "component_count": 1,
        "largest_component_share": 1,
        "isolated_cell_fraction": 0,
    }


def test_a_count_that_is_as_large_as_the_sample_is_saturated():
    alone, shared = np.eye(5, 9), np.vstack([np.eye(4, 9), np.eye(1, 9)])
    for bits, saturated in ((alone, True), (shared, False)):
        space = CodeSpace.of(pack(bits))
        values = compute_indices(space, ["cell_count", "cells_per_sample", "singleton_fraction", "occupancy_entropy"])
        assert [name in saturated_indices(space, values) for name in values] == [saturated] * 4


def test_an_index_without_its_data_is_left_out_or_an_error():
    space = CodeSpace.of(pack(np.eye(3)))
    assert "cell_purity" not in compute_indices(space)
    with pytest.raises(InputError, match="'cell_purity' needs labels"):
        compute_indices(space, ["cell_purity"])
    with pytest.raises(InputError, match=r"unknown index 'cells'.*nas-relucode list indices"):
        compute_indices(space, ["cells"])


def test_samples_labels_and_correctness_must_fit():
    codes = pack(np.eye(3))
    for wrong in ({"labels": [0, 1]}, {"labels": [0, 1, -1]}, {"labels": [0.5, 1, 2]}, {"correct": [True]}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} are .* for 3 samples"):
            CodeSpace.of(codes, **wrong)
    assert compute_indices(CodeSpace.of(codes, correct=[0, 0, 1]), ["correct_cell_count"]) == {"correct_cell_count": 1}
    with pytest.raises(InputError, match="0 codes of 3 neurons"):
        Evidence(CodeSpace.of(pack(np.empty((0, 3)))))


def test_every_index_says_what_it_means():
    for index in INDICES.values():
        assert index.meaning.endswith((".", ";"))
        assert index.direction in (None, "minimize", "maximize")
