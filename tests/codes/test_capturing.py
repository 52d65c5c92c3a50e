"""Codes against activations kept by hand, whatever the network, the reading and the form of the data."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from relu_networks import Every, Two, scripted
from torch import nn
from torch.nn import functional

from nas_relucode import InputError, build_network, capture
from nas_relucode.codes.capturing import capture_batches


def inputs(samples, features=5, seed=0):
    return torch.randn(samples, features, generator=torch.Generator().manual_seed(seed))


def kept(network):
    """The activations of every pass but the second to the fourth, which check the network."""
    return torch.cat([torch.cat(pair, dim=1) for pair in network.kept[:1] + network.kept[4:]])


def kept_bits(network):
    return (kept(network) > 0).numpy()


@pytest.mark.parametrize(
    "relu",
    [
        functional.relu,
        lambda x: x.relu_(),
        nn.ReLU(),
        nn.ReLU(inplace=True),
        lambda x: x.clamp(min=0),
        lambda x: functional.threshold(x, 0, 0),
        nn.ReLU6(),
        nn.LeakyReLU(0.1),
        functional.leaky_relu_,
        nn.PReLU(),
    ],
)
def test_a_bit_is_one_where_the_activation_is_positive(relu):
    network = Two(relu)
    codes = capture(network, inputs(11), batch_size=4)
    assert [layer.neurons for layer in codes.layers] == [70, 64]
    assert np.array_equal(codes.bits(), kept_bits(network))


def test_an_activation_of_zero_has_bit_zero():
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    codes = capture(nn.Sequential(layer, nn.ReLU()), torch.tensor([[-1.0], [0.0], [1e-30]]))
    assert codes.bits()[:, 0].tolist() == [False, False, True]


@pytest.mark.parametrize("act", [nn.PReLU(4), nn.LeakyReLU(-0.3), lambda x: functional.leaky_relu_(x.clone(), -0.3)])
def test_a_negative_slope_does_not_hide_a_layer(act):
    class Bent(nn.Module):
        def forward(self, x):
            return act(x)

    if isinstance(act, nn.PReLU):
        act.weight.data[2] = -0.3
    x = inputs(9, 4)
    assert np.array_equal(capture(Bent(), x).bits(), (x > 0).numpy())


def test_codes_of_a_script_are_those_of_the_network():
    network, x = Every().eval(), inputs(7, 4)
    codes = capture(network, x)
    assert capture(scripted(network), x).layers == codes.layers
    assert np.array_equal(capture(scripted(network), x).words, codes.words)


def test_transformers_are_read_in_their_plain_path():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    network = nn.Sequential(encoder, nn.Flatten(), nn.Linear(24, 4), nn.ReLU())
    words = torch.randn(7, 3, 8)
    codes = capture(network, words)
    with torch.no_grad():
        attended = encoder.norm1(words + encoder.self_attn(words, words, words, need_weights=False)[0])
        hidden = encoder.linear1(attended) > 0
    assert np.array_equal(codes.layer("0").bits(), hidden.flatten(1).numpy())


def test_layers_are_labelled_and_smooth_ones_read_at_zero_on_request():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.gelu, self.silu = nn.ReLU(), nn.GELU(), nn.SiLU(inplace=True)

        def forward(self, x):
            return self.silu(self.gelu(self.relu(x) - 1) - 0.1).sigmoid()

    x = inputs(20, 6)
    assert [layer.name for layer in capture(Mixed(), x).layers] == ["relu"]
    codes = capture(Mixed(), x, also=("gelu", "silu", "sigmoid"), batch_size=6)
    labels = {layer.name: layer.activation for layer in codes.layers}
    assert labels == {"relu": "relu", "gelu": "gelu", "silu": "silu", "sigmoid": "sigmoid"}
    first = functional.relu(x) - 1
    second = functional.gelu(first) - 0.1
    for name, values in {"gelu": first, "silu": second, "sigmoid": functional.silu(second)}.items():
        assert np.array_equal(codes.layer(name).bits(), (values > 0).numpy())


def names(network, data, **options):
    return [layer.name for layer in capture(network, data, **options).layers]


def test_layers_are_chosen_by_name_prefix_or_glob():
    network = build_network("8-8-8", (1, 8, 8), 10, backbone="small_conv")
    images = torch.rand(3, 1, 8, 8)
    assert names(network, images) == ["backbone.1", "backbone.3", "head.1", "head.3", "head.5"]
    assert names(network, images, layers="head") == ["head.1", "head.3", "head.5"]
    assert names(network, images, layers="head.3") == ["head.3"]
    assert names(network, images, layers=["backbone", "*.5"]) == ["backbone.1", "backbone.3", "head.5"]
    assert names(network, images, layers="fc") == ["head.1", "head.3", "head.5"]
    with pytest.raises(InputError, match=r"no layer matches tail. Known: all, backbone.1, .*head.5"):
        capture(network, images, layers="tail")
    with pytest.raises(InputError, match="layers is empty"):
        capture(network, images, layers=[])


def test_a_name_stands_for_itself_whatever_characters_it_has():
    network = nn.Sequential()
    for name in ("op[3x3]", "op?", "skip*", "skip"):
        network.add_module(name, nn.Sequential(nn.Linear(5, 5), nn.ReLU()))
    every = names(network, inputs(3))
    for name in every:
        assert names(network, inputs(3), layers=name) == [name]
        assert names(network, inputs(3), layers=name.removesuffix(".1")) == [name]
    assert names(network, inputs(3), layers="op[3x3].*") == ["op[3x3].1"]
    assert names(network, inputs(3), layers="s[jk]ip.*") == ["skip.1"]


def test_a_forward_pass_that_cannot_run_is_explained():
    network = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU())
    for data, remedy in ((inputs(4).double(), "float32"), ((inputs(4) * 9).to(torch.uint8), "image / 255")):
        with pytest.raises(InputError, match=remedy):
            capture(network, data)
    with pytest.raises(InputError, match="another batch_size"):
        capture(network, inputs(9), mode="train", batch_size=4)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        capture(network, inputs(4, features=3))


class Classifier(nn.Module):
    """Fully connected layers before, between and behind convolutions; none of them is called head."""

    def __init__(self):
        super().__init__()
        self.before = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
        self.fc = nn.Linear(8, 6)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.conv(self.before(x).reshape(-1, 1, 4, 4)).flatten(1)
        return self.act(self.act(self.fc(x)))


def test_the_head_follows_the_last_layer_that_is_not_a_vector():
    network, x = Classifier(), inputs(9, 8)
    assert names(network, x) == ["before.1", "conv.1", "act", "act#2"]
    assert names(network, x, layers="fc") == ["before.1", "act", "act#2"]
    assert names(network, x, layers="head", batch_size=2) == ["act", "act#2"]
    assert names(network, x, layers=["head", "conv"], batch_size=2) == ["conv.1", "act", "act#2"]
    assert names(network, x, layers=["before", "head"], batch_size=2) == ["before.1", "act", "act#2"]
    codes = capture(network, x)
    head = capture(network, x, layers="head", batch_size=2)
    assert np.array_equal(head.bits(), codes.bits()[:, -12:])
    with pytest.raises(InputError, match=r"no layer matches head. Known: all, 0, 2"):
        capture(nn.Sequential(nn.ReLU(), nn.Unflatten(1, (2, 4)), nn.ReLU()), x, layers="head")


def test_joint_codes_are_the_layers_side_by_side():
    network = build_network("70-8", (1, 8, 8), 10, backbone="small_conv")
    codes = capture(network, torch.rand(5, 1, 8, 8))
    assert codes.layers[0].shape == (8, 4, 4)
    side_by_side = np.hstack([codes.layer(layer.name).bits() for layer in codes.layers])
    assert np.array_equal(codes.bits(), side_by_side)


@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_are_read_by_pixel_by_channel_or_pooled(channels_last):
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 49, 5), nn.ReLU())
    if channels_last:
        network.to(memory_format=torch.channels_last)
    images = torch.rand(10, 1, 8, 8) - 0.5
    bits = capture(network, images).layer("1").bits().reshape(10, 3, 7, 7)
    codes = capture(network, images, maps="channel", batch_size=4)
    assert [layer.shape for layer in codes.layers] == [(3,), (5,)]
    assert np.array_equal(codes.layer("1").bits(), bits.any(axis=(2, 3)))
    pooled = capture(network, images, maps="pooled").layer("1")
    assert pooled.layers[0].shape == (3, 4, 4)
    by_hand = [[bits[:, :, i : i + 2, j : j + 2].any(axis=(2, 3)) for j in range(0, 7, 2)] for i in range(0, 7, 2)]
    assert np.array_equal(pooled.bits(), np.moveaxis(by_hand, (0, 1), (2, 3)).reshape(10, -1))


def test_released_code_sets_a_bit_from_one_on():
    """Its bit is int(activation) > 0."""
    network = Two()
    network.second.weight.data *= 5
    codes = capture(network, inputs(30), preset="released_code")
    activations = kept(network)
    assert np.array_equal(codes.bits(), activations.int().numpy() > 0)
    assert not np.array_equal(codes.bits(), activations.numpy() > 0)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
def test_codes_do_not_depend_on_the_batch_size_or_the_order(batch_size):
    network = build_network("32-16", (1, 8, 8), 10, backbone="small_conv")
    images = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    codes = capture(network, images)
    assert np.array_equal(capture(network, images, batch_size=batch_size).words, codes.words)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    assert np.array_equal(capture(network, images[order], batch_size=batch_size).words, codes.words[order.numpy()])


def normalised():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten()]
    network = nn.Sequential(*body, nn.Linear(144, 16), nn.Dropout(0.9), nn.ReLU())
    network[1].running_mean += 0.3
    return network


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_codes_are_those_of_the_mode_without_dropout(mode):
    network, images = normalised(), torch.rand(6, 1, 8, 8)
    before = pickle.dumps(network)
    codes = capture(network, images, mode=mode)
    assert np.array_equal(capture(network, images, mode=mode).words, codes.words)
    assert pickle.dumps(network) == before
    twin = copy.deepcopy(network).eval()
    twin[1].train(mode == "train")
    assert np.array_equal(codes.layer("2").bits(), (twin[:3](images) > 0).flatten(1).numpy())
    assert np.array_equal(codes.layer("7").bits(), (twin(images) > 0).numpy())


def test_in_train_mode_a_code_depends_on_its_batch():
    network, images = normalised(), torch.rand(8, 1, 8, 8)
    codes = capture(network, images, mode="train")
    assert not np.array_equal(capture(network, images, mode="train", batch_size=4).words, codes.words)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_precision_is_the_networks_own_and_reported(dtype):
    network = Two().to(dtype)
    batch = next(capture_batches(network, inputs(9).to(dtype)))
    assert batch.dtype == str(dtype).removeprefix("torch.")
    assert np.array_equal(batch.codes.bits(), kept_bits(network))


def test_lower_precision_allowed_outside_does_not_change_the_codes():
    network = build_network("64-64", (1, 8, 8), 10, backbone="none")
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    codes = capture(network, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(capture(network, images).words, codes.words)
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(capture(network, images).words, codes.words)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_equal_codes_give_the_same_affine_map():
    """Section 2: where codes are equal the network is one affine map, here solved for from some points of a cell."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    points = torch.randn(4000, 2, dtype=torch.float64)
    (batch,) = capture_batches(network, points, batch_size=4000)
    bits = batch.codes.bits()
    rows, counts = np.unique(bits, axis=0, return_counts=True)
    for row in rows[counts >= 8]:
        inside = np.flatnonzero((bits == row).all(axis=1))
        lifted = np.hstack([points[inside].numpy(), np.ones((len(inside), 1))])
        affine, *_ = np.linalg.lstsq(lifted[:4], batch.outputs[inside[:4]].numpy())
        assert np.allclose(lifted @ affine, batch.outputs[inside].numpy(), atol=1e-6)


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


def test_batches_of_another_length_are_refused_with_both_shapes():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(InputError, match=r"'1'.*\(9, 4\).*sample 4.*\(7, 4\).*padding"):
        capture(network, [torch.randn(4, 7, 3), torch.randn(4, 9, 3)])


def test_a_module_that_has_the_name_of_a_second_call_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.ReLU()
            self.add_module("a#2", nn.ReLU())

        def forward(self, x):
            return self.get_submodule("a#2")(self.a(self.a(x)))

    with pytest.raises(InputError, match=r"'a#2'.*Rename"):
        capture(Twice(), torch.randn(4, 3))
