"""capture_batches on data of any form and length: the network is restored, wrong input is refused."""

import itertools

import numpy as np
import pytest
import torch
from relu_networks import Branching, Every, Restless, Two, fingerprint, scripted
from test_capturing import inputs, kept_bits
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.data import DataLoader, TensorDataset

from nas_relucode import InputError, Split, build_network, capture
from nas_relucode.codes import Reading
from nas_relucode.codes.capturing import capture_batches
from nas_relucode.errors import NonFiniteError

X = inputs(10)
Y = torch.arange(10)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        Split(X, Y),
        (X.numpy(), Y.numpy()),
        DataLoader(TensorDataset(X, Y), batch_size=4),
        [(X[:7], Y[:7]), (X[7:], Y[7:])],
    ],
)
def test_codes_outputs_and_labels_come_in_the_order_of_the_samples(data):
    network = Two()
    codes, outputs = capture(network, X), network(X).detach()
    batches = list(capture_batches(network, data, batch_size=4))
    sizes = [batch.codes.samples for batch in batches]
    assert [batch.start for batch in batches] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert np.array_equal(np.concatenate([batch.codes.words for batch in batches]), codes.words)
    assert torch.allclose(torch.cat([batch.outputs for batch in batches]), outputs)
    assert np.concatenate([batch.labels for batch in batches]).tolist() == Y.tolist()
    assert np.array_equal(capture(network, data).words, codes.words)


def test_inputs_without_labels_have_none():
    for data in (X, (X, None), Split(X, None), [X[:5], [X[5:]]]):
        batches = list(capture_batches(Two(), data, batch_size=5))
        assert len(batches) == 2
        assert all(batch.labels is None for batch in batches)


def test_empty_batches_are_skipped():
    assert [batch.start for batch in capture_batches(Two(), [X[:0], X, X[:0], X])] == [0, 10]


