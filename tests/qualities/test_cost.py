"""What a network costs, by formula, by hand, by the file on disk and by torch's profiler."""

import math
import time
import weakref
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.profiler import ProfilerActivity, profile

from nas_relucode import score
from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.indices import INDICES
from nas_relucode.qualities import (
    QUALITIES,
    Measurement,
    Quality,
    device_name,
    disk_size,
    flops,
    latency,
    measure,
    parameters,
    peak_memory,
)

FLOAT = 4  # bytes
QUICK = partial(latency, seconds=0.01)


def perceptron(*widths: int) -> nn.Sequential:
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in pairwise(widths)]
    return nn.Sequential(*[module for pair in layers for module in pair][:-1]).eval()


def convolutions() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3, 2))


class FromDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, first, second):
        return self.linear(torch.cat([first, second], dim=1))


def test_no_quality_has_the_name_of_an_index_or_of_another_column():
    names = set(QUALITIES) | {f"{name}_spread" for name in QUALITIES}
    assert not names & {*INDICES, "accuracy", "validation_loss"}
    assert all(name == quality.name for name, quality in QUALITIES.items())


def test_parameters_that_two_layers_share_are_counted_once():
    network = perceptron(5, 7, 7, 7)
    assert parameters(network) == 5 * 7 + 7 + 2 * (7 * 7 + 7)
    network[4].weight = network[2].weight
    assert parameters(network) == 5 * 7 + 7 + 7 * 7 + 2 * 7


@pytest.mark.parametrize("widths", [(3, 4), (10, 20, 5)])
def test_the_flops_of_linear_layers_are_two_for_each_weight(widths):
    weights = sum(a * b for a, b in pairwise(widths))
    assert flops(perceptron(*widths), torch.zeros(9, widths[0])) == 2 * weights


def test_a_network_of_torchvision_has_the_size_and_the_operations_that_torchvision_publishes():
    published = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.meta
    network = torchvision.models.squeezenet1_1()
    values = measure(network, torch.zeros(1, 3, 224, 224), ["parameters", "flops", "disk_size"])
    assert values["parameters"] == published["num_params"]
    assert values["flops"] / 2 / 1e9 == pytest.approx(published["_ops"], abs=0.0005)  # it counts multiply-adds
    assert values["disk_size"] / 2**20 == pytest.approx(published["_file_size"], rel=0.005)


def test_the_index_of_parameters_is_the_quality():
    network, inputs = perceptron(6, 3, 2), torch.rand(5, 6)
    index = score(network, inputs, indices=["parameter_count"]).joint["parameter_count"]
    assert index == measure(network, inputs, "parameters")["parameters"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_flops_of_a_convolution_are_two_for_each_weight_and_pixel(stride, groups):
    layer = nn.Conv2d(4, 8, (3, 5), stride=stride, groups=groups)
    height, width = (16 - 3) // stride + 1, (11 - 5) // stride + 1
    assert flops(layer, torch.zeros(2, 4, 16, 11)) == 2 * 8 * (4 // groups) * 3 * 5 * height * width


def test_recurrent_layers_and_transformers_are_counted_as_their_matrix_products():
    steps, size, hidden = 7, 4, 6
    sequence = torch.zeros(2, steps, size)
    assert flops(nn.LSTM(size, hidden, batch_first=True), sequence) == steps * 2 * 4 * hidden * (size + hidden)
    assert torch.backends.mkldnn.enabled

    transformer = nn.TransformerEncoderLayer(size, 2, dim_feedforward=hidden, batch_first=True)
    projections = 2 * steps * size * (4 * size)  # queries, keys, values and what comes out
    attention = 2 * 2 * steps * steps * size  # the scores, and the values that they weight
    feed_forward = 2 * 2 * steps * size * hidden
    assert flops(transformer, sequence) == projections + attention + feed_forward


def test_a_wrapper_changes_neither_operations_nor_memory():
    network, inputs = perceptron(10, 20, 5), torch.zeros(4, 10)
    names = ["flops", "peak_memory"]
    assert measure(nn.DataParallel(network), inputs, names) == measure(network, inputs, names)


def test_the_size_is_that_of_the_file_that_is_saved(tmp_path):
    network = convolutions()
    file = tmp_path / "archive.pt"  # the zip file holds its own name, and torch calls one without a name "archive"
    torch.save(network.state_dict(), file)
    assert disk_size(network) == file.stat().st_size
    assert disk_size(network.half()) < file.stat().st_size


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_memory_of_a_perceptron_is_that_of_its_weights_inputs_and_two_neighbouring_activations(batch_size):
    network, inputs = perceptron(10, 20, 5), torch.zeros(8, 10)
    weights = 10 * 20 + 20 + 20 * 5 + 5
    at_the_relu = 10 + 20 + 20  # the inputs, and what goes into the ReLU and comes out
    assert peak_memory(network, inputs, batch_size=batch_size) == FLOAT * (weights + batch_size * at_the_relu)


def test_an_activation_in_place_and_a_shared_weight_need_no_memory_of_their_own():
    network = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True))
    network[2].weight = network[0].weight
    assert peak_memory(network, torch.zeros(1, 6)) == FLOAT * (6 * 6 + 2 * 6 + 3 * 6)


