"""What a recording must follow, and what it must refuse by the name of the module: otherwise cells are wrong."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from linear_pieces import Function, check_last_layer, odd_statistics
from relu_networks import scripted
from torch import nn
from torch.nn.utils import prune

from nas_relucode import InputError
from nas_relucode.errors import NonFiniteError
from nas_relucode.geometry.program import read_program

LINEAR = lambda *widths: nn.Linear(*(widths or (4, 4)))  # noqa: E731


class Residual(nn.Module):
    """A module that is used twice, sums in place, and a ReLU in place on a view."""

    def __init__(self):
        super().__init__()
        self.linear, self.act, self.norm = nn.Linear(6, 6), nn.ReLU(inplace=True), nn.BatchNorm1d(6)

    def forward(self, x):
        out = self.norm(self.linear(x))
        out += x
        out = self.act(out)
        out = self.linear(out).view(len(x), 2, 3).relu_()
        out = out.flatten(1)
        out = out * 0.5
        out -= self.act(self.norm(x))
        return out


def test_modules_used_twice_and_operations_in_place_are_followed():
    torch.manual_seed(0)
    program = check_last_layer(nn.Sequential(odd_statistics(Residual()), nn.Linear(6, 7)), 6)
    assert program.layers == ["0.0.act", "0.0", "0.0.act#2", "1"]


class Overwritten(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.linear, self.act, self.way = LINEAR(), nn.ReLU(), way
        self.register_buffer("kept", torch.zeros(4))

    def forward(self, x):
        return self.act(self.way(self, self.linear(x)))


def through_a_view(network, x):
    x[:, 1:].relu_()
    return x


def of_its_base(network, x):
    part = x[:, :2]
    x.mul_(2)
    return torch.cat([part, part], 1)


def by_parts(network, x):
    out = torch.empty(x.shape, dtype=x.dtype)
    out[:, :2], out[:, 2:] = x[:, 2:], x[:, :2]
    return out


def into_a_buffer(network, x):
    network.kept.copy_(x.mean(0))
    return x


def running(network, x):
    network.kept += x.mean(0)
    return x - network.kept


def over_an_activation(network, x):
    x.zero_()
    return x


def by_out(network, x):
    return torch.add(x, x, out=torch.empty(x.shape, dtype=x.dtype))


def by_out_of_a_clamp(network, x):
    return torch.clamp(x, min=0.5, out=torch.empty(x.shape, dtype=x.dtype))


def by_fill(network, x):
    x[:, 0] = 1.0
    return x


WRITES = [
    through_a_view,
    of_its_base,
    by_parts,
    into_a_buffer,
    running,
    over_an_activation,
    by_out,
    by_out_of_a_clamp,
    by_fill,
]


@pytest.mark.parametrize("way", WRITES)
def test_memory_that_is_overwritten_is_refused_by_name(way):
    with pytest.raises(InputError, match=r"^(the network itself|act) \(\w+\) (can't be read|writes activations into)"):
        read_program(Overwritten(way), torch.randn(1, 4))


def test_a_counter_in_a_buffer_is_allowed():
    def count(network, x):
        network.kept += 1
        return x

    network = Overwritten(count)
    assert read_program(network, torch.randn(1, 4)).layers == ["act"]
    assert not network.kept.any()


SMOOTH = {
    "gelu": nn.GELU(),
    "tanh": nn.Tanh(),
    "silu": nn.SiLU(),
    "native_layer_norm": nn.LayerNorm(12),
    "native_group_norm": nn.GroupNorm(3, 12),
    "_softmax": nn.Softmax(1),
    "native_batch_norm": nn.BatchNorm1d(12, track_running_stats=False),
    "threshold": nn.Threshold(0.5, 0),
    "hardswish": nn.Hardswish(),
    "clamp": Function(lambda x: x.clamp(min=torch.zeros(12).double())),
    "where": Function(lambda x: torch.where(x > 0, x, 0)),
    "embedding": Function(lambda x: F.embedding((x > 0).long(), torch.ones(2, 1).double()).flatten(1)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_layer_behind_what_is_not_piecewise_linear_is_refused_by_name(name):
    network = nn.Sequential(LINEAR(5, 12), nn.ReLU(), LINEAR(12, 12), SMOOTH[name], LINEAR(12, 9), nn.ReLU())
    name = "gt" if name in ("embedding", "where") else name
    with pytest.raises(InputError, match=rf"^3(\.1)? \({name}\) can't be read as piecewise linear, and") as raised:
        read_program(network, torch.randn(2, 5))
    assert "Name with module= a part" in str(raised.value)
    assert read_program(network[:2], torch.randn(2, 5)).layers == ["1"]


HYPERNETWORK = Function(lambda x: F.prelu(x, x.mean((0, 1)).reshape(1)))


def test_attention_is_refused_by_name():
    encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    network = nn.Sequential(nn.Unflatten(1, (3, 4)), encoder, nn.Flatten(), LINEAR(12, 2), nn.ReLU())
    with pytest.raises(InputError, match=r"^1\.self_attn \(\w+\) can't be read"):
        read_program(network, torch.randn(1, 12))


@pytest.mark.parametrize(
    "last",
    [Function(lambda x: F.relu(x.reshape(1, -1)).reshape(x.shape)), Function(lambda x: F.relu(x.T).T), HYPERNETWORK],
)
def test_bits_that_would_be_missing_are_refused(last):
    """The last bend has bits in the code, although nothing comes behind it."""
    network = nn.Sequential(LINEAR(), nn.ReLU(), LINEAR(), last)
    with pytest.raises(InputError, match=r"^3 \(\w+\) can't be read as piecewise linear, and"):
        read_program(network, torch.randn(1, 4))


ASKS = {
    "the sum": lambda x: x if x.sum() > 0 else -x,
    "one element": lambda x: x * (1 if x[0, 0] > 0 else 2),
    "a number": lambda x: x * x.mean().item(),
    "whether all are equal": lambda x: x if torch.equal(x, x) else -x,
}


@pytest.mark.parametrize("name", ASKS)
def test_a_path_that_depends_on_the_data_is_refused_by_name(name):
    network = nn.Sequential(LINEAR(), Function(ASKS[name]), nn.ReLU())
    with pytest.raises(InputError, match=r"^1 \(\w+\) asks for an activation's value as a number"):
        read_program(network, torch.randn(1, 4))


def test_a_path_that_depends_on_the_data_unseen_by_torch_is_refused():
    for function in (
        lambda x: x + torch.from_numpy(np.sin(x.detach().numpy())),
        lambda x: x + torch.tensor(x.tolist(), dtype=x.dtype).sin(),
    ):
        for layers in ([Function(function), nn.ReLU()], [nn.ReLU(), Function(function)]):
            with pytest.raises(InputError, match="computes something else for other inputs"):
                read_program(nn.Sequential(LINEAR(), *layers), torch.ones(1, 4))


def test_noise_is_refused():
    network = nn.Sequential(LINEAR(), Function(lambda x: x + torch.rand(4)), nn.ReLU())
    with pytest.raises(InputError, match="computes something else"):
        read_program(network, torch.ones(1, 4))


def test_what_does_not_depend_on_the_input_is_no_layer():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.linear, self.act = nn.Parameter(torch.randn(1, 9)), LINEAR(4, 9), nn.ReLU()

        def forward(self, x):
            return self.act(self.linear(x) + F.relu(self.gate).expand(len(x), 9)) * self.gate.sigmoid()

    assert read_program(Gated(), torch.randn(3, 4)).layers == ["act"]


def test_a_network_must_return_one_tensor():
    with pytest.raises(InputError, match="Function does not return one tensor made of its input"):
        read_program(Function(lambda x: (x, F.relu(x))), torch.ones(1, 5))
    with pytest.raises(InputError, match="does not return one tensor"):
        read_program(nn.Sequential(LINEAR(), nn.ReLU(), Function(lambda x: torch.ones(5, 1))), torch.ones(1, 4))


def everything():
    torch.manual_seed(0)
    body = [
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.MaxPool2d(2),
        nn.Flatten(),
    ]
    return nn.Sequential(nn.Sequential(*body), nn.Sequential(LINEAR(3, 3), nn.ReLU(), nn.Dropout(0.9)))


def test_the_network_is_unchanged():
    network = everything()
    network.train()[0][1].eval()
    images, before, state = torch.randn(2, 2, 5, 5), pickle.dumps(network), torch.get_rng_state()
    kept = images.clone()
    read_program(network, images, module="1")
    program = read_program(network, images)
    assert pickle.dumps(network) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, kept)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    twin = copy.deepcopy(network).eval().double()
    *_, (_, outputs, _, _) = program.run(program.points(images))
    assert torch.allclose(outputs, twin(images.double()), atol=1e-12)


def test_in_training_mode_the_evaluation_mode_is_read():
    network, images = odd_statistics(everything()), torch.randn(2, 2, 5, 5)
    for one, other in zip(
        *(read_program(some, images).run(images.double()) for some in (network.train(), copy.deepcopy(network).eval())),
        strict=True,
    ):
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_network_is_read_as_the_one_inside(wrap):
    network, images = everything(), torch.randn(2, 2, 5, 5)
    plain, wrapped = (read_program(some, images) for some in (network, wrap(network)))
    inside = read_program(nn.Sequential(wrap(network[0]), network[1]), images)
    assert plain.layers == wrapped.layers == inside.layers == ["0.2", "0.4 (max_pool2d_with_indices)", "1.1"]
    for pieces in zip(*(program.run(images.double()) for program in (plain, wrapped, inside)), strict=True):
        assert torch.equal(pieces[0][1], pieces[1][1])
        assert torch.equal(pieces[0][1], pieces[2][1])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
def test_torchscript_is_refused():
    with pytest.raises(InputError, match=r"TorchScript, which can't be read\. Give it as it was written"):
        read_program(nn.Sequential(scripted(everything())), torch.ones(1, 2, 5, 5))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_and_examples_that_are_not_finite_are_refused(value):
    network = everything()
    with pytest.raises(NonFiniteError, match="the example is NaN or infinite"):
        read_program(network, torch.full((1, 2, 5, 5), value))
    network[1][0].bias.data[1] = value
    with pytest.raises(NonFiniteError, match=r"^1\.0\.bias has values that are NaN or infinite"):
        read_program(network, torch.ones(1, 2, 5, 5))
    with pytest.raises(NonFiniteError, match="Sequential computes values that are NaN or infinite"):
        read_program(nn.Sequential(LINEAR(), Function(lambda x: x * value), nn.ReLU()), torch.ones(1, 4))


def test_weights_that_cannot_be_copied_are_refused():
    network = nn.Sequential(LINEAR(), nn.ReLU())
    prune.l1_unstructured(network[0], "weight", 3)
    with pytest.raises(InputError, match=r"cannot be copied.*prune\.remove"):
        read_program(network, torch.ones(1, 4))
    prune.remove(network[0], "weight")
    assert read_program(network, torch.ones(1, 4)).widths == [4]
