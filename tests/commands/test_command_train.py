"""nas-relucode train: the network that comes out is the one whose numbers the study's trial holds."""

from pathlib import Path

import optuna
import pytest
import torch
from command_line import STUDY, refused

from nas_relucode import build_network, load_settings, score
from nas_relucode.commands.cli import main
from nas_relucode.studies.outcomes import ATTRIBUTE
from nas_relucode.studies.study import load_study_data
from nas_relucode.training.training import accuracy

TRAIN = ["train", "own.toml", "--head", "8", "--learning-rate", "0.1", "--device", "cpu"]


@pytest.mark.parametrize("backbone", ["none", "small_conv"])
def test_a_trial_is_trained_again_to_the_same_numbers(here: Path, backbone: str, capsys: pytest.CaptureFixture[str]):
    frozen = "frozen = true" if backbone == "small_conv" else ""
    Path("own.toml").write_text(STUDY.replace('backbone = "none"', f'backbone = "{backbone}"\n{frozen}'))
    assert main(["run", "own.toml", "--device", "cpu", "-q"]) == 0
    assert main([*TRAIN, "--weights", "best.pt"]) == 0
    assert "Weights: best.pt" in capsys.readouterr().out
    study = optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")
    (found,) = [trial.user_attrs[ATTRIBUTE] for trial in study.trials if trial.params["head"] == "8"]
    data = load_study_data(load_settings("own.toml").data)
    network = build_network("8", data.image_shape, 2, backbone=backbone)
    network.load_state_dict(torch.load("best.pt", weights_only=True))
    assert accuracy(network, data.validation) == found["accuracy"]
    assert accuracy(network, data.test) == found["test_accuracy"]
    assert score(network, data, layers="head", indices=["cell_count"]).joint["cell_count"] == pytest.approx(
        found["joint"]["cell_count"], abs=2 if frozen else 0
    )  # the backbone ran in batches of another size


def test_what_cannot_be_written_or_trained_is_refused(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("there.pt").write_text("mine")
    assert "exists already" in refused(capsys, *TRAIN, "--weights", "there.pt")
    assert Path("there.pt").read_text() == "mine"
    assert "does not end in .pt" in refused(capsys, *TRAIN, "--weights", "weights")
    assert "no folder nowhere" in refused(capsys, *TRAIN, "--weights", "nowhere/w.pt")
    assert "learning rate -1.0" in refused(capsys, *TRAIN[:5], "-1", "--device", "cpu", "--weights", "w.pt")
    assert "head 'x'" in refused(capsys, *TRAIN[:3], "x", *TRAIN[4:], "--weights", "w.pt")
    assert not Path("w.pt").exists()