class Pair(nn.Module):
    """Takes two tensors, the second of them whole numbers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(10, 5), nn.Linear(5, 8)

    def forward(self, x, number):
        return self.linear(x + self.embedding(number)).relu()


def test_tuples_and_dicts_become_the_arguments_of_the_network():
    network = Pair()
    expected = (network(X, Y) > 0).numpy()
    calls = {
        "dict": capture(network, {"x": X, "number": Y}, batch_size=3),
        "dicts": capture(network, [{"number": Y, "x": X}]),
        "labelled dict": capture(network, [({"number": Y, "x": X}, Y)]),
        "tuples": capture(network, [(X, Y[:, None])], forward=lambda network, batch: network(batch[0], batch[1][:, 0])),
        "pair": capture(network, (X, Y), batch_size=3, forward=lambda network, batch: network(*batch)),
        "nested": capture(network, [{"a": [X, Y]}], forward=lambda network, batch: network(*batch["a"])),
    }
    for name, codes in calls.items():
        assert np.array_equal(codes.bits(), expected), name
    three = nn.Bilinear(5, 5, 4)
    three.register_forward_hook(lambda module, args, output: output.relu())
    assert capture(three, [(X, X)]).neurons == 4


def test_forward_gets_the_unwrapped_network_and_the_whole_batch():
    network, given = Two(), []

    def forward(called, batch):
        given.append((called, batch))
        return called(batch["image"])

    capture(nn.DataParallel(network), [{"image": X, "path": ["a"] * 10}], forward=forward)
    assert given[0][0] is network
    assert given[0][1]["path"] == ["a"] * 10


def test_relus_called_by_forward_are_read_in_every_batch():
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU())

    def forward(called, batch):
        return called(batch) - 0.1 if batch[0, 0] == X[0, 0] else (called(batch) - 0.1).relu()

    with pytest.raises(InputError, match="other ReLUs for sample 4 than for sample 0"):
        capture(network, X, batch_size=4, forward=forward)


def test_a_batch_that_does_not_fit_the_network_is_explained():
    with pytest.raises(TypeError) as caught:
        capture(Pair(), [(X,)])
    assert caught.value.__notes__ == ["The batch is a tuple of 1. Give forward= to call the network in another way."]


def test_outputs_without_one_row_per_sample_are_none():
    class Other(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output = output

        def forward(self, x):
            return self.output(x.relu())

    for output in (torch.sum, lambda x: (x, x), lambda x: x[1:], lambda x: None):
        assert next(capture_batches(Other(output), X)).outputs is None
    assert next(capture_batches(Other(lambda x: x), X)).outputs.shape == (10, 5)


def test_endless_data_is_read_one_batch_at_a_time():
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield inputs(3, seed=number)

    network = Two()
    for batch in itertools.islice(capture_batches(network, endless()), 5):
        assert batch.start == 3 * read[-1]
        assert np.array_equal(batch.codes.bits(), kept_bits(network)[-3:])
    assert read == [0, 1, 2, 3, 4]


def everything(network):
    return fingerprint(network), torch.get_rng_state().tolist()


def test_between_two_batches_and_afterwards_nothing_is_changed():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(inplace=True)).train()
    for network, mode in itertools.product((Restless().train(), Restless().eval(), plain), ("eval", "train")):
        images = torch.rand(9, 1, 8, 8)
        before = everything(network)
        for _ in capture_batches(network, images, batch_size=3, mode=mode):
            assert everything(network) == before
            assert _get_current_dispatch_mode() is None
            assert torch.is_grad_enabled()
        batches = capture_batches(network, images, batch_size=3, mode=mode)
        next(batches)
        assert everything(network) == before  # even if the other batches are never read
        batches.close()
        capture(network, images, batch_size=2, mode=mode)
        assert everything(network) == before


def test_a_network_that_raises_is_unchanged():
    network = Restless().train()
    good, bad = torch.rand(5, 1, 8, 8), torch.rand(5, 2, 8, 8)  # two channels instead of one
    before = everything(network)
    batches = capture_batches(network, [good, bad])
    next(batches)
    with pytest.raises(RuntimeError):
        next(batches)
    assert everything(network) == before
    assert _get_current_dispatch_mode() is None
    with pytest.raises(StopIteration):
        next(batches)


def test_the_loader_works_outside_of_the_forward_pass():
    """Its computations are not read as the network's, and it runs with the caller's settings."""
    network = Two().train()

    def loader():
        for number in range(3):
            assert network.training
            assert torch.is_grad_enabled()
            yield inputs(4, seed=number).relu()

    assert [layer.name for layer in capture(network, loader()).layers] == ["relu", "relu#2"]


@pytest.mark.parametrize(
    ("act", "found"),
    [
        (nn.Tanh(), r"It called tanh \(act\).*give also='tanh'"),
        (lambda x: nn.functional.gelu(x), r"It called gelu \(gelu\).*give also='gelu'"),
        (
            nn.Hardtanh(),
            r"It called relu6 \(act\); its modules: Hardtanh, Linear. Give a network with ReLU activations.$",
        ),
        (lambda x: x.clamp(min=-1), r"It called clamp \(clamp\)"),
        (lambda x: x.sin(), "It called no other activation; its modules: Linear"),
    ],
)
def test_a_network_without_relus_is_an_error_that_names_what_it_called(act, found):
    with pytest.raises(InputError, match=f"Two called no ReLU, so it has no codes. {found}"):
        capture(Two(act), X)


def test_no_samples_and_other_bad_input_are_errors():
    network = Two()
    for data in (X[:0], [], (X[:0], Y[:0]), iter([])):
        with pytest.raises(InputError, match="there are no samples"):
            capture(network, data)
    with pytest.raises(InputError, match="batch size 0"):
        capture(network, X, batch_size=0)
    with pytest.raises(InputError, match="batch size 0"):
        capture_batches(network, X, batch_size=0)  # before it is asked for a batch
    with pytest.raises(InputError, match="data is a str"):
        capture_batches(network, "digits")
    for bad, known in {
        "mode": "eval, train",
        "preset": "paper, released_code",
        "maps": "pixel, channel, pooled",
    }.items():
        with pytest.raises(InputError, match=f"unknown value 'nil' for {bad}. Known: {known}"):
            capture(network, X, **{bad: "nil"})
    with pytest.raises(InputError, match=r"unknown smooth activation 'relu'. Known: gelu, silu"):
        Reading(also="relu")
    assert Reading(layers="head", also="gelu") == Reading(layers=["head"], also=["gelu"])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("batch_size", [1, 20])
def test_an_activation_that_is_not_finite_is_an_error_that_names_its_layer(bad, batch_size):
    x = X.clone()
    x[3, 2] = bad
    for network, name in ((Two(), "relu"), (Two(nn.LeakyReLU()), "act"), (scripted(Every().eval()), "block.act")):
        data = x[:, :4] if name == "block.act" else x
        with pytest.raises(NonFiniteError, match=f"layer '{name}' has activations that are not finite"):
            capture(network, data, batch_size=batch_size)
    plain = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
    with pytest.raises(NonFiniteError, match="layer '1'"):
        capture(plain, x, batch_size=batch_size)
    assert not plain[1]._forward_hooks
    minus = nn.Sequential(nn.Linear(5, 5), nn.LeakyReLU())
    minus[0].bias.data[0] = -torch.inf
    with pytest.raises(NonFiniteError, match="layer '1'"):
        capture(minus, X)


def test_samples_must_come_first():
    class Transposed(nn.Module):
        def forward(self, x):
            return x.T.relu()

    class Scale(nn.Module):
        def forward(self, x):
            return (x * torch.tensor(1.0).relu()).relu()

    with pytest.raises(InputError, match=r"layer 'relu' gives an activation of shape \(5, 3\) for a batch of 3"):
        capture(Transposed(), inputs(3))
    with pytest.raises(InputError, match=r"layer 'relu' gives an activation of shape \(\) for a batch of 3"):
        capture(Scale(), inputs(3))
    assert capture(Scale(), inputs(3), layers="relu#2").neurons == 5


class Swapping(nn.Module):
    """Calls the same ReLUs in an order that depends on the sample."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        return self.second(self.first(x)) if x[0, 0] > 0 else self.first(self.second(x))