def test_what_a_skip_connection_holds_is_counted_while_it_lives():
    class Skip(nn.Module):
        def forward(self, x):
            kept = x.repeat(1, 10)
            return kept + x.repeat(1, 10).relu_().neg_()

    assert peak_memory(Skip(), torch.zeros(1, 5)) == FLOAT * (5 + 3 * 50)


def test_measuring_memory_leaves_nothing_behind_with_the_network():
    network, inputs = perceptron(10, 20, 5), torch.zeros(1, 10)
    peak_memory(network, inputs)
    finalizers = len(weakref.finalize._registry)  # no public function counts them
    first = peak_memory(network, inputs)
    assert [peak_memory(network, inputs) for _ in range(3)] == [first] * 3
    assert len(weakref.finalize._registry) == finalizers


def test_the_memory_of_a_perceptron_is_what_torchs_profiler_sees():
    network, inputs = perceptron(30, 500, 40, 300, 10), torch.zeros(1, 30)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        network(inputs)
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    resident = FLOAT * (parameters(network) + inputs.numel())
    assert peak_memory(network, inputs) == resident + max(np.cumsum(sizes))


def test_a_network_thirty_times_as_wide_takes_longer():
    network, inputs = perceptron(64, 64, 64, 10), torch.zeros(1, 64)
    narrow, wide = QUICK(network, inputs), QUICK(perceptron(64, 1920, 1920, 10), inputs)
    assert wide.value > narrow.value > 0
    assert narrow.spread >= 0
    assert narrow.runs >= 5
    assert (narrow.device, narrow.threads, narrow.batch_size) == (device_name(network), 1, 1)
    assert narrow.device.startswith("cpu (")


def test_a_pass_slower_than_the_time_to_measure_is_still_repeated():
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.02)

    measured = QUICK(Slow(), torch.zeros(1, 1))
    assert measured.runs >= 5
    assert measured.value >= 20


def test_latency_uses_the_threads_that_it_names_and_gives_them_back():
    seen = []

    class Threads(nn.Module):
        def forward(self, x):
            seen.append(torch.get_num_threads())
            return x

    before = torch.get_num_threads()
    assert QUICK(Threads(), torch.zeros(1, 1), threads=2).threads == 2
    assert seen[-1] == 2
    assert torch.get_num_threads() == before


