"""Segments against closed forms, exact rational arithmetic, a fine grid of points, and the geometry of cells."""

import copy
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from linear_pieces import Function
from torch import nn
from torch.nn.utils import prune

from nas_relucode import InputError, capture
from nas_relucode.geometry import segments
from nas_relucode.geometry.program import read_program
from nas_relucode.geometry.segments import crossings, same_class_pairs, segment_transitions


class Residual(nn.Module):
    """Convolutions, BatchNorm with statistics of its own, max-pooling, and a sum of two paths."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.path = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6 * 2 * 2, 8), nn.ReLU(), nn.Linear(8, 3))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, -1, 1)

    def forward(self, images):
        images = F.max_pool2d(self.stem(images), 3, stride=2, padding=1)
        return self.head(F.max_pool2d(F.relu(images + self.path(images)), 2))


def mlp(*widths, seed=0):
    torch.manual_seed(seed)
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*[module for pair in layers for module in pair])


def ends(count, *shape, seed=0):
    return torch.randn(2, count, *shape, generator=torch.Generator().manual_seed(seed))


def check_against_grid(network, start, end, segment, layers="all", points=2000):
    """At each point of a fine grid the code is that of the stretch in which it lies, so no transition is missing."""
    t = np.linspace(0, 1, points + 1)[:-1] + 0.5 / points
    share = torch.from_numpy(t).reshape(-1, *[1] * start.ndim)
    grid = (1 - share) * start.double() + share * end.double()
    codes = capture(copy.deepcopy(network).double(), grid, layers=layers)
    assert [(layer.name, layer.shape, layer.start) for layer in codes.layers] == [
        (layer.name, layer.shape, layer.start) for layer in segment.cells.layers
    ]
    apart = np.abs(t[:, None] - segment.times[None]).min(axis=1, initial=1) > 1e-7
    stretch = np.searchsorted(segment.times, t)
    assert np.array_equal(codes.words[apart], segment.cells.words[stretch[apart]])
    changes = int((codes.words[apart][1:] != codes.words[apart][:-1]).any(axis=1).sum())
    assert changes <= segment.transitions


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


class Written(nn.Module):
    """Shifts its features by writing into new memory, as temporal shift modules do."""

    def forward(self, x):
        shifted = torch.zeros_like(x)
        shifted[:, :5], shifted[:, 5:] = x[:, 5:], x[:, :5]
        return shifted


BEYOND_PROGRAMS = {
    "writes into memory": Written(),
    "a cumulative sum": Function(lambda x: x.cumsum(1)),
    "a Fourier transform": Function(lambda x: torch.fft.rfft(x, norm="ortho").real.repeat(1, 2)[:, :10]),
    "chosen features": Function(lambda x: x[:, [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]]),
    "a constant mask": Function(lambda x: x.masked_fill(torch.arange(10) < 3, 0.5)),
    "a question with one answer": Function(lambda x: x if torch.isfinite(x).all() else 0 * x),
    "NumPy": Function(lambda x: torch.from_numpy(x.numpy()[:, ::-1].copy())),
}


@pytest.mark.parametrize("name", BEYOND_PROGRAMS)
def test_what_no_program_can_express_is_followed(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 10), nn.ReLU(), BEYOND_PROGRAMS[name], nn.Linear(10, 12), nn.ReLU())
    with pytest.raises(InputError):
        read_program(network, torch.randn(1, 5))
    starts, targets = ends(4, 5)
    segments = crossings(network, starts, targets)
    assert sum(segment.transitions for segment in segments) > 10
    for start, end, segment in zip(starts, targets, segments, strict=True):
        check_against_grid(network, start, end, segment)


def test_a_recurrent_network_is_followed():
    torch.manual_seed(0)
    network, (starts, targets) = nn.RNN(4, 8, nonlinearity="relu", batch_first=True), ends(3, 6, 4)
    with pytest.raises(InputError):
        read_program(network, starts[:1])
    for start, end, segment in zip(starts, targets, crossings(network, starts, targets), strict=True):
        assert segment.transitions > 5
        check_against_grid(network, start, end, segment)


def test_convolutions_batch_norm_max_pooling_and_residual_paths_are_followed():
    torch.manual_seed(1)
    network = Residual()
    starts, targets = ends(3, 2, 8, 8)
    for layers in ("all", "head", ["stem.*", "relu"]):
        crossed = crossings(network, starts, targets, layers=layers)
        for start, end, segment in zip(starts, targets, crossed, strict=True):
            check_against_grid(network, start, end, segment, layers)
    assert min(one.transitions for one in crossings(network, starts, targets)) > 100


BENDING = {
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.3),
    "negative slope": lambda x: F.leaky_relu(x, -0.7),
    "prelu": lambda x: F.prelu(x, torch.tensor([-0.5], dtype=x.dtype)),
    "rrelu": lambda x: F.rrelu(x, training=False),
    "abs": torch.abs,
    "clamp": lambda x: x.clamp(-0.4, 0.3),
    "clamp to a tensor": lambda x: x.clamp(min=torch.tensor(0.2, dtype=x.dtype)),
    "clamp_min": lambda x: x.clamp_min(0.1),
    "clamp_max in place": lambda x: (x + 0).clamp_max_(0.1),
    "relu in place": lambda x: (x - 0.2).relu_(),
    "threshold": lambda x: F.threshold(x, 0.3, 0.3),
    "hardsigmoid": lambda x: F.hardsigmoid(9 * x),
    "softshrink": lambda x: F.softshrink(x, 0.2),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "minimum": lambda x: torch.minimum(x, 0.3 * x.flip(1)),
    "amax": lambda x: x.reshape(len(x), 4, 4, 3).amax((1, 3)),
    "amin": lambda x: x.reshape(len(x), 4, 12).amin(-1, keepdim=True),
    "max over a dimension": lambda x: x.reshape(len(x), 12, 4).max(dim=1).values,
    "min over a dimension": lambda x: x.reshape(len(x), 12, 4).min(1)[0],
    "max_pool1d": lambda x: F.max_pool1d(x.reshape(len(x), 3, 16), 5, 2, padding=2),
    "max_pool2d": lambda x: F.max_pool2d(x.reshape(len(x), 3, 4, 4), 3, 2, padding=1, ceil_mode=True),
    "dilated max_pool2d": lambda x: F.max_pool2d(x.reshape(len(x), 3, 4, 4), 2, 1, dilation=2),
    "max_pool3d": lambda x: F.max_pool3d(x.reshape(len(x), 2, 2, 3, 4), (2, 3, 2), 1),
    "adaptive_max_pool1d": lambda x: F.adaptive_max_pool1d(x.reshape(len(x), 4, 12), 5),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x.reshape(len(x), 3, 4, 4), 3),
}


@pytest.mark.parametrize("name", BENDING)
def test_bends_before_a_relu_are_followed(name):
    torch.manual_seed(2)
    bend = Function(BENDING[name])
    width = bend(torch.zeros(1, 48)).numel()
    network = nn.Sequential(
        nn.Linear(5, 48), bend, nn.Flatten(), nn.BatchNorm1d(width), nn.Linear(width, 30), nn.ReLU()
    )
    with torch.no_grad():  # so that the last ReLUs are crossed
        features = network[:3](ends(100, 5)[0])
        network[3].running_mean, network[3].running_var = features.mean(0), features.var(0) + 1e-3
    starts, targets = ends(3, 5, seed=3)
    crossed = crossings(network, starts, targets, layers="5")
    assert sum(one.transitions for one in crossed) > 5
    for start, end, one in zip(starts, targets, crossed, strict=True):
        check_against_grid(network, start, end, one, "5")


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


SMOOTH = {
    "GELU": nn.GELU(),
    "tanh": nn.Tanh(),
    "LayerNorm": nn.LayerNorm(12),
    "softmax": nn.Softmax(1),
    "attention": nn.Sequential(nn.Unflatten(1, (3, 4)), nn.TransformerEncoderLayer(4, 2, 8, 0, batch_first=True)),
    "a product": Function(lambda x: x * x.flip(1)),
    "a ReLU written as a product": Function(lambda x: x * (x > 0)),
    "torch.where": Function(lambda x: torch.where(x > 0, x, 0)),
    "batch statistics": nn.BatchNorm1d(12, track_running_stats=False),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_layer_behind_what_is_not_piecewise_linear_is_refused_by_name(name):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 12), SMOOTH[name], nn.Flatten(), nn.Linear(12, 9)
    )
    network.append(nn.ReLU())
    with pytest.raises(InputError, match=r"the input of (6|3\.1) is off a straight line .* Choose layers before"):
        crossings(network, *ends(4, 5))
    before = crossings(network[:2], *ends(4, 5))
    for one, other in zip(before, crossings(network, *ends(4, 5), layers="1"), strict=True):
        assert np.array_equal(one.times, other.times)


def test_a_smooth_layer_is_refused_although_the_points_stand_close():
    """Between thousands of borders of a first layer a GELU looks straight."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4000), nn.ReLU(), nn.Linear(4000, 50), nn.GELU(), nn.Linear(50, 50), nn.ReLU())
    with pytest.raises(InputError, match="the input of 5 is off a straight line"):
        crossings(network, *ends(1, 5))


