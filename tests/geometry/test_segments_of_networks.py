"""Which networks can be followed along segments, against a fine grid of points, and which are refused by name."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from linear_pieces import Function
from segment_grid import check_against_grid, ends, mlp
from torch import nn
from torch.nn.utils import prune

from nas_relucode import InputError
from nas_relucode.geometry.program import read_program
from nas_relucode.geometry.segments import crossings


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


def test_a_program_has_the_crossings_of_the_networks_own_forward_pass():
    """With ``forward`` the network itself is run at every border, and each point is checked to be linear."""
    torch.manual_seed(2)
    bends = nn.Sequential(nn.Linear(5, 12), nn.ReLU6(), nn.Linear(12, 12), nn.Hardtanh(), nn.Linear(12, 9), nn.ReLU())
    bends[2].weight.data *= 9
    for network, shape in ((Residual(), (2, 8, 8)), (bends, (5,)), (mlp(5, 20, 20, 20), (5,))):
        starts, targets = ends(2, *shape)
        carried, repeated = (
            crossings(network, starts, targets, forward=forward) for forward in (None, lambda net, x: net(x))
        )
        assert sum(one.transitions for one in carried) > 10
        for one, other in zip(carried, repeated, strict=True):
            assert one.times == pytest.approx(other.times, abs=1e-12)
            assert np.array_equal(one.cells.words, other.cells.words)


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


SMOOTH = {
    "GELU": nn.GELU(),
    "tanh": nn.Tanh(),
    "LayerNorm": nn.LayerNorm(12),
    "softmax": nn.Softmax(1),
    "attention": nn.Sequential(nn.Unflatten(1, (3, 4)), nn.TransformerEncoderLayer(4, 2, 8, 0, batch_first=True)),
    "a product": Function(lambda x: x * x.flip(1)),
    "a jump": Function(lambda x: x * (x > 0.5)),
    "torch.where": Function(lambda x: torch.where(x > 0.5, x, 0.5)),
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
        assert one.times == pytest.approx(other.times, abs=1e-12)
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
