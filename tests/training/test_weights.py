"""Weights load from every form in which people have them; from anything else they are refused with the way out."""

import pytest
import torch
from torch import nn

from nas_relucode import InputError
from nas_relucode.training.weights import load_weights


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2)))


def renamed(change):
    return {change(name): value for name, value in network().state_dict().items()}


FORMS = {
    "alone": renamed(str),
    "DataParallel": renamed("module.{}".format),
    "compiled": renamed("_orig_mod.{}".format),
    "compiled and parallel": renamed("module._orig_mod.{}".format),
    "a compiled part": renamed(lambda name: name.replace("3.", "3._orig_mod.")),
    "Lightning": {
        "state_dict": renamed("model.{}".format) | {"loss.weight": torch.ones(2)},
        "epoch": 3,
        "callbacks": {},
    },
    "model": {"model": renamed(str), "optimizer": {"state": {0: {"exp_avg": torch.ones(4, 3)}}, "param_groups": []}},
    "state_dict": {"state_dict": renamed("module.{}".format), "epoch": 9, "best": torch.tensor(0.5)},
    "an average": renamed("module.{}".format) | {"n_averaged": torch.tensor(3)},
}


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items()) and a.keys() == b.keys()


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_weights_are_found_wherever_they_are(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    loaded = network(seed=2)
    load_weights(loaded, tmp_path / "w.pt", "net")
    assert same(loaded.state_dict(), network().state_dict())


def test_safetensors_are_read(tmp_path):
    torch_files = pytest.importorskip("safetensors.torch")
    torch_files.save_file(renamed("module.{}".format), tmp_path / "w.safetensors")
    loaded = network(seed=2)
    load_weights(loaded, tmp_path / "w.safetensors", "net")
    assert same(loaded.state_dict(), network().state_dict())


def test_two_sets_of_weights_are_ambiguous(tmp_path):
    torch.save({"model": renamed(str), "ema": renamed(str)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"'ema'.*'model'.*Save one"):
        load_weights(network(), tmp_path / "w.pt", "net")


class Whole(nn.Module):
    """A class that a pickle names."""


@pytest.mark.parametrize("content", [Whole(), {"model": Whole()}])
def test_a_whole_network_is_refused_with_the_way_out(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"runs code.*weights_only=False.*state_dict"):
        load_weights(network(), tmp_path / "w.pt", "net")


@pytest.mark.parametrize("content", [{}, [], {"x": torch.ones(2)}, renamed("a{}".format), {"state_dict": 5}])
def test_other_content_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"does not hold the weights of net"):
        load_weights(network(), tmp_path / "w.pt", "net")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 100])
def test_a_damaged_file_is_refused(tmp_path, name, content):
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="does not hold the weights of net"):
        load_weights(network(), tmp_path / name, "net")
    with pytest.raises(InputError, match="not a file"):
        load_weights(network(), tmp_path, "net")
