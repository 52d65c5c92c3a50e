"""The capture matrix: every way to call a ReLU is seen, and named by the module that calls."""

import io
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from relu_networks import EVERY, Every, Two, scripted, silently, traced
from torch import nn
from torch.nn import functional

from nas_relucode import InputError, capture
from nas_relucode.codes.activations import SMOOTH
from nas_relucode.codes.network_state import untouched
from nas_relucode.codes.relus import HookedPass, ReluCalls, WatchedPass, module_names, unwrapped

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def seen(network, *inputs, also=(), passes=1):
    """The name and label of each call in the last of some forward passes."""
    calls = ReluCalls(network, also)
    reported = []
    for _ in range(passes):
        reported.clear()
        with untouched(network), calls.watch(lambda call: reported.append((call.name, call.activation.label))):
            network(*inputs)
    return reported


@pytest.mark.parametrize(
    ("act", "names", "label"),
    [
        (nn.ReLU(), ["act", "act#2"], "relu"),
        (nn.ReLU(inplace=True), ["act", "act#2"], "relu"),
        (functional.relu, ["relu", "relu#2"], "relu"),
        (functional.relu_, ["relu", "relu#2"], "relu"),
        (torch.relu, ["relu", "relu#2"], "relu"),
        (lambda x: x.relu(), ["relu", "relu#2"], "relu"),
        (lambda x: x.relu_(), ["relu", "relu#2"], "relu"),
        (nn.ReLU6(), ["act", "act#2"], "relu6"),
        (functional.relu6, ["relu6", "relu6#2"], "relu6"),
        (nn.Hardtanh(0, 1), ["act", "act#2"], "relu6"),
        (nn.LeakyReLU(), ["act", "act#2"], "leaky_relu"),
        (functional.leaky_relu_, ["leaky_relu", "leaky_relu#2"], "leaky_relu"),
        (nn.PReLU(), ["act", "act#2"], "prelu"),
        (nn.RReLU(), ["act", "act#2"], "rrelu"),
        (lambda x: x.clamp(min=0), ["clamp", "clamp#2"], "clamp"),
        (lambda x: x.clamp_(min=0, max=3), ["clamp", "clamp#2"], "clamp"),
        (lambda x: torch.clip(x, 0), ["clamp", "clamp#2"], "clamp"),
        (lambda x: torch.clamp(x, min=0, out=torch.empty_like(x)), ["clamp", "clamp#2"], "clamp"),
        (lambda x: x.clamp_min(0), ["clamp", "clamp#2"], "clamp"),
        (lambda x: x.clamp_min_(0.0), ["clamp", "clamp#2"], "clamp"),
        (lambda x: torch.clamp(x, min=torch.tensor(0.0)), ["clamp", "clamp#2"], "clamp"),
        (lambda x: x.clamp(min=torch.zeros_like(x)), ["clamp", "clamp#2"], "clamp"),
        (nn.Threshold(0, 0), ["act", "act#2"], "threshold"),
        (lambda x: functional.threshold_(x, 0, 0), ["threshold", "threshold#2"], "threshold"),
    ],
)
def test_every_relu_is_seen_with_its_name(act, names, label):
    assert seen(Two(act), torch.randn(3, 5)) == [(name, label) for name in names]


def saved_and_loaded(network):
    file = io.BytesIO()
    silently(torch.jit.save, network, file)
    file.seek(0)
    return silently(torch.jit.load, file)


def run(network, times=5):
    """After some runs TorchScript rewrites its graph."""
    with torch.no_grad():
        for _ in range(times):
            network(X)
    return network


def compiled_inside(network):
    network.block = torch.compile(network.block, backend="eager")
    return network


def compiled_in_place(network):
    network.compile(backend="eager")
    network.block.compile(backend="eager")
    return network


def parallel_inside(network):
    network.block = nn.DataParallel(network.block)
    network.block.device_ids = [0, 1]  # as it would have on a machine with two GPUs
    return network


