"""Codes against activations kept by hand, for every way to call a ReLU, and a network that is given back as it was."""

import copy
import io
import pickle

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nas_relucode import InputError, build_network, capture, pack
from nas_relucode.capture import capture_with_outputs


class Functional(nn.Module):
    """Keeps the activations that its forward pass computed, to compare codes with."""

    def __init__(self, relu=functional.relu):
        super().__init__()
        self.first, self.second = nn.Linear(5, 70), nn.Linear(70, 64)
        self.relu = relu
        self.kept = []

    def forward(self, x):
        a = self.relu(self.first(x))
        b = self.relu(self.second(a))
        self.kept.append((a.detach().clone(), b.detach().clone()))
        return b.sum(dim=1, keepdim=True)


def inputs(samples, features=5, seed=0):
    return torch.randn(samples, features, generator=torch.Generator().manual_seed(seed))


@given(arrays.arrays(bool, st.tuples(st.integers(0, 9), st.sampled_from([1, 63, 64, 65, 130]))))
def test_packing_and_unpacking_is_the_identity(bits):
    codes = pack(bits)
    assert np.array_equal(codes.bits(), bits)
    assert codes.words.dtype == np.uint64
    assert codes.words.shape == (len(bits), -(-bits.shape[1] // 64))


@pytest.mark.parametrize(
    "relu",
    [
        functional.relu,
        lambda x: x.relu(),
        lambda x: x.relu_(),
        nn.ReLU(),
        nn.ReLU(inplace=True),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp_min(0),
        lambda x: functional.threshold(x, 0, 0),
        nn.ReLU6(),
        nn.LeakyReLU(0.1),
        functional.leaky_relu_,
        nn.PReLU(),
    ],
)
def test_a_bit_is_one_where_the_activation_is_positive(relu):
    torch.manual_seed(0)
    network = Functional(relu)
    codes = capture(network, inputs(11), batch_size=4)
    positive = torch.cat([torch.cat([a, b], dim=1) for a, b in network.kept]) > 0
    assert [layer.neurons for layer in codes.layers] == [70, 64]
    assert np.array_equal(codes.bits(), positive.numpy())


def test_an_activation_of_zero_has_bit_zero():
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    codes = capture(nn.Sequential(layer, nn.ReLU()), torch.tensor([[-1.0], [0.0], [1e-30]]))
    assert codes.bits()[:, 0].tolist() == [False, False, True]


@pytest.mark.parametrize(
    "other", [nn.Tanh(), nn.GELU(), nn.Hardtanh(), lambda x: x.clamp(min=-1), lambda x: x.clamp(max=0)]
)
def test_a_network_without_relus_is_an_error_that_names_its_modules(other):
    with pytest.raises(InputError, match=r"Functional called no ReLU.*Linear"):
        capture(Functional(other), inputs(3))


def test_layers_are_named_by_the_module_that_calls_the_relu():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            return functional.relu(self.act(self.linear(self.act(x))))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return self.block(self.block(x)).relu()

    names = [layer.name for layer in capture(Twice(), inputs(2, 4)).layers]
    assert names == ["block.act", "block.act#2", "block", "block.act#3", "block.act#4", "block#2", "relu"]


def test_layers_are_chosen_by_name_prefix_or_glob():
    network = build_network("8-8-8", (1, 8, 8), 10, backbone="small_conv")
    images = torch.rand(3, 1, 8, 8)

    def names(layers):
        return [layer.name for layer in capture(network, images, layers=layers).layers]

    assert names("all") == ["backbone.1", "backbone.3", "head.1", "head.3", "head.5"]
    assert names("head") == ["head.1", "head.3", "head.5"]
    assert names("head.3") == ["head.3"]
    assert names(["backbone", "*.5"]) == ["backbone.1", "backbone.3", "head.5"]
    with pytest.raises(InputError, match=r"no layer matches tail. Known: all, backbone.1, .*head.5"):
        names("tail")


def test_transformers_show_the_relus_that_their_fused_path_hides():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    network = nn.Sequential(encoder, nn.Flatten(), nn.Linear(24, 4), nn.ReLU())
    words = torch.randn(7, 3, 8)
    codes = capture(network, words)
    assert [layer.name for layer in codes.layers] == ["0", "3"]
    with torch.no_grad():
        attended = encoder.norm1(words + encoder.self_attn(words, words, words, need_weights=False)[0])
        hidden = encoder.linear1(attended) > 0
    assert np.array_equal(codes.layer("0").bits(), hidden.flatten(1).numpy())
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_negative_slope_does_not_hide_a_layer():
    layer = nn.PReLU(4)
    layer.weight.data[2] = -0.3
    x = inputs(9, 4)
    assert np.array_equal(capture(nn.Sequential(layer), x).bits(), (x > 0).numpy())


def test_joint_codes_are_the_layers_side_by_side():
    network = build_network("70-8", (1, 8, 8), 10, backbone="small_conv")
    codes = capture(network, torch.rand(5, 1, 8, 8))
    assert codes.layers[0].shape == (8, 4, 4)
    side_by_side = np.hstack([codes.layer(layer.name).bits() for layer in codes.layers])
    assert np.array_equal(codes.bits(), side_by_side)
    with pytest.raises(InputError, match=r"unknown layer 'head.9'. Known: backbone.1"):
        codes.layer("head.9")


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_codes_do_not_depend_on_the_batch_size_or_the_order(batch_size):
    network = build_network("32-16", (1, 8, 8), 10, backbone="small_conv")
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    codes = capture(network, images)
    assert np.array_equal(capture(network, images, batch_size=batch_size).words, codes.words)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    assert np.array_equal(capture(network, images[order], batch_size=batch_size).words, codes.words[order.numpy()])


class Restless(nn.Module):
    """Changes whatever a forward pass can change: batch statistics, a buffer, random numbers."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout())
        self.frozen = nn.BatchNorm2d(4).eval()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        torch.rand(3)
        return self.frozen(self.body(x)).mean(dim=(2, 3))


def fingerprint(network):
    tensors = io.BytesIO()
    torch.save(network.state_dict(), tensors)
    modes = [module.training for module in network.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()]
    return tensors.getvalue(), modes, hooks, pickle.dumps(network)


def test_a_network_is_left_as_it_was():
    network, images = Restless().train(), torch.rand(5, 1, 8, 8)
    before, random = fingerprint(network), torch.random.get_rng_state()
    capture(network, images, batch_size=2)
    assert fingerprint(network) == before
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_network_that_raises_is_left_as_it_was():
    network = Restless().train()
    before = fingerprint(network)
    with pytest.raises(RuntimeError):
        capture(network, torch.rand(5, 2, 8, 8))  # two channels instead of one
    assert fingerprint(network) == before
    assert torch.nn.modules.module._global_forward_hooks == {}
    assert torch.nn.modules.module._global_forward_pre_hooks == {}


def test_codes_are_those_of_evaluation_mode():
    network = Restless()
    network.body[1].running_mean += 0.3
    images = torch.rand(6, 1, 8, 8)
    expected = copy.deepcopy(network).eval().body[:3](images) > 0
    assert np.array_equal(capture(network.train(), images).bits(), expected.flatten(1).numpy())


def test_autocast_outside_does_not_reach_the_codes():
    network = build_network("64-64", (1, 8, 8), 10, backbone="none")
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    codes = capture(network, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(capture(network, images).words, codes.words)


def test_the_outputs_are_those_of_the_same_forward_pass():
    network = build_network("16", (1, 8, 8), 10, backbone="none").eval()
    images = torch.rand(9, 1, 8, 8)
    _, outputs = capture_with_outputs(network, images, batch_size=9)
    assert torch.equal(outputs, network(images))


def test_equal_codes_give_the_same_affine_map():
    """Section 2: where codes are equal the network is one affine map, here solved for from some points of a cell."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    points = torch.randn(4000, 2, dtype=torch.float64)
    codes, outputs = capture_with_outputs(network, points)
    rows, counts = np.unique(codes.bits(), axis=0, return_counts=True)
    for row in rows[counts >= 8]:
        inside = np.flatnonzero((codes.bits() == row).all(axis=1))
        lifted = np.hstack([points[inside].numpy(), np.ones((len(inside), 1))])
        affine, *_ = np.linalg.lstsq(lifted[:4], outputs[inside[:4]].numpy())
        assert np.allclose(lifted @ affine, outputs[inside].numpy(), atol=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_a_code_is_constant_on_segments_inside_its_cell(seed):
    """Theorem 1: cells are convex, so a segment between two points of one cell does not leave it."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network("6-6", (1, 1, 2), 2, backbone="none", seed=seed).double()
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.bias.data = torch.randn(module.bias.shape, generator=generator, dtype=torch.float64) / 2
    points = torch.randn(60, 1, 1, 2, generator=generator, dtype=torch.float64)
    bits = capture(network, points).bits()
    for i in range(0, len(points), 7):
        for j in np.flatnonzero((bits == bits[i]).all(axis=1)):
            steps = torch.linspace(0, 1, 11, dtype=torch.float64).reshape(-1, 1, 1, 1)
            assert (capture(network, points[i] + steps * (points[j] - points[i])).bits() == bits[i]).all()


def test_no_samples_and_other_bad_input_are_errors():
    network = Functional()
    with pytest.raises(InputError, match="no samples"):
        capture(network, torch.zeros(0, 5))
    with pytest.raises(InputError, match="batch size 0"):
        capture(network, inputs(2), batch_size=0)
    with pytest.raises(InputError, match=r"layer 'relu' has activations that are not finite"):
        capture(network, torch.full((2, 5), torch.nan))
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        pack([1, 0, 1])


def test_samples_must_come_first():
    class Transposed(nn.Module):
        def forward(self, x):
            return x.T.relu()

    with pytest.raises(InputError, match=r"layer 'relu' gives an activation of shape \(5, 3\) for a batch of 3"):
        capture(Transposed(), inputs(3))


def test_a_network_that_calls_other_relus_for_other_samples_is_an_error():
    class Branching(nn.Module):
        def forward(self, x):
            return x.relu() if x.sum() > 0 else x.relu().relu()

    with pytest.raises(InputError, match="other ReLUs for sample 1 than for sample 0"):
        capture(Branching(), torch.tensor([[1.0], [-1.0]]), batch_size=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_codes_on_a_gpu_are_those_of_the_cpu():
    network = build_network("64-32", (1, 8, 8), 10, backbone="small_conv").double()
    images = torch.rand(300, 1, 8, 8, dtype=torch.float64)
    assert np.array_equal(capture(network.cuda(), images).words, capture(network.cpu(), images).words)
