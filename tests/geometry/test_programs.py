"""Whole networks against their own forward pass, autograd along directions, and their captured codes."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from linear_pieces import Function, in_float64, jacobians, odd_statistics, points_of, read_pieces
from pooled_networks import mlp
from torch import nn

from nas_relucode import InputError, build_network, capture
from nas_relucode.errors import NonFiniteError
from nas_relucode.evidence import nas_bench_201
from nas_relucode.geometry.program import read_program


def check_network(network, *shape):
    """Outputs, their derivatives along directions, codes and layers are those of the network itself in float64."""
    points, directions = points_of(*shape, count=2), points_of(*shape, count=2, seed=1)
    program, exact = read_program(network, points), in_float64(network)
    *_, (at, outputs, _, moved) = program.run(points, directions[:, None])
    expected, derivatives = torch.autograd.functional.jvp(exact, points, directions)
    assert at == -1
    assert torch.allclose(outputs, expected, rtol=1e-9, atol=1e-9 * expected.abs().max())
    assert torch.allclose(moved[:, 0], derivatives, rtol=1e-9, atol=1e-9 * derivatives.abs().max())
    codes = capture(exact, points)
    assert np.array_equal(program.bits(points), codes.bits())
    assert list(itertools.compress(program.layers, program.has_bits)) == [layer.name for layer in codes.layers]
    return program


NETWORKS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=4),
    "shufflenet": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=4),
    "squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=4),
    "mnasnet": lambda: torchvision.models.mnasnet0_5(num_classes=4),
    "vgg11_bn": lambda: torchvision.models.vgg11_bn(num_classes=4).features,
    "NAS-Bench-201": lambda: nas_bench_201.build(
        "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|none~0|nor_conv_1x1~1|skip_connect~2|", cells=1
    ),
}
DEEP = {
    "resnet50": lambda: torchvision.models.resnet50(num_classes=4),
    "densenet121": lambda: torchvision.models.densenet121(num_classes=4),
    "googlenet": lambda: torchvision.models.googlenet(num_classes=4, init_weights=False, aux_logits=False),
    "regnet": lambda: torchvision.models.regnet_x_400mf(num_classes=4),
    "resnext": lambda: torchvision.models.resnext50_32x4d(num_classes=4),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("mnasnet", "vgg11_bn") else n for n in NETWORKS]
)
def test_a_published_network_is_read_as_it_computes(name):
    torch.manual_seed(0)
    check_network(odd_statistics(NETWORKS[name]()), 3, 32, 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_a_deep_published_network_is_read_as_it_computes(name):
    torch.manual_seed(0)
    check_network(odd_statistics(DEEP[name]()), 3, 64, 64)


def test_networks_of_table_1_are_read_as_they_compute():
    program = check_network(build_network("16-12-8", (1, 8, 8), 10, backbone="small_conv"), 1, 8, 8)
    assert program.layers == ["backbone.1", "backbone.3", "head.1", "head.3", "head.5"]
    pools = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    assert check_network(pools, 1, 8, 8).layers == ["1 (max_pool2d_with_indices)", "2"]


def test_every_layers_gradients_are_autograds():
    network, points = mlp(5, 9, 8, 7, 3), points_of(5)
    program, exact = read_program(network, points), in_float64(network)
    for at, (values, slopes) in enumerate(read_pieces(program, points)):
        assert torch.allclose(values, exact[: 2 * at + 1](points), atol=1e-12)
        assert torch.allclose(slopes, jacobians(exact[: 2 * at + 1], points), atol=1e-12)


def test_points_can_be_mapped_as_in_another_cell():
    """In the states of the first point, all points are mapped by its affine map, which a Taylor series gives."""
    network, points = mlp(5, 9, 8, 3), points_of(5, count=4)
    program, exact = read_program(network, points), in_float64(network)
    states = [state for _, _, state, _ in program.run(points[:1], to_the_end=False)]
    *_, (_, outputs, _, _) = program.run(points, decide=lambda at, *_: states[at].expand(4, -1))
    slope = jacobians(exact, points[:1])[0]
    assert torch.allclose(outputs, exact(points[:1]) + (points - points[:1]) @ slope.T, atol=1e-12)


def test_a_module_is_read_on_what_it_is_given():
    network = odd_statistics(build_network("16-12-8", (1, 8, 8), 10, backbone="small_conv"))
    images = torch.rand(600, 1, 8, 8)
    program, exact = read_program(network, images, module="head"), in_float64(network)
    assert torch.allclose(program.example, exact.backbone(images.double()), atol=1e-12)
    alone = read_program(network.head, program.example[:1])
    assert program.layers == alone.layers == ["1", "3", "5"]
    for one, other in zip(program.run(program.example), alone.run(program.example), strict=True):
        assert torch.equal(one[1], other[1])


class Shared(nn.Module):
    """A layer that is called twice, and one of two tensors."""

    def __init__(self):
        super().__init__()
        self.shared, self.pair = nn.Linear(4, 4), nn.Bilinear(4, 4, 2)

    def forward(self, x):
        return self.pair(F.relu(self.shared(F.relu(self.shared(x)))), x)


def test_a_module_that_cannot_be_read_by_itself_is_refused():
    for name, message in [
        ("tail", r"no module 'tail'\. Known: pair, shared"),
        ("shared", r"'shared' is not called once"),
        ("pair", "'pair' takes more than one tensor"),
    ]:
        with pytest.raises(InputError, match=message):
            read_program(Shared(), torch.ones(2, 4), module=name)


class Branches(nn.Module):
    """A smooth branch without a ReLU behind it, which may be added to the outputs."""

    def __init__(self, joined):
        super().__init__()
        self.first, self.second, self.joined = nn.Linear(4, 6), nn.Linear(6, 3), joined

    def forward(self, x):
        x = F.relu(self.first(x))
        smooth = 2 * torch.sigmoid(x).mean(1, keepdim=True)
        x = F.relu(self.second(x))
        return x + smooth if self.joined else x


@pytest.mark.parametrize("joined", [False, True])
def test_smooth_operations_without_a_relu_behind_them_are_allowed(joined):
    torch.manual_seed(0)
    network, points = Branches(joined), points_of(4)
    program, exact = read_program(network, points), in_float64(network)
    *_, (_, x, _, _) = program.run(points, to_the_end=False)
    assert torch.allclose(x, exact.second(F.relu(exact.first(points))), atol=1e-12)
    assert (program.opaque is not None) is joined
    if joined:
        with pytest.raises(InputError, match=r"behind the network itself \(sigmoid\), which is not piecewise linear"):
            list(program.run(points))
    else:
        *_, (_, outputs, _, _) = program.run(points)
        assert torch.allclose(outputs, exact(points), atol=1e-12)


def test_a_softmax_at_the_end_leaves_the_cells():
    network, points = mlp(4, 6, 3), points_of(4)
    with_softmax = nn.Sequential(*network, nn.Softmax(1))
    for one, other in zip(
        *(read_program(net, points).run(points, to_the_end=False) for net in (network, with_softmax)), strict=True
    ):
        assert torch.equal(one[1], other[1])


def test_networks_without_a_relu_are_refused():
    for network in (nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.Identity()):
        with pytest.raises(InputError, match="no ReLU was found before"):
            read_program(network, torch.ones(1, 3))


@pytest.mark.parametrize("shape", [(), (3,), (0, 3)])
def test_an_example_without_samples_is_refused(shape):
    with pytest.raises(InputError, match="samples first"):
        read_program(mlp(3, 3, 3), torch.ones(shape))


def test_points_have_the_networks_shape():
    program = read_program(nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU()), torch.ones(1, 2, 3, 4))
    points = torch.arange(48.0).reshape(2, 2, 3, 4)
    for given in (points, points.flatten(1), points.numpy(), points.tolist(), points.to(torch.bfloat16)):
        assert torch.equal(program.points(given), points.double())
    for given in (points[0], points[0].flatten(), points[:1]):
        assert torch.equal(program.points(given), points[:1].double())
    assert program.points(points[:0]).shape == (0, 2, 3, 4)
    for shape in [(), (23,), (2, 3), (2, 25), (2, 3, 4, 2), (1, 1, 2, 3, 4)]:
        with pytest.raises(InputError, match=r"points have shape .*\. The network takes \(2, 3, 4\) for each"):
            program.points(torch.zeros(shape))
    with pytest.raises(NonFiniteError, match="a point is NaN or infinite"):
        program.points(np.full((2, 24), np.nan))


def test_what_was_read_takes_any_number_of_points():
    program = read_program(
        odd_statistics(build_network("7-5", (1, 8, 8), 3, backbone="small_conv")), torch.rand(1, 1, 8, 8)
    )
    points = points_of(1, 8, 8, count=7)
    together = [x for _, x, _, _ in program.run(points)]
    for count in (0, 1, 3):
        for x, some in zip(together, program.run(points[:count]), strict=True):
            assert some[1].shape == x[:count].shape
            assert torch.allclose(some[1], x[:count], atol=1e-12)


class Skipping(nn.Module):
    def __init__(self, skips):
        super().__init__()
        self.first, self.second, self.skips = nn.Linear(9, 4), nn.Linear(4, 9), skips

    def forward(self, x):
        y = self.second(F.relu(self.first(x)))
        return F.relu(x + y if self.skips else y)


@pytest.mark.parametrize("skips", [False, True])
def test_the_row_space_holds_every_gradient(skips):
    torch.manual_seed(0)
    points = points_of(9, count=5)
    program = read_program(Skipping(skips), points)
    basis = program.row_space()
    assert len(basis) == (9 if skips else 4)
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-12)
    for _, slopes in read_pieces(program, points):
        assert torch.allclose(slopes @ basis.T @ basis, slopes, atol=1e-12)


def test_dead_and_doubled_neurons_leave_the_row_space_whole():
    network = mlp(9, 5, 6, 2)
    network[0].weight.data[1] = 0
    network[0].weight.data[3] = network[0].weight.data[0]
    program = read_program(network, points_of(9))
    basis = program.row_space()
    for _, slopes in read_pieces(program, points_of(9)):
        assert torch.allclose(slopes @ basis.T @ basis, slopes, atol=1e-12)


def test_shared_tangents_are_those_of_each_point():
    maps = [nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    network = odd_statistics(nn.Sequential(*maps, nn.Linear(12, 4), nn.LeakyReLU(0.2), nn.Linear(4, 2)))
    points, directions = points_of(1, 5, 5, count=4), points_of(1, 5, 5, count=3, seed=1)
    program = read_program(network, points)
    shared = list(program.run(points, directions[None]))
    for each, one in zip(program.run(points, directions[None].expand(4, -1, -1, -1, -1)), shared, strict=True):
        assert torch.allclose(each[3], one[3].expand_as(each[3]), atol=1e-14)


def test_double_precision_is_kept_however_the_network_is_stored():
    """Float32 weights are exact in float64, and nothing computed from them is rounded to float32."""
    network, point = mlp(3, 40, 40, 2), points_of(3)
    for dtype in (torch.float32, torch.bfloat16):
        stored = in_float64(network).to(dtype)
        *_, (_, outputs, _, _) = read_program(stored, point).run(point)
        assert torch.allclose(outputs, in_float64(stored)(point), rtol=1e-13, atol=1e-15)


def test_sequences_go_through_linear_layers():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 5), nn.ReLU(), Function(lambda x: x.mT), nn.Linear(3, 2), nn.ReLU(), nn.Flatten()
    )
    check_network(network, 3, 4)


def test_a_modules_inputs_are_kept_before_the_network_overwrites_them():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())

        def forward(self, x):
            y = self.stem(x)
            z = self.block(y)
            y += z
            return y

    torch.manual_seed(0)
    network, x = Late().double(), torch.randn(3, 4, dtype=torch.float64)
    with torch.no_grad():
        given = network.stem(x)
    assert torch.equal(read_program(network, x, module="block").example, given)


def test_the_inputs_of_the_user_are_not_overwritten():
    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(2, 3), nn.ReLU())

        def forward(self, x):
            return self.layer(x.sub_(0.5))

    x = torch.zeros(2, 2, dtype=torch.float64)
    for module in (None, "layer"):
        read_program(Shift(), x, module=module)
        assert (x == 0).all()


def test_networks_are_read_in_inference_mode_too():
    with torch.inference_mode():
        program = read_program(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.rand(1, 1, 5, 5))
    assert program.layers == ["1"]


def test_an_error_of_the_forward_pass_names_the_shape():
    with pytest.raises(InputError, match=r"failed on an input of shape \(2,\) .*RuntimeError"):
        read_program(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.zeros(1, 2))