WRAPPED = {
    "eager": lambda network: network,
    "script": scripted,
    "script after runs": lambda network: run(scripted(network)),
    "loaded script": lambda network: saved_and_loaded(scripted(network)),
    "trace": lambda network: traced(network, X),
    "trace after runs": lambda network: run(traced(network, X)),
    "loaded trace": lambda network: saved_and_loaded(traced(network, X)),
    "compiled": lambda network: torch.compile(network, backend="eager"),
    "compiled and run": lambda network: run(torch.compile(network, backend="eager"), 1),
    "compiled inside": lambda network: run(compiled_inside(network), 1),
    "compiled in place": lambda network: run(compiled_in_place(network), 1),
    "data parallel": nn.DataParallel,
    "data parallel inside": parallel_inside,
    "compiled and data parallel": lambda network: torch.compile(nn.DataParallel(network), backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_names_are_the_same_however_the_network_is_wrapped(wrap):
    network = wrap(Every().eval())
    assert seen(network, X) == seen(unwrapped(network), X, passes=2) == EVERY
    with_more = nn.Sequential(nn.Linear(4, 4), network, nn.ReLU())
    moved = [f"1.{name}" if name[:5] in ("block", "body.", "steps") else "1" for name, _ in EVERY]
    names = [name for name, _ in seen(with_more, X)]
    assert [name.split("#")[0] for name in names] == [name.split("#")[0] for name in [*moved, "2"]]


def test_a_network_of_distributed_data_parallel_is_unwrapped():
    if not torch.distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Every().eval())
        assert seen(unwrapped(torch.compile(wrapped, backend="eager")), X) == EVERY
        assert [name for name, _ in seen(nn.Sequential(wrapped), X)][:3] == ["0.block.act", "0.block.act#2", "0.block"]
    finally:
        torch.distributed.destroy_process_group()


def test_a_symbolically_traced_network_keeps_the_names_of_its_modules():
    network = torch.fx.symbolic_trace(nn.Sequential(Two(nn.ReLU()).first, nn.ReLU(), nn.ReLU6()))
    assert seen(network, torch.randn(3, 5)) == [("1", "relu"), ("2", "relu6")]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inference", [True, False])
def test_transformers_show_the_relus_that_their_fused_path_hides(training, inference):
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.ReLU()).train(training)
    with torch.inference_mode(inference):
        reported = seen(network, torch.randn(2, 3, 4))
    assert reported == [("0.layers.0", "relu"), ("0.layers.1", "relu"), ("1", "relu")]


def test_a_recurrent_network_calls_its_relu_once_a_step():
    network = nn.RNN(4, 5, nonlinearity="relu", batch_first=True)
    assert [name for name, _ in seen(network, torch.randn(2, 3, 4))] == ["relu", "relu#2", "relu#3"]


def test_a_module_with_two_names_has_the_first():
    act = nn.ReLU()
    network = nn.Sequential(nn.Linear(4, 4), act, nn.Sequential(act))
    assert [name for name, _ in seen(network, X)] == ["1", "1#2"]
    assert set(module_names(network).values()) == {"", "0", "1", "2"}


SMOOTH_MODULES = {
    "gelu": [nn.GELU(), nn.GELU("tanh")],
    "silu": [nn.SiLU(), nn.SiLU(inplace=True)],
    "elu": [nn.ELU(), nn.ELU(inplace=True), nn.SELU(), nn.SELU(inplace=True)],
    "celu": [nn.CELU(), nn.CELU(inplace=True)],
    "mish": [nn.Mish(), nn.Mish(inplace=True)],
    "hardswish": [nn.Hardswish(), nn.Hardswish(inplace=True)],
    "softplus": [nn.Softplus()],
    "tanh": [nn.Tanh()],
    "sigmoid": [nn.Sigmoid()],
    "hardsigmoid": [nn.Hardsigmoid()],
}


@pytest.mark.parametrize("label", SMOOTH)
def test_smooth_activations_are_reported_only_on_request(label):
    for act in SMOOTH_MODULES[label]:
        network = Two(act)
        assert seen(network, torch.randn(3, 5)) == []
        assert seen(network, torch.randn(3, 5), also=("gelu", label)) == [("act", label), ("act#2", label)]
        calls = ReluCalls(network)
        with calls.watch(print):
            network(torch.randn(3, 5))
        assert calls.ignored == {label: {"act"}}


@pytest.mark.parametrize(
    "act",
    [
        nn.Hardtanh(),
        nn.Threshold(0.1, 0),
        nn.Threshold(0, 1),
        nn.Hardshrink(),
        lambda x: x.clamp(min=-1),
        lambda x: x.clamp(min=torch.tensor(-1.0)),
        lambda x: x.clamp(max=0),
        lambda x: x.clamp_min(1e-6),
        lambda x: x.long().clamp(min=0).float(),
    ],
)
def test_what_does_not_bend_at_zero_is_no_relu(act):
    assert seen(Two(act), torch.randn(3, 5)) == []


