"""Segments against closed forms, exact rational arithmetic, and the geometry of cells."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_grid import ends, mlp
from torch import nn

from nas_relucode import InputError, capture
from nas_relucode.geometry import segments
from nas_relucode.geometry.segments import crossings, same_class_pairs, segment_transitions


def test_one_hidden_layer_is_crossed_where_its_neurons_are_zero():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 2))
    start, end = ends(1, 5)
    weight, bias = network[0].weight.detach().double(), network[0].bias.detach().double()
    slope, offset = weight @ (end[0].double() - start[0].double()), weight @ start[0].double() + bias
    t = np.sort((-offset / slope).numpy())
    (segment,) = crossings(network, start, end)
    assert segment.transitions == segment.cells.samples - 1 > 5
    assert segment.times == pytest.approx(t[(t > 0) & (t < 1)], abs=1e-12)


@st.composite
def small_networks(draw):
    """Weights, biases, a start and an end, all whole numbers, so that borders often coincide or touch."""
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    number = st.integers(-3, 3)

    def matrix(rows, columns):
        return draw(st.lists(st.lists(number, min_size=columns, max_size=columns), min_size=rows, max_size=rows))

    layers = [(matrix(b, a), matrix(1, b)[0]) for a, b in itertools.pairwise(widths)]
    return layers, matrix(2, widths[0])


def exact_crossings(layers, start, end):
    """Times and codes in fractions: each layer's input is kept at the borders so far, between which it is linear."""
    times = [Fraction(0), Fraction(1)]
    values = [[Fraction(x) for x in point] for point in (start, end)]  # the layer's input at each time
    inputs = []  # of each ReLU, as a function of the times when it was computed
    for weight, bias in layers:
        z = [[sum(w * x for w, x in zip(row, point, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
             for point in values]  # fmt: skip
        borders = set(times)
        for before, after, a, b in zip(times, times[1:], z, z[1:], strict=False):
            borders |= {before + (after - before) * p / (p - q) for p, q in zip(a, b, strict=True) if p * q < 0}
        inputs.append((times, z))
        finer = sorted(borders)
        z = [at(t, times, z) for t in finer]
        times, values = finer, [[max(x, 0) for x in point] for point in z]
    changes, codes = [], []
    for before, after in itertools.pairwise(times):
        code = [value > 0 for old, z in inputs for value in at((before + after) / 2, old, z)]
        if not codes or code != codes[-1]:
            changes.append(before)
            codes.append(code)
    return changes[1:], codes


def at(t, times, values):
    k = max(i for i, time in enumerate(times[:-1]) if time <= t)
    share = (t - times[k]) / (times[k + 1] - times[k])
    return [(1 - share) * a + share * b for a, b in zip(values[k], values[k + 1], strict=True)]


@given(small_networks())
def test_crossings_are_those_of_exact_rational_arithmetic(case):
    layers, (start, end) = case
    modules = []
    for weight, bias in layers:
        linear = nn.Linear(len(weight[0]), len(weight))
        linear.weight.data, linear.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
        modules += [linear, nn.ReLU()]
    (segment,) = crossings(nn.Sequential(*modules), torch.tensor([start]).float(), torch.tensor([end]).float())
    times, codes = exact_crossings(layers, start, end)
    assert segment.cells.bits().tolist() == codes
    assert segment.times == pytest.approx([float(t) for t in times], abs=1e-10)


def test_a_cell_is_met_once_and_its_neighbours_are_one_bit_away():
    """Cells of all ReLUs are convex, and general position lets a segment cross one border at a time (Lemma 1)."""
    network = mlp(6, 30, 30, 20)
    for segment in crossings(network, *ends(5, 6)):
        bits = segment.cells.bits()
        assert len({row.tobytes() for row in bits}) == len(bits) > 10
        assert ((bits[1:] != bits[:-1]).sum(axis=1) == 1).all()


def test_crossings_of_one_layer_are_those_where_its_bits_change():
    network = mlp(6, 30, 30, 20)
    for joint, last in zip(crossings(network, *ends(5, 6)), crossings(network, *ends(5, 6), layers="5"), strict=True):
        bits = joint.cells.layer("5").bits()
        changed = (bits[1:] != bits[:-1]).any(axis=1)
        assert last.times == pytest.approx(joint.times[changed], abs=1e-10)
        assert np.array_equal(last.cells.bits(), bits[np.append(True, changed)])


def test_neurons_that_are_zero_at_one_place_make_one_transition():
    network = nn.Sequential(nn.Linear(2, 6), nn.ReLU())
    weight = torch.tensor([[1.0, 3.0], [1.0, 3.0], [-2.0, -6.0], [0.25, 0.75], [0.0, 0.0], [1.0, 1.0]])
    network[0].weight.data, network[0].bias.data = weight, torch.tensor([-1.0, -1.0, 2.0, -0.25, 0.0, 9.0])
    (segment,) = crossings(network, torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    assert segment.times == pytest.approx([0.25])
    assert segment.cells.bits().astype(int).tolist() == [[0, 0, 1, 0, 0, 1], [1, 1, 0, 1, 0, 1]]


def test_without_biases_all_is_crossed_at_the_origin():
    """A network without biases is linear along a ray, so a segment through the origin has two stretches."""
    network = mlp(7, 20, 20, 20)
    for module in network:
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()
    point = torch.randn(4, 7)
    for segment in crossings(network, -point, 2 * point):
        assert segment.times == pytest.approx([1 / 3], abs=1e-12)


def test_a_border_that_is_touched_or_where_a_segment_begins_is_not_crossed():
    network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU())
    network[0].weight.data, network[0].bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    network[2].weight.data, network[2].bias.data = torch.ones(1, 2), torch.zeros(1)  # |x|
    (touched,) = crossings(network, torch.tensor([[-1.0]]), torch.tensor([[1.0]]), layers="3")
    assert touched.transitions == 0
    assert touched.cells.bits().tolist() == [[True]]
    (begun,) = crossings(network, torch.tensor([[0.0]]), torch.tensor([[1.0]]))
    assert begun.transitions == 0
    assert begun.cells.bits().tolist() == [[True, False, True]]


def test_a_segment_of_one_point_lies_in_the_cell_of_the_point():
    network, (points, _) = mlp(6, 30, 30), ends(4, 6)
    for point, segment in zip(points, crossings(network, points, points), strict=True):
        assert segment.transitions == 0
        assert np.array_equal(segment.cells.words, capture(network, point[None]).words)


@pytest.mark.parametrize("stored", [1, 10_000, 100_000])
def test_crossings_do_not_depend_on_how_many_are_computed_at_a_time(stored, monkeypatch):
    network, (starts, targets) = mlp(6, 30, 30, 20), ends(9, 6)
    together = crossings(network, starts, targets)
    monkeypatch.setattr(segments, "STORED", stored)
    for one, other in zip(together, crossings(network, starts, targets, batch_size=7), strict=True):
        assert one.times == pytest.approx(other.times, abs=1e-10)
        assert np.array_equal(one.cells.words, other.cells.words)


def test_transitions_are_those_of_the_crossings_between_samples_of_one_class():
    network, (inputs, _) = mlp(6, 20, 20), ends(30, 6)
    labels = np.arange(30) % 4
    first, second = same_class_pairs(labels, 25, seed=3)
    expected = [segment.transitions for segment in crossings(network, inputs[first], inputs[second])]
    counts = segment_transitions(network, inputs, labels, segments=25, seed=3)
    assert counts.dtype == np.int64
    assert counts.tolist() == expected
    assert (segment_transitions(network, inputs, labels, segments=25, seed=4) != counts).any()


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(1, 70), st.integers(0, 5))
def test_pairs_are_different_pairs_of_one_class(labels, count, seed):
    every = {(i, j) for j in range(len(labels)) for i in range(j) if labels[i] == labels[j]}
    if not every:
        with pytest.raises(InputError, match="no two of the"):
            same_class_pairs(labels, count, seed)
        return
    pairs = list(zip(*same_class_pairs(labels, count, seed), strict=True))
    assert len(set(pairs)) == len(pairs) == min(count, len(every))
    assert set(pairs) <= every


def test_pairs_of_classes_of_unequal_size_are_equally_likely():
    """45 pairs of one class and 10 of another: of 20,000 draws of one pair a share of 45 / 55."""
    labels = [0] * 10 + [1] * 5
    drawn = [same_class_pairs(labels, 1, seed)[0][0] < 10 for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(45 / 55, abs=4 * (45 * 10 / 55**2 / 2000) ** 0.5)
    first, second = same_class_pairs(np.zeros(60_000, int), 1000)
    assert (first < second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 1000


class OnAnotherDevice(torch.Tensor):
    """Stands in for a tensor on a GPU, which NumPy can't read before it is copied to the CPU."""

    def __array__(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_labels_may_lie_on_another_device():
    network, (inputs, _) = mlp(6, 20, 20), ends(30, 6)
    labels = torch.arange(30) % 4
    elsewhere = labels.as_subclass(OnAnotherDevice)
    with pytest.raises(TypeError, match="cuda"):
        np.asarray(elsewhere)
    counts = segment_transitions(network, inputs, elsewhere, segments=25)
    assert counts.tolist() == segment_transitions(network, inputs, labels.tolist(), segments=25).tolist()


def test_labels_that_do_not_fit_are_errors():
    network, (inputs, _) = mlp(4, 5), ends(3, 4)
    with pytest.raises(InputError, match="3 inputs and 2 labels"):
        segment_transitions(network, inputs, [1, 1])
    with pytest.raises(InputError, match="one whole number per sample"):
        segment_transitions(network, inputs, [0.5, 1, 1])
    with pytest.raises(InputError, match="pairs 0"):
        segment_transitions(network, inputs, [1, 1, 1], segments=0)