def test_the_network_is_unchanged():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 3, 1))
    network.append(nn.ReLU())
    network.train()[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes, state = [module.training for module in network.modules()], torch.get_rng_state()
    crossings(network, *ends(2, 2, 5, 5))
    after = network.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
        assert after[name].dtype == value.dtype
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda network: torch.jit.trace(network, ends(1, 6))])
def test_a_wrapped_network_has_the_crossings_of_the_one_inside(wrap):
    network, (starts, targets) = mlp(6, 20, 20), ends(3, 6)
    for one, other in zip(crossings(wrap(network), starts, targets), crossings(network, starts, targets), strict=True):
        assert np.array_equal(one.times, other.times)
        assert one.cells.layers == other.cells.layers
        assert np.array_equal(one.cells.words, other.cells.words)


def test_a_network_of_several_tensors_is_called_by_forward():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 9), nn.Linear(3, 9)

        def forward(self, *, a, b):
            return F.relu(self.first(a) + self.second(b))

    network, (starts, targets) = Two(), ends(3, 5)
    crossed = crossings(network, starts, targets, forward=lambda net, x: net(a=x[:, :2], b=x[:, 2:]))
    single = nn.Sequential(nn.Linear(5, 9), nn.ReLU())
    single[0].weight.data = torch.hstack([network.first.weight, network.second.weight]).detach()
    single[0].bias.data = (network.first.bias + network.second.bias).detach()
    for one, other in zip(crossed, crossings(single, starts, targets), strict=True):
        assert one.times == pytest.approx(other.times, abs=1e-6)
        assert np.array_equal(one.cells.bits(), other.cells.bits())


