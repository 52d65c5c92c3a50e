"""Indices against their formulas written out on samples and bits, and against networks with a known answer."""

import json
import math
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import silhouette_score
from torch import nn

from nas_relucode import INDICES, CodeSpace, InputError, compute_indices, score
from nas_relucode.cells import distance_matrix
from nas_relucode.codes import pack
from nas_relucode.indices import (
    EdgeCount,
    Index,
    IndexInputs,
    RegularisedPatterns,
    SegmentTransitions,
    WithinClassDistance,
)
from nas_relucode.indices.geometric import CorrectMargin, GeometricIndex
from nas_relucode.indices.registry import choose, configured, saturated_indices
from nas_relucode.indices.sensitivity import DecisionMargin, SensitivityIndex
from nas_relucode.qualities import Quality, measure

BITS = arrays.arrays(bool, st.tuples(st.integers(1, 20), st.sampled_from([1, 3, 8, 65])))


@st.composite
def spaces(draw):
    bits = draw(BITS)
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=len(bits), max_size=len(bits))))
    correct = np.array(draw(st.lists(st.booleans(), min_size=len(bits), max_size=len(bits))))
    theta = draw(st.sampled_from([None, 1, 2, 70]))
    return bits, labels, correct, theta


def inputs(bits, labels, correct):
    """Everything that an index can need except polyhedra; held out are half of the samples and a new code."""
    held_out = CodeSpace.of(pack(np.vstack([bits[: len(bits) // 2], ~bits[:1]])))
    network = SimpleNamespace(transitions=lambda segments: np.array([2, 5]))
    space = CodeSpace.of(pack(bits), labels, correct)
    return IndexInputs(space, parameters=7, held_out=held_out, network_sample=network)


def every_index(theta):
    """All indices except those of polyhedra, with distances truncated at theta."""
    return [*configured(distance_theta=theta, wanted_size=(0.005, 0.001)), "segment_transitions"]


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
    values = compute_indices(inputs(*case[:3]), every_index(case[3]))
    assert {name: values[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@given(spaces())
def test_every_index_is_a_float_in_its_range(case):
    read = inputs(*case[:3])
    chosen = choose(every_index(case[3]), read)
    assert list(chosen) == [
        name for name, index in INDICES.items() if not isinstance(index, GeometricIndex | SensitivityIndex)
    ]
    for name, value in compute_indices(read, chosen.values()).items():
        low, high = chosen[name].range(read)
        assert type(value) is float
        assert math.isnan(value) or low - 1e-9 <= value <= high + 1e-9


@given(spaces(), st.randoms(use_true_random=False))
def test_indices_do_not_depend_on_the_order_of_the_samples(case, random):
    bits, labels, correct, theta = case
    order = list(range(len(bits)))
    random.shuffle(order)
    indices = [
        index for index in choose(every_index(theta), inputs(*case[:3])).values() if index.name not in OF_THE_FIRST
    ]
    values = compute_indices(inputs(bits, labels, correct), indices)
    shuffled = compute_indices(inputs(bits[order], labels[order], correct[order]), indices)
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
    value = compute_indices(CodeSpace.of(pack(bits)), ["logdet_kernel"])["logdet_kernel"]
    assert value == pytest.approx(np.linalg.slogdet(agree)[1])


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
    joined = compute_indices(CodeSpace.of(pack(bits)), configured(names, graph_theta=4))
    assert joined == {"edge_count": 4, "component_count": 1, "largest_component_share": 1, "isolated_cell_fraction": 0}


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
        IndexInputs(CodeSpace.of(pack(np.empty((0, 3)))))


def test_every_index_says_what_it_means():
    for index in INDICES.values():
        assert index.meaning.endswith((".", ";"))
        assert index.direction in (None, "minimize", "maximize")


def test_an_index_with_settings_stands_under_its_name_and_beside_others_with_its_settings():
    """000 - 001 - 011 is a path; 111111 is apart."""
    space = CodeSpace.of(pack([[0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]))
    assert compute_indices(space, EdgeCount(theta=4)) == {"edge_count": 4}
    assert compute_indices(space, ["edge_count", EdgeCount(theta=2), EdgeCount(theta=4), EdgeCount()]) == {
        "edge_count": 2,
        "edge_count[theta=2]": 3,
        "edge_count[theta=4]": 4,
    }
    everything = compute_indices(space)
    replaced = compute_indices(space, ["all", EdgeCount(theta=4)])
    assert list(replaced) == list(everything)
    assert replaced == pytest.approx(everything | {"edge_count": 4}, nan_ok=True)


def test_settings_that_make_no_sense_are_errors():
    space = CodeSpace.of(pack(np.eye(3)), labels=[0, 1, 1])
    for wrong in (EdgeCount, WithinClassDistance):
        with pytest.raises(InputError, match="-1"):
            wrong(theta=-1)
    with pytest.raises(InputError, match="segments 0"):
        SegmentTransitions(segments=0)
    with pytest.raises(InputError, match="mu and sigma"):
        compute_indices(IndexInputs(space, parameters=3), ["regularised_patterns"])
    with pytest.raises(InputError, match="sigma is 0"):
        compute_indices(IndexInputs(space, parameters=3), RegularisedPatterns(mu=1, sigma=0))
    with pytest.raises(InputError, match=r"module 'head' .* name some of them"):
        configured(["cell_count"], module="head")


class MeanCellSize(Index):
    """Samples / occupied cells."""

    direction = "maximize"

    def compute(self, inputs):
        return inputs.samples / len(inputs.cells)


def test_an_index_of_ones_own_is_computed_beside_the_others(monkeypatch):
    space = CodeSpace.of(pack([[0, 1], [0, 1], [1, 1]]))
    assert compute_indices(space, ["cell_count", MeanCellSize()]) == {"cell_count": 2, "mean_cell_size": 1.5}
    assert MeanCellSize().meaning == "Samples / occupied cells."
    monkeypatch.setitem(INDICES, "mean_cell_size", MeanCellSize())
    assert compute_indices(space)["mean_cell_size"] == 1.5


def test_two_indices_of_one_name_are_an_error():
    class CellCount(Index):
        def compute(self, inputs):
            return 0.0

    with pytest.raises(InputError, match="'cell_count'"):
        compute_indices(CodeSpace.of(pack(np.eye(3))), ["cell_count", CellCount()])


class Given(Index):
    """What the test says."""

    def compute(self, inputs):
        return self.given


def of(value):
    index = Given()
    object.__setattr__(index, "given", value)
    return index


NETWORK = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))


@pytest.mark.parametrize("value", [3, np.int64(3), np.float32(3), np.array(3), torch.tensor(3), Fraction(3)])
def test_what_an_index_or_a_quality_of_ones_own_returns_becomes_a_float(value):
    values = score(NETWORK, torch.rand(5, 2), indices=[of(value)]).as_dict()["joint"]
    assert json.loads(json.dumps(values)) == {"given": 3.0}
    quality = Quality("own", "", "minimize", "x.", lambda network, inputs, forward=None: value)
    assert json.loads(json.dumps(measure(NETWORK, torch.rand(5, 2), quality))) == {"own": 3.0}


@pytest.mark.parametrize("value", [None, "7", [2], 2j, torch.ones(2), 10**400])
def test_what_is_no_number_is_refused_by_the_name_of_the_index_or_quality(value):
    quality = Quality("own", "", "minimize", "x.", lambda network, inputs, forward=None: value)
    kind = type(value).__name__
    with pytest.raises(InputError, match=f"index 'given' returns .*{kind}.*NaN"):
        score(NETWORK, torch.rand(5, 2), indices=[of(value)])
    with pytest.raises(InputError, match=f"quality 'own' returns .*{kind}.*NaN"):
        measure(NETWORK, torch.rand(5, 2), quality)


@pytest.mark.parametrize(
    "make",
    [
        lambda: WithinClassDistance(theta="3"),
        lambda: EdgeCount(theta=1.5),
        lambda: CorrectMargin(share=2),
        lambda: DecisionMargin(samples=1.5),
        lambda: RegularisedPatterns(mu="a"),
        lambda: SegmentTransitions(segments="a"),
    ],
)
def test_settings_of_other_types_are_refused(make):
    with pytest.raises(InputError, match="Give"):
        make()
