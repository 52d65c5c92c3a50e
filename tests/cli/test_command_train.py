"""nas-relucode train: the trained network has the numbers that the study's trial recorded."""

from pathlib import Path

import optuna
import pytest
import torch
from cases import first_on_push
from command_line import STUDY, refused

from nas_relucode import build_network, load_settings, score
from nas_relucode.cli.main import main
from nas_relucode.cli.train import outside
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.runner import load_study_data
from nas_relucode.training.loop import accuracy

TRAIN = ["train", "own.toml", "head=8", "learning_rate=0.1", "--device", "cpu"]


@pytest.mark.parametrize("backbone", first_on_push("none", "small_conv"))
def test_a_trial_is_trained_again_to_the_same_numbers(here: Path, backbone: str, capsys: pytest.CaptureFixture[str]):
    frozen = "frozen = true" if backbone == "small_conv" else ""
    Path("own.toml").write_text(STUDY.replace('backbone = "none"', f'backbone = "{backbone}"\n{frozen}'))
    assert main(["run", "own.toml", "--device", "cpu", "-q"]) == 0
    assert main([*TRAIN, "--weights", "best.pt"]) == 0
    assert "Weights: best.pt" in capsys.readouterr().out
    study = optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")
    (record,) = [trial.user_attrs[ATTRIBUTE] for trial in study.trials if trial.params["head"] == "8"]
    data = load_study_data(load_settings("own.toml").data)
    network = build_network("8", data.image_shape, 2, backbone=backbone)
    network.load_state_dict(torch.load("best.pt", weights_only=True))
    assert accuracy(network, data.validation) == record["accuracy"]
    assert accuracy(network, data.test) == record["test_accuracy"]
    assert score(network, data, layers="head", indices=["cell_count"]).joint["cell_count"] == pytest.approx(
        record["joint"]["cell_count"], abs=2 if frozen else 0
    )  # the backbone ran in batches of another size


def test_bad_input_is_refused(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("there.pt").write_text("mine")
    assert "exists already" in refused(capsys, *TRAIN, "--weights", "there.pt")
    assert Path("there.pt").read_text() == "mine"
    assert "does not end in .pt" in refused(capsys, *TRAIN, "--weights", "weights")
    assert "no folder nowhere" in refused(capsys, *TRAIN, "--weights", "nowhere/w.pt")
    for parameters, message in {
        ("head=8", "learning_rate=-1"): "learning rate -1.0",
        ("head=x", "learning_rate=0.1"): "head 'x'",
        ("head=8", "learning_rate=fast"): "learning_rate 'fast' is not",
        ("head=8", "depth=2", "learning_rate=0.1"): "unknown parameter 'depth'. Known: head, learning_rate",
        ("head=8",): "also have learning_rate",
        ("head=8", "head=4-4", "learning_rate=0.1"): "head is given twice",
        ("head=8", "0.1"): "'0.1' is not NAME=VALUE",
    }.items():
        assert message in refused(capsys, *TRAIN[:2], *parameters, *TRAIN[4:], "--weights", "w.pt")
    for seed in ("-1", str(2**64)):  # which no study can have
        assert f"seed {seed} is out of range" in refused(capsys, *TRAIN, "--seed", seed, "--weights", "w.pt")
    assert not Path("w.pt").exists()


@pytest.mark.parametrize(
    ("changed", "notes"),
    [
        ({}, []),
        ({"learning_rate": "1e-1"}, []),  # the same number
        ({"head": "4-8"}, ["head '4-8' is not in the study's search space (8, 4-4)"]),
        ({"learning_rate": "0.2"}, ["learning_rate 0.2 is not in the study's search space (0.1)"]),
        ({"seed": "3"}, ["seed 3 is not among the study's seeds (0)"]),
        ({"head": "2", "seed": "3"}, ["head '2' is not in", "seed 3 is not among"]),
    ],
)
def test_a_candidate_outside_the_search_space_is_trained_with_a_note(here: Path, capsys, changed, notes):
    parameters = {"head": "8", "learning_rate": "0.1", "seed": "0"} | changed
    options = [*(f"{name}={parameters[name]}" for name in ("head", "learning_rate")), "--seed", parameters["seed"]]
    assert main(["train", "own.toml", *options, "--device", "cpu", "--weights", "w.pt"]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "note: " in line]
    assert len(lines) == bool(notes)
    assert all(note in line and "is trained all the same" in line for line in lines for note in notes)
    assert "note" not in captured.out
    weights = torch.load("w.pt", weights_only=True)
    first = next(value for name, value in weights.items() if name.endswith("weight"))
    assert len(first) == int(parameters["head"].split("-")[0])


def test_an_interval_holds_its_ends_and_a_long_list_is_cut(here: Path):
    Path("space.toml").write_text(
        "learning_rates = { low = 0.001, high = 0.1 }\nheads = { depths = [1, 2], widths = [1, 2, 3, 4] }\n"
    )
    settings = load_settings("own.toml")

    def notes(head: str, rate: float) -> list[str]:
        return outside(Candidate({"head": head, "learning_rate": rate}), settings)

    assert all(notes("1-4", rate) == [] for rate in (0.001, 0.05, 0.1))
    assert notes("1-4", 0.11) == ["learning_rate 0.11 is not in the study's search space (0.001 to 0.1)"]
    (note,) = notes("5", 0.1)
    assert (
        note
        == "head '5' is not in the study's search space (1, 2, 3, 4, 1-1, 1-2, 1-3, 1-4, 2-1, 2-2, 2-3, 2-4 and 8 more)"
    )
