"""Networks: the oracles are Table 1 and B.1 of the paper, torchvision's VGG16 and Glorot's formula."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models import vgg16

from nas_relucode.errors import InputError
from nas_relucode.study.search_space import load_search_space
from nas_relucode.training.networks import (
    BACKBONES,
    build_autoencoder,
    build_backbone,
    build_network,
    initialise,
    parse_head,
)

TABLE_1_OF_THE_PAPER = {"512": [512], "256-256": [256, 256], "256-128-128": [256, 128, 128]}
SMALL = {  # one of each, small enough for every test
    "none": lambda seed: build_network("32-16", (1, 8, 8), 10, backbone="none", seed=seed),
    "small_conv": lambda seed: build_network("32-16", (3, 9, 7), 4, backbone="small_conv", seed=seed),
    "vgg16": lambda seed: build_network("256-128-128", (3, 32, 32), 10, width=1 / 8, seed=seed),
    "autoencoder": lambda seed: build_autoencoder((1, 28, 28), seed=seed),
}


def linear_layers(network: nn.Module) -> dict[str, int]:
    return {name: module.out_features for name, module in network.named_modules() if isinstance(module, nn.Linear)}


def features(backbone: nn.Module) -> list[str]:
    """The layers in words: type, channels, kernel, stride, padding."""
    return [repr(layer) for layer in backbone]


def vgg16_features() -> list[nn.Module]:
    with torch.device("meta"):
        return list(vgg16(weights=None).features)


def test_the_heads_are_those_of_table_1():
    assert set(load_search_space("table1").parameters["head"].choices) == set(TABLE_1_OF_THE_PAPER)
    for head, widths in TABLE_1_OF_THE_PAPER.items():
        assert parse_head(head) == widths
        network = build_network(head, (1, 32, 32), 10, width=1 / 8)
        assert linear_layers(network) == {f"head.{2 * i}": width for i, width in enumerate([*widths, 10])}
        relus = [name for name, module in network.named_modules() if isinstance(module, nn.ReLU) and "head" in name]
        assert relus == [f"head.{2 * i + 1}" for i in range(len(widths))]


def test_the_autoencoder_is_that_of_table_1():
    network = build_autoencoder((1, 28, 28))
    layers = linear_layers(network)
    assert {name: width for name, width in layers.items() if name.startswith("head")} == {
        "head.0": 128,
        "head.2": 64,
        "head.4": 32,
    }
    assert [type(network.head[i]) for i in (1, 3, 5)] == [nn.ReLU] * 3
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 1, 28, 28)


def test_the_backbone_is_torchvisions_vgg16_layer_by_layer():
    network = build_network("512", (3, 32, 32), 10)
    theirs = vgg16_features()
    assert features(network.backbone) == [*map(repr, theirs), repr(nn.Flatten())]
    assert network.head[0].in_features == 512  # five times halved, 32x32 is one pixel of 512 channels
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch_features = nn.Sequential(*theirs).to_empty(device="cpu")
    torch_features.load_state_dict(network.backbone.state_dict())
    assert torch.equal(network.backbone(images), torch_features(images).flatten(1))


def test_width_scales_only_the_channels_of_the_backbone():
    network = build_network("256-128-128", (3, 32, 32), 10, width=1 / 8)
    ours = [(m.in_channels, m.out_channels) for m in network.backbone if isinstance(m, nn.Conv2d)]
    theirs = [(m.in_channels, m.out_channels) for m in vgg16_features() if isinstance(m, nn.Conv2d)]
    assert ours == [(3 if i == 3 else i // 8, o // 8) for i, o in theirs]
    assert list(linear_layers(network).values()) == [256, 128, 128, 10]


def test_grey_images_change_only_the_first_convolution():
    grey, colour = (features(build_network("8", (c, 32, 32), 10, width=1 / 8).backbone) for c in (1, 3))
    assert grey[0] == colour[0].replace("Conv2d(3,", "Conv2d(1,")
    assert grey[1:] == colour[1:]


@pytest.mark.parametrize("name", SMALL)
def test_nothing_in_a_network_is_random(name):
    network = SMALL[name](0).train()
    assert not any("Dropout" in type(module).__name__ for module in network.modules())
    shape = {"none": (4, 1, 8, 8), "small_conv": (4, 3, 9, 7), "vgg16": (4, 3, 32, 32), "autoencoder": (4, 1, 28, 28)}
    images = torch.rand(shape[name], generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", SMALL)
def test_biases_are_zero_and_weights_are_xavier_uniform(name):
    for module in SMALL[name](0).modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert not module.bias.any()
            weight = module.weight.detach().double()
            field = weight[0, 0].numel()  # pixels of the kernel, 1 in an FC layer
            bound = math.sqrt(6 / (field * (weight.shape[0] + weight.shape[1])))
            assert weight.abs().max() <= bound * (1 + 1e-6)
            # A uniform variable has the kurtosis 1.8, so its variance over n draws strays by sqrt(0.8 / n).
            assert abs(weight.mean()) < 5 * bound / math.sqrt(3 * weight.numel())
            assert abs(weight.square().mean() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / weight.numel())


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_weights(name):
    torch.manual_seed(1)
    first = SMALL[name](0).state_dict()
    torch.manual_seed(2)
    again, other = SMALL[name](0).state_dict(), SMALL[name](1).state_dict()
    for name in first:
        assert torch.equal(first[name], again[name])
        assert torch.equal(first[name], other[name]) == name.endswith("bias")


@pytest.mark.parametrize("name", SMALL)
def test_building_does_not_change_the_random_state(name):
    before = torch.random.get_rng_state()
    SMALL[name](0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_initialise_takes_any_network():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    assert initialise(network, seed=3) is network
    assert not network[3].bias.any()
    assert (network[1].weight == 1).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_and_head_are_named(backbone):
    network = build_network("16", (3, 32, 32), 5, backbone=backbone, width=1 / 8)
    assert [name for name, _ in network.named_children()] == ["backbone", "head"]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), network.head(network.backbone(images)))


@given(
    backbone=st.sampled_from(sorted(BACKBONES)),
    channels=st.integers(1, 4),
    height=st.integers(1, 40),
    columns=st.integers(1, 40),
    classes=st.integers(1, 12),
    width=st.sampled_from([1 / 64, 1 / 8, 0.3]),
)
def test_every_backbone_takes_images_of_any_shape(backbone, channels, height, columns, classes, width):
    if backbone == "vgg16":
        height, columns = height + 31, columns + 31
    network = build_network("7-5", (channels, height, columns), classes, backbone=backbone, width=width)
    assert network(torch.zeros(2, channels, height, columns)).shape == (2, classes)


@pytest.mark.parametrize("head", ["256-x", "", "0", "-1", "256-", "256--128", "2.5", "256 128", "64-0"])
def test_a_head_that_is_not_a_list_of_widths_is_refused(head):
    with pytest.raises(InputError, match=rf"head '{head}' is not a list of layer widths. Write widths joined by '-'"):
        build_network(head, (1, 8, 8), 10, backbone="none")
    with pytest.raises(InputError, match=f"head '{head}'"):
        build_autoencoder((1, 8, 8), head=head)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((3, 32, 32), {"backbone": "resnet"}, r"unknown backbone 'resnet'\. Known: none, small_conv, vgg16"),
        ((3, 32, 32), {"weights": "cifar"}, r"unknown weights 'cifar'\. Known: random, imagenet"),
        *(
            ((3, 32, 32), {"width": width}, rf"width {width} is .*Give a number above 0")
            for width in (0, -1, math.nan, math.inf)
        ),
        ((1, 28, 28), {}, r"vgg16 .*28x28.*Set image_size to at least 32"),
        ((3, 31, 64), {}, r"vgg16 .*31x64.*Set image_size to at least 32"),
        ((3, 64, 31), {}, r"vgg16 .*64x31.*Set image_size to at least 32"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused_with_what_can(shape, arguments, message):
    with pytest.raises(InputError, match=message):
        build_network("8", shape, 10, **arguments)


# the backbone alone, and ImageNet weights


@pytest.mark.parametrize("name", ["none", "small_conv", "vgg16"])
def test_the_backbone_alone_is_that_of_the_network(name):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = build_network("8", (3, 32, 32), 10, backbone=name, width=1 / 8, seed=4)
    backbone = build_backbone((3, 32, 32), backbone=name, width=1 / 8, seed=4)
    assert backbone(images).ndim == 4
    assert torch.equal(backbone(images).flatten(1), network.backbone(images))


def test_a_backbone_seed_leaves_the_seed_to_the_head():
    def weights(**arguments) -> tuple[torch.Tensor, torch.Tensor]:
        network = build_network("8", (1, 8, 8), 10, backbone="small_conv", **arguments)
        return network.backbone[0].weight, network.head[0].weight

    (backbone, head), (same, other), (new, kept) = (
        weights(seed=1, backbone_seed=5), weights(seed=2, backbone_seed=5), weights(seed=1, backbone_seed=6)
    )  # fmt: skip
    assert torch.equal(backbone, same)
    assert not torch.equal(backbone, new)
    assert torch.equal(head, kept)
    assert not torch.equal(head, other)
    features = build_backbone((1, 8, 8), backbone="small_conv", seed=5)
    assert torch.equal(features[0].weight, backbone)
    behind = build_network("8", tuple(features(torch.zeros(1, 1, 8, 8)).shape[1:]), 10, backbone="none", seed=1)
    assert torch.equal(behind.head[0].weight, head)


@pytest.fixture
def imagenet(monkeypatch) -> dict[str, torch.Tensor]:
    """Invented weights in the place of a download."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        features = vgg16(weights=None).features.state_dict()
    state = {f"features.{name}": torch.randn(value.shape, generator=generator) for name, value in features.items()}

    def fetch(url, *, progress, check_hash, weights_only):
        assert (progress, check_hash, weights_only) == (False, True, True)
        assert url.endswith("vgg16-397923af.pth")
        return state | {"classifier.0.bias": torch.zeros(1)}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    return state