def quantized():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    fused = torch.ao.quantization.fuse_modules(network, [["0", "1"]])
    stubs = torch.ao.quantization.QuantWrapper(fused)
    stubs.qconfig = torch.ao.quantization.default_qconfig
    torch.ao.quantization.prepare(stubs, inplace=True)(torch.rand(2, 1, 5, 5))
    return torch.ao.quantization.convert(stubs)


def test_an_operation_with_a_relu_inside_is_an_error_that_names_it():
    with pytest.raises(
        InputError, match=r"module.0 calls quantized.conv2d_relu\S*, and the ReLU inside it can't be seen"
    ):
        seen(silently(quantized), torch.rand(2, 1, 5, 5))
    encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
    for _ in range(2):  # also when it is no longer met for the first time
        with (
            pytest.raises(InputError, match=r"the network calls aten\._transformer_encoder_layer_fwd"),
            torch.no_grad(),
            ReluCalls(encoder).watch(print),
        ):
            encoder(torch.randn(2, 3, 4))


def test_errors_of_the_subscriber_are_raised_unchanged():
    def refuse(call):
        raise InputError(f"not {call.name}")

    for network in (Every().eval(), scripted(Every().eval())):
        with pytest.raises(InputError, match=r"^not block.act$"), ReluCalls(network).watch(refuse):
            network(X)


def nothing_is_registered():
    hooks = torch.nn.modules.module
    return (
        hooks._global_forward_hooks == {} == hooks._global_forward_pre_hooks
        and torch.utils._python_dispatch._get_current_dispatch_mode() is None
    )


def test_nothing_is_left_behind_by_a_pass_that_raises():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    calls = ReluCalls(network)
    for kind in (WatchedPass, HookedPass):
        context = calls.watch_by_hooks(lambda call: None)
        assert type(context) is kind
        with context:
            network(X)
        with pytest.raises(RuntimeError), calls.watch_by_hooks(lambda call: None):
            network(torch.randn(3, 5))
        assert nothing_is_registered()
        assert not network[1]._forward_hooks


def kept(reported, call):
    reported.append((call.name, call.activation, call.values.tolist()))


class Subclass(nn.Sequential):
    """A class that might have code of its own."""


def with_a_forward_of_its_own(network):
    network[1].forward = lambda x: x.relu()
    return network


def with_a_hook(network):
    network[1].register_forward_hook(lambda module, args, output: output.relu())
    return network


def test_hooks_are_used_only_where_they_see_every_call():
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Sequential(nn.Linear(4, 4), nn.ReLU6()))
    act = nn.ReLU(inplace=True)
    for network in (plain, nn.Sequential(nn.Linear(4, 4), act, nn.Linear(4, 4), act)):
        calls, passes = ReluCalls(network), []
        for kind in (WatchedPass, HookedPass, HookedPass):
            reported = []
            context = calls.watch_by_hooks(partial(kept, reported))
            assert type(context) is kind
            with untouched(network), context:
                network(X)
            passes.append(reported)
        assert passes[0] == passes[1] == passes[2] != []
    for network in (
        Subclass(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LeakyReLU()),
        nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8), nn.ReLU()),
        with_a_forward_of_its_own(nn.Sequential(nn.Linear(4, 4), nn.ReLU())),
        with_a_hook(nn.Sequential(nn.Linear(4, 4), nn.ReLU())),
        nn.Sequential(Every().eval(), nn.ReLU()),
    ):
        calls = ReluCalls(network)
        for _ in range(2):
            context = calls.watch_by_hooks(lambda call: None)
            assert type(context) is WatchedPass
            with context:
                network(X)


@pytest.mark.slow
def test_the_compiler_is_not_imported_to_take_codes():
    """Importing it takes seconds; torch's own default would do so."""
    code = (
        "import sys, torch; from torch import nn; from nas_relucode.codes.relus import ReluCalls\n"
        "network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())\n"
        "with ReluCalls(network).watch(lambda call: None): network(torch.zeros(1, 1))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hooks_on_all_modules_are_obeyed_in_every_batch():
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), torch.randn(40, 6)
    whole = capture(network, x).bits()
    change = nn.modules.module.register_module_forward_hook(
        lambda module, args, output: output - 1 if isinstance(module, nn.ReLU) else None
    )
    try:
        changed = [capture(network, x, batch_size=size).bits() for size in (40, 10)]
    finally:
        change.remove()
    assert np.array_equal(changed[0], changed[1])
    assert np.array_equal(changed[0], whole)  # a bit is that of the ReLU itself