def test_the_network_is_left_as_it_was():
    network = convolutions().train()
    network[1].eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes, inputs = [module.training for module in network.modules()], torch.rand(4, 3, 12, 12)
    measure(network, inputs, ["parameters", "flops", "peak_memory", "disk_size"])
    QUICK(network, inputs, batch_size=4)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_random_state_is_given_back():
    data = torch.utils.data.TensorDataset(torch.rand(8, 10))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    network = nn.Sequential(nn.Linear(10, 3), nn.Dropout())
    before = torch.get_rng_state()
    measure(network, loader, ["flops", "peak_memory"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["flops", "peak_memory"])
def test_data_of_every_form_give_the_same_value(name):
    network, inputs, labels = perceptron(6, 3, 2), torch.rand(5, 6), torch.arange(5)
    expected = measure(network, inputs, name)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=2)
    for data in (inputs.numpy(), (inputs, labels), loader, iter([inputs])):
        assert measure(network, data, name) == expected


def test_dicts_of_inputs_and_other_calls_are_understood():
    network, parts = FromDict(), {"first": torch.rand(3, 2), "second": torch.rand(3, 4)}
    assert flops(network, parts) == 2 * 6 * 2

    def swapped(network, batch):
        return network(batch["b"], batch["a"])

    assert measure(network, {"a": parts["second"], "b": parts["first"]}, "flops", forward=swapped) == {"flops": 24.0}


def test_a_measured_spread_stands_beside_its_value():
    network, inputs = perceptron(6, 3, 2), torch.rand(5, 6)
    values = measure(network, inputs)
    assert list(values) == ["parameters", "flops", "latency", "latency_spread", "peak_memory", "disk_size"]
    assert all(type(value) is float and math.isfinite(value) for value in values.values())


def test_a_quality_of_ones_own_is_measured_under_its_name():
    def largest(network, inputs, *, forward):
        return Measurement(float(inputs.max()), 0.5)

    own = Quality("largest", "", "maximize", "The largest input.", largest)
    network, inputs = perceptron(6, 3, 2), torch.arange(6.0)[None]
    assert measure(network, inputs, [own, "parameters"]) == {"largest": 5, "largest_spread": 0.5, "parameters": 29}
    assert own.compute(network, inputs) == 5
    assert QUALITIES["parameters"].compute(network) == 29


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda network, x: measure(network, x, ["flop"]), ["'flop'", "flops"]),
        (lambda network, x: measure(network, None, ["flops"]), ["'flops'", "inputs"]),
        (lambda network, x: flops(network, x[:0]), ["0 samples"]),
        (lambda network, x: latency(network, x, batch_size=6), ["5 samples", "6"]),
        (lambda network, x: latency(network, x, batch_size=0), ["0", "at least 1"]),
        (lambda network, x: latency(network, x, threads=0), ["0", "at least 1"]),
        (lambda network, x: parameters(nn.LazyLinear(3)), ["'weight'", "once"]),
        (lambda network, x: Quality("own", "", "up", "", flops), ["'up'", "maximize"]),
    ],
)
def test_what_cannot_be_measured_is_an_error_that_says_what_to_do(call, words):
    with pytest.raises(InputError) as error:
        call(perceptron(6, 3, 2), torch.rand(5, 6))
    assert all(word in str(error.value) for word in words)


def test_the_command_line_lists_them(capsys):
    assert main(["list", "qualities"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and quality.meaning in listed for name, quality in QUALITIES.items())


@pytest.mark.gpu
def test_on_a_gpu_memory_is_that_of_the_blocks_handed_out_and_latency_names_the_device():
    network, inputs = perceptron(256, 512, 128).cuda(), torch.zeros(1, 256)
    weights = 256 * 512 + 512 + 512 * 128 + 128
    assert peak_memory(network, inputs) == FLOAT * (weights + 256 + 512 + 512)  # multiples of 512 bytes
    other = torch.zeros(10_000_000, device="cuda")
    assert peak_memory(network, inputs) == FLOAT * (weights + 256 + 512 + 512)
    del other
    assert QUICK(network, inputs).device.startswith("cuda")
    assert flops(network, inputs) == 2 * (256 * 512 + 512 * 128)
    sequence = torch.zeros(1, 7, 4)
    assert flops(nn.LSTM(4, 6, batch_first=True).cuda(), sequence) == 7 * 2 * 4 * 6 * 10