def test_a_network_that_calls_other_relus_for_other_samples_is_an_error():
    data = torch.cat([torch.ones(1, 3), -torch.ones(1, 3)])
    for samples in (data, data.flip(0)):
        with pytest.raises(InputError, match="Branching called other ReLUs for sample 1 than for sample 0"):
            capture(Branching(), samples, batch_size=1)
    assert capture(Branching(), data, batch_size=1, layers="relu#2").neurons == 3
    with pytest.raises(InputError, match="Swapping called other ReLUs for sample 1 than for sample 0"):
        capture(Swapping(), data, batch_size=1)
    with pytest.raises(InputError, match=r"shape \(3,\) for sample 10, but \(5,\) for sample 0"):
        capture(nn.Sequential(nn.ReLU()), [X, X[:, :3]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "options", [{}, {"maps": "channel"}, {"maps": "pooled"}, {"mode": "train"}, {"layers": "head"}]
)
def test_codes_on_a_gpu_are_those_of_the_cpu(options):
    network = build_network("64-32", (1, 8, 8), 10, backbone="small_conv").double()
    images = torch.rand(300, 1, 8, 8, dtype=torch.float64)
    codes = capture(network, images, batch_size=128, **options)
    on_gpu = list(capture_batches(network.cuda(), images, batch_size=128, **options))
    assert np.array_equal(np.concatenate([batch.codes.words for batch in on_gpu]), codes.words)
    assert on_gpu[0].codes.layers == codes.layers
    assert on_gpu[0].outputs.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_activation_on_a_gpu_that_is_not_finite_is_an_error_that_names_its_layer():
    network = Two().cuda()
    with pytest.raises(NonFiniteError, match="layer 'relu' has activations that are not finite"):
        capture(network, torch.full((2, 5), torch.nan))
