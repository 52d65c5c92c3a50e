"""The callers read off TorchScript's graphs, against those of the same networks without TorchScript."""

import pytest
import torch
import torchvision
from relu_networks import Branching, Every, Numbers, Twice, scripted, silently, traced
from test_relus import seen
from torch import nn

from nas_relucode import InputError
from nas_relucode.codes.torchscript import ScriptRun, script_plan

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def names_of(module):
    return {id(inner): name for name, inner in module.named_modules()}


def test_a_plan_is_the_calls_in_their_order():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU6(), nn.Sequential(nn.ReLU(), nn.GELU()))
    for script in (scripted(network), traced(network, X)):
        plan = script_plan(script, names_of(script), {"relu", "hardtanh", "gelu"})
        assert plan == [("hardtanh", "1"), ("relu", "2.0"), ("gelu", "2.1")]
        assert script_plan(script, names_of(script), {"relu"}) == [("relu", "2.0")]


def test_attributes_decide_which_branch_is_read():
    """`Every` calls one ReLU more in training mode."""
    script = scripted(Every())
    operations = {"relu"}
    training = script_plan(script.train(), names_of(script), operations)
    assert len(training) == len(script_plan(script.eval(), names_of(script), operations)) + 1
    assert training[-1] == ("relu", "")


def test_a_plan_that_depends_on_data_is_empty_and_calls_have_the_scripts_name():
    script = scripted(Branching())
    assert script_plan(script, names_of(script), {"relu", "clamp"}) == []
    assert seen(script, X + 9) == [("relu", "relu"), ("relu#2", "relu"), ("relu#3", "relu"), ("clamp", "clamp")]
    names = [name for name, _ in seen(nn.Sequential(nn.Linear(4, 4), script), X)]
    assert names[:2] == ["1", "1#2"]


def test_calls_that_are_not_planned_have_the_scripts_name():
    run = ScriptRun("script", [("relu", "a"), ("clamp", "b")])
    assert [run.caller(operation) for operation in ("tanh", "relu", "relu", "clamp", "clamp")] == [
        "script",
        "a",
        "script",
        "b",
        "script",
    ]
    assert run.missing == []


def test_what_is_no_activation_does_not_disturb_the_plan():
    network = nn.Sequential(nn.Linear(4, 4), Numbers())
    assert seen(network, X) == seen(scripted(network), X) == [("1.act", "relu")]


def test_a_relu_that_torchscript_left_out_is_an_error():
    """After some runs it calls one ReLU where two are written."""
    script = scripted(Twice())
    assert len(seen(script, X)) == 2
    with torch.no_grad():
        for _ in range(5):
            script(X)
    with pytest.raises(InputError, match=r"TorchScript left out the relu of the network.*Give a fresh copy"):
        seen(script, X)


def test_a_transformer_that_was_scripted_in_evaluation_mode_is_an_error():
    script = scripted(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval())
    with pytest.raises(InputError, match=r"_transformer_encoder_layer_fwd.*before it was quantized, fused or scripted"):
        seen(nn.Sequential(script, nn.ReLU()), torch.randn(2, 3, 4))


def test_frozen_and_optimised_scripts_show_their_relus():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU()).eval()
    images = torch.rand(2, 1, 8, 8)
    for make in (torch.jit.freeze, torch.jit.optimize_for_inference):
        script = silently(make, scripted(network))
        assert seen(script, images) == [("relu", "relu"), ("relu#2", "relu")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["resnet18", "googlenet", "mobilenet_v2", "shufflenet_v2_x0_5", "regnet_x_400mf", "squeezenet1_0", "vgg11"]
)
def test_torchvisions_networks_have_their_names(model):
    options = {"init_weights": False} if model in ("googlenet", "vgg11") else {}
    network = getattr(torchvision.models, model)(weights=None, **options).eval()
    images = torch.rand(1, 3, 96, 96)
    expected = seen(network, images)
    assert len(expected) > 8
    assert silently(seen, scripted(network), images) == expected  # GoogLeNet warns of what it returns
    assert seen(traced(network, images), images) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scripts_that_a_gpu_would_fuse_show_their_relus():
    network = Every().eval()
    expected = seen(network, X)
    script = scripted(network.cuda())
    assert seen(script, X.cuda()) == expected
    with torch.no_grad():
        for _ in range(5):
            script(X.cuda())
    try:
        assert seen(script, X.cuda()) == expected
    except InputError as error:
        assert "Give a fresh copy" in str(error)  # noqa: PT017
