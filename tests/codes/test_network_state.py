"""A borrowed network and torch's settings are restored, even after an error."""

import threading

import pytest
import torch
from relu_networks import Restless, fingerprint
from torch import nn

from nas_relucode import InputError, capture
from nas_relucode.codes.network_state import device_of, untouched

IMAGES = torch.rand(5, 1, 8, 8)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("training", [True, False])
def test_modes_buffers_and_random_state_are_restored(mode, training):
    network = Restless().train(training)
    before, random = fingerprint(network), torch.get_rng_state()
    context = untouched(network, mode)
    for _ in range(2):
        with context:
            network(IMAGES)
        assert fingerprint(network) == before
        assert torch.equal(torch.get_rng_state(), random)


def test_they_are_restored_when_the_network_raises():
    network = Restless().train()
    before = fingerprint(network)
    with pytest.raises(RuntimeError), untouched(network):
        network(torch.rand(5, 2, 8, 8))  # two channels instead of one
    assert fingerprint(network) == before
    assert torch.is_grad_enabled()


def test_a_buffer_stays_the_same_tensor():
    network = Restless()
    calls = network.calls
    with untouched(network):
        network(IMAGES)
    assert network.calls is calls
    assert network.mask is None


def test_train_mode_changes_batch_statistics_only():
    network = Restless().eval()
    network.out = nn.BatchNorm1d(4, track_running_stats=False)
    with untouched(network, "train"):
        training = {name for name, module in network.named_modules() if module.training}
    assert training == {"body.1", "frozen", "out"}
    with untouched(network.train()):
        assert not any(module.training for module in network.modules())


def precisions():
    def read(setting):
        try:
            return setting()
        except RuntimeError:  # torch refuses to read the old setting after the new one was changed
            return "mixed"

    backends = torch.backends
    parts = [backends, backends.cuda.matmul, backends.cudnn, backends.cudnn.conv, backends.cudnn.rnn]
    parts += [backends.mkldnn, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    old = [
        read(lambda: backends.cudnn.allow_tf32),
        read(lambda: backends.cuda.matmul.allow_tf32),
        read(torch.get_float32_matmul_precision),
    ]
    return [part.fp32_precision for part in parts] + old


def allow_all_in_the_new_way():
    torch.backends.fp32_precision = "tf32"


def allow_products_in_the_new_way():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def forbid_tf32():
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture
def torch_settings():
    """Restores the settings of torch after the test."""
    parts = [torch.backends, torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
    parts += [torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn]
    before, tf32 = [part.fp32_precision for part in parts], torch.backends.cudnn.allow_tf32
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = tf32
    for part, precision in zip(parts, before, strict=True):
        part.fp32_precision = precision


@pytest.mark.parametrize(
    "allow",
    [
        lambda: None,
        forbid_tf32,
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        allow_all_in_the_new_way,
        allow_products_in_the_new_way,
    ],
)
def test_float32_is_computed_in_full_and_the_settings_are_restored(allow, torch_settings):
    allow()
    before = precisions()
    with untouched(nn.Linear(2, 2)):
        assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")
        assert torch.backends.mkldnn.conv.fp32_precision in ("none", "ieee")
    assert precisions() == before


def test_settings_of_torch_are_restored():
    attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    with torch.autocast("cpu", torch.bfloat16):
        with untouched(attention):
            assert not torch.backends.mha.get_fastpath_enabled()
            assert not torch.is_autocast_enabled("cpu")
            assert not torch.is_grad_enabled()
        assert torch.backends.mha.get_fastpath_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
    with torch.no_grad(), untouched(attention):
        pass
    assert torch.is_grad_enabled()


def test_the_device_is_that_of_the_first_parameter_or_buffer():
    assert device_of(nn.ReLU()).type == "cpu"
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.BatchNorm1d(1, affine=False, device="meta")).type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_random_state_and_precision_are_restored():
    network = Restless().cuda()
    before, random = precisions(), torch.cuda.get_rng_state()
    with untouched(network):
        torch.rand(3, device="cuda")
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.equal(torch.cuda.get_rng_state(), random)
    assert precisions() == before


class Resizing(nn.Module):
    """Changes its buffers in every way there is."""

    def __init__(self):
        super().__init__()
        for name in ("resized", "swapped", "removed", "negative", "replaced"):
            self.register_buffer(name, torch.zeros(2))
        self.register_buffer("empty", torch.zeros(0))
        self.child = nn.Identity()

    def forward(self, x):
        self.resized.resize_(5).fill_(1)
        self.empty.resize_(7).fill_(1)
        self.swapped.data = torch.ones(3, dtype=torch.float64)
        del self.removed
        self.negative.mul_(-1)  # -0.0 is equal to 0.0, and has other bytes
        self.replaced = None
        self.child.register_buffer("added", torch.ones(1))
        return x


def test_buffers_are_byte_by_byte_as_before_whatever_the_pass_does():
    network = Resizing()
    before, tensors = fingerprint(network), dict(network.named_buffers())
    for _ in range(2):
        with untouched(network):
            network(IMAGES)
    assert fingerprint(network) == before
    assert all(buffer is tensors[name] for name, buffer in network.named_buffers())


def test_an_embedding_that_limits_its_norms_keeps_its_weights():
    network = nn.Embedding(5, 3, max_norm=0.1)
    before = fingerprint(network)
    with untouched(network):
        network(torch.arange(5))
    assert fingerprint(network) == before


def test_a_network_that_was_made_in_inference_mode_runs_in_both_modes():
    with torch.inference_mode():
        network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = fingerprint(network)
    for mode in ("eval", "train"):
        with untouched(network, mode):
            network(torch.rand(5, 4))
        assert fingerprint(network) == before


@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.LazyBatchNorm2d(), nn.Sequential(nn.LazyConv2d(2, 3))])
def test_a_lazy_network_that_never_ran_is_refused(lazy):
    with pytest.raises(InputError, match="Run it once"):
        untouched(lazy)


def test_two_threads_take_turns_with_a_network():
    network, inside, most = Restless().train(), [], []

    def work():
        for _ in range(20):
            with untouched(network):
                inside.append(1)
                most.append(len(inside))
                network(IMAGES)
                inside.pop()

    before = fingerprint(network)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert fingerprint(network) == before


def test_modes_that_a_forward_pass_changes_are_restored():
    class Switching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.dropout = nn.Linear(6, 8), nn.Dropout(0.0)

        def forward(self, x):
            self.dropout.train(not self.dropout.training)
            return torch.relu(self.dropout(self.linear(x)))

    for network in (Switching().eval(), Switching().train()):
        before = [module.training for module in network.modules()]
        capture(network, torch.randn(9, 6), batch_size=3)
        assert [module.training for module in network.modules()] == before