def test_imagenet_weights_are_torchvisions(imagenet):
    network = build_network("8", (3, 32, 32), 10, weights="imagenet", seed=3)
    backbone = build_backbone((3, 32, 32), weights="imagenet")
    for name, value in imagenet.items():
        assert torch.equal(backbone.state_dict()[name.removeprefix("features.")], value)
        assert torch.equal(network.state_dict()[name.replace("features", "backbone")], value)
    head = build_network("8", (512, 1, 1), 10, backbone="none", seed=3).head
    assert torch.equal(network.head[0].weight, head[0].weight)


@pytest.mark.parametrize("error", [OSError("no network"), RuntimeError("invalid hash value")])
def test_imagenet_weights_that_cannot_be_downloaded_are_explained(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(
        InputError, match=rf"cannot be downloaded \({error}\). Put https://.*vgg16.*pth into .*checkpoints"
    ):
        build_backbone((3, 32, 32), weights="imagenet")


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((1, 32, 32), {}, "for backbone vgg16 of width 1 on 1 channels. Take vgg16 of width 1 on images of three"),
        ((3, 32, 32), {"width": 0.5}, "for backbone vgg16 of width 0.5 on 3 channels"),
        ((3, 32, 32), {"backbone": "small_conv"}, "for backbone small_conv of width 1"),
    ],
)
def test_imagenet_weights_fit_only_one_network(shape, arguments, message):
    with pytest.raises(InputError, match=message):
        build_network("8", shape, 10, weights="imagenet", **arguments)


def test_the_decoder_of_the_autoencoder_is_a_setting():
    network = build_autoencoder((1, 4, 4), head="8-4", decoder="6-7")
    assert linear_layers(network) == {
        "head.0": 8, "head.2": 4, "decoder.0": 6, "decoder.2": 7, "decoder.4": 16
    }  # fmt: skip
