"""A study of one's own networks: a TOML file beside a module, run in one process, by workers, and trained again."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import torch
from command_line import refused
from optuna.trial import TrialState
from storages import study_in

from nas_relucode import load_settings
from nas_relucode.cli.main import main
from nas_relucode.study.record import ATTRIBUTE

pytestmark = pytest.mark.usefixtures("without_figure")

NETWORKS = """
from torch import nn

def build(width, depth, skip, *, classes, image_shape):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    layers = [nn.Flatten(), nn.Linear(pixels, width), nn.ReLU()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, classes))

def text(width, depth, skip):
    return "text"

def broken(width, depth, skip):
    raise KeyError(width)
"""
STUDY = """
description = "mine"

[data]
source = "digits"
classes = [0, 1]
train_samples = 100
validation = 0.3

[network]
factory = "{factory}"

[training]
epochs = 1
batch_size = 35

[search]
trials = 3
sampler = "random"

[search.parameters]
width = [4, 8]
depth = {{low = 1, high = 2}}
skip = [true, false]
learning_rate = {{low = 0.01, high = 0.1, log = true}}
"""


@pytest.fixture
def study(here: Path, module: Callable[[str], str]) -> tuple[str, str]:
    """The file of a study in a folder of its own, with the module of its networks beside it; and the module's name."""
    folder = here / "mine"
    folder.mkdir()
    name = module(NETWORKS)
    (here / f"{name}.py").rename(folder / f"{name}.py")
    (folder / "nets.toml").write_text(STUDY.format(factory=f"{name}:build"))
    return "mine/nets.toml", name


def complete(url: str) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study_in(url, "nets").trials if trial.state == TrialState.COMPLETE]


def test_a_study_beside_its_module_is_run_reported_and_trained_again(
    study: tuple[str, str], capsys: pytest.CaptureFixture[str]
):
    file, name = study
    load_settings(file)
    assert name not in sys.modules  # reading the settings runs none of the user's code
    path = list(sys.path)
    assert main(["run", file, "-q", "--device", "cpu"]) == 0
    assert sys.path == path
    trials = complete("sqlite:///runs/nets/study.db")
    assert len(trials) == 3
    for trial in trials:
        record = trial.user_attrs[ATTRIBUTE]
        assert record["params"] == trial.params
        assert len(record["layers"]) == trial.params["depth"]  # all fully connected layers
    capsys.readouterr()
    words = [f"{name}={value}" for name, value in trials[-1].params.items() if name != "skip"]
    words.append(f"skip={str(trials[-1].params['skip']).lower()}")
    assert main(["train", file, *words, "--device", "cpu", "--weights", "w.pt"]) == 0
    assert f"validation accuracy {record['accuracy']:.4f}" in capsys.readouterr().out
    assert torch.load("w.pt", weights_only=True)["1.weight"].shape == (trials[-1].params["width"], 64)
    assert main(["run", file, "-q", "--device", "cpu"]) == 0
    assert len(complete("sqlite:///runs/nets/study.db")) == 3


def test_check_builds_the_networks_of_a_module_beside_the_study(
    study: tuple[str, str], capsys: pytest.CaptureFixture[str]
):
    assert main(["check", study[0], "-f", "json", "--device", "cpu"]) == 0
    parameters = json.loads(capsys.readouterr().out)["parameters"]
    shallow = {width: (64 + 1) * width + (width + 1) * 2 for width in (4, 8)}  # one hidden layer
    assert set(parameters.values()) <= {n + (depth - 1) * (w + 1) * w for w, n in shallow.items() for depth in (1, 2)}


def test_workers_train_the_networks_of_a_module_beside_the_study(
    study: tuple[str, str], queue_url: str, monkeypatch: pytest.MonkeyPatch
):
    file, name = study
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    assert main(["plan", file, "-q"]) == 0
    assert name not in sys.modules
    assert main(["worker", file, "-q", "--device", "cpu"]) == 0
    assert len(complete(queue_url)) == 3
    assert main(["status", "nets"]) == 0


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ((":build", ":nosuch"), ["cannot be imported", "AttributeError", "nosuch"]),
        (("my_", "no_such_"), ["cannot be imported", "ModuleNotFoundError", "no_such_"]),
        ((":build", ""), ["factory", "package.module:function"]),
        ((":build", ":text"), ["returns a str", "torch.nn.Module"]),
        ((":build", ":broken"), ["could not be built", "KeyError"]),
        (("width = [4, 8]", "breadth = [4]"), ["cannot be called with breadth", "width"]),
        (("learning_rate = {", "rate = {"), ["no learning_rate"]),
        (("[training]", 'backbone = "none"\n[training]'), ["backbone", "factory"]),
        (("trials = 3", ""), ["learning_rate", "trials"]),
        (("skip = [true, false]", "skip = [true, true]"), ["skip", "none twice"]),
        (("sampler", 'space = "digits"\nsampler'), ["either a space or parameters"]),
    ],
)
def test_a_study_of_ones_own_networks_that_cannot_be_run_is_refused(
    study: tuple[str, str], capsys: pytest.CaptureFixture[str], change: tuple[str, str], messages: list[str]
):
    file, _ = study
    text = Path(file).read_text()
    assert change[0] in text
    Path(file).write_text(text.replace(*change))
    error = refused(capsys, "run", file, "-q", "--device", "cpu")
    assert [message for message in messages if message not in error] == [], error
    assert not Path("runs/nets/study.db").exists()


def test_a_module_of_the_same_name_from_elsewhere_is_not_taken_for_the_studys(
    study: tuple[str, str], capsys: pytest.CaptureFixture[str]
):
    file, name = study
    Path("mine", "code.py").write_text(NETWORKS)  # Python has a module of this name
    Path(file).write_text(Path(file).read_text().replace(name, "code"))
    import code

    assert code.__file__ is not None
    assert "Rename the file" in refused(capsys, "run", file, "-q", "--device", "cpu")