def test_a_path_that_does_not_depend_on_the_input_has_no_borders():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.linear, self.sum = nn.Parameter(torch.randn(1, 9)), nn.Linear(4, 9), nn.ReLU()

        def forward(self, x):
            return self.sum(self.linear(x) + F.relu(self.gate).expand(len(x), 9))

    network, (starts, targets) = Gated(), ends(3, 4)
    for start, end, one in zip(starts, targets, crossings(network, starts, targets, layers="sum"), strict=True):
        check_against_grid(network, start, end, one, "sum")


def test_a_forward_pass_that_takes_another_path_is_refused():
    network = nn.Sequential(nn.Linear(4, 9), Function(lambda x: F.relu(x) if x.sum() > 0 else F.relu(-x).abs()))
    with pytest.raises(InputError, match="calls other operations on segment"):
        crossings(network, *(10 * ends(20, 4)), batch_size=1)


def test_segments_that_cannot_be_followed_are_errors():
    network, (starts, targets) = mlp(4, 5), ends(2, 4)
    with pytest.raises(InputError, match=r"shape \(2, 4\), the ends \(1, 4\)"):
        crossings(network, starts, targets[:1])
    with pytest.raises(InputError, match="at least one"):
        crossings(network, starts[:0], targets[:0])
    with pytest.raises(InputError, match="not finite"):
        crossings(network, starts, targets * np.inf)
    with pytest.raises(InputError, match="no layer matches conv"):
        crossings(network, starts, targets, layers="conv")
    with pytest.raises(InputError, match="batch size 0"):
        crossings(network, starts, targets, batch_size=0)
    with pytest.raises(InputError, match=r"called no ReLU|no ReLU"):
        crossings(nn.Linear(4, 4), starts, targets)
    prune.l1_unstructured(network[0], "weight", 3)
    with pytest.raises(InputError, match=r"cannot be copied.*prune\.remove"):
        crossings(network, starts, targets)
    prune.remove(network[0], "weight")
    assert len(crossings(network, starts, targets)) == 2


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


def test_labels_that_do_not_fit_are_errors():
    network, (inputs, _) = mlp(4, 5), ends(3, 4)
    with pytest.raises(InputError, match="3 inputs and 2 labels"):
        segment_transitions(network, inputs, [1, 1])
    with pytest.raises(InputError, match="one whole number per sample"):
        segment_transitions(network, inputs, [0.5, 1, 1])
    with pytest.raises(InputError, match="0 pairs are too few"):
        segment_transitions(network, inputs, [1, 1, 1], segments=0)
