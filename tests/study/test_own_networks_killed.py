"""Studies of one's own networks whose process is killed: a factory's by `run`, and one with ``build`` in a script."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from nas_relucode import select
from nas_relucode.study.record import candidate_of, record_of

pytestmark = pytest.mark.slow  # tests/study/test_study.py has quick ones, of a trial that a dead process left running

NETWORKS = """
from torch import nn

def build(width, depth, second_width, bias, dropout, image_shape, classes):
    widths = [width, second_width][:depth]
    layers = [nn.Flatten()]
    for inputs, outputs in zip([64, *widths], widths):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))

def suggested(trial):
    depth = trial.suggest_int("depth", 1, 2)
    second = trial.suggest_int("second_width", 2, 8) if depth == 2 else None
    width, bias = trial.suggest_categorical("width", [4, 8, 16]), trial.suggest_categorical("bias", [True, False])
    dropout = trial.suggest_float("dropout", 0.0, 0.3)
    trial.suggest_float("learning_rate", 0.001, 0.1, log=True)
    return build(width, depth, second, bias, dropout, (1, 8, 8), 2)
"""
STUDY = """
[data]
source = "digits"
classes = [0, 1]
train_samples = 60
validation = 0.3

[network]
factory = "killed_networks:build"

[training]
epochs = 30
batch_size = 8

[search]
trials = 6
sampler = "nsga2"

[search.parameters]
width = [4, 8, 16]
depth = {low = 1, high = 2}
second_width = {low = 2, high = 8}
bias = [true, false]
dropout = {low = 0.0, high = 0.3}
learning_rate = {low = 0.001, high = 0.1, log = true}
"""
PROGRAMME = """
import optuna, nas_relucode as rc
from killed_networks import suggested

data = rc.load_data("digits", classes=[0, 1], train_samples=60, validation=0.3)
objective = rc.Objective(data, build=suggested, recipe=rc.Recipe(epochs=30, batch_size=8), device="cpu", folder="files")
study = optuna.create_study(
    study_name="mine", storage="sqlite:///mine.db", directions=["maximize", "minimize"], load_if_exists=True,
    sampler=optuna.samplers.NSGAIISampler(population_size=3),
)
done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
study.optimize(objective, n_trials=6 - done, callbacks=[lambda study, trial: print("done", trial.number, flush=True)])
"""


def kill_after(arguments: list[str], folder: Path, line: Callable[[str], bool]) -> None:
    """Starts Python and kills it once it has printed such a line."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        lines = []
        for text in process.stdout:
            lines.append(text)
            if line(text):
                break
        else:
            pytest.fail("".join(lines))
        process.kill()
        assert process.wait() == -signal.SIGKILL


def finish(arguments: list[str], folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=[TrialState.COMPLETE])


def test_a_factorys_study_goes_on_where_it_was_killed(tmp_path: Path):
    (tmp_path / "killed_networks.py").write_text(NETWORKS)
    (tmp_path / "own.toml").write_text(STUDY)
    command = ["-m", "nas_relucode", "run", "own.toml", "--device", "cpu"]
    kill_after([*command, "-v"], tmp_path, lambda line: line.startswith("trial 2, epoch 5:"))
    storage = f"sqlite:///{tmp_path}/runs/own/study.db"
    killed = optuna.load_study(study_name="own", storage=storage).trials[2]
    assert killed.state == TrialState.RUNNING
    assert len(list((tmp_path / "runs/own/checkpoints").iterdir())) == 1
    finish([*command, "-q"], tmp_path)
    study = optuna.load_study(study_name="own", storage=storage)
    assert len(complete(study)) == 6
    (retry,) = [trial for trial in study.trials if trial.user_attrs.get("retry_of") == 2]
    assert retry.params == killed.params
    assert [point["epoch"] for point in record_of(retry)["curve"]] == list(range(31))
    assert len({candidate_of(record_of(trial)) for trial in complete(study)}) == 6
    assert len(select(study).networks) == 6


def test_a_study_with_conditional_parameters_goes_on_after_its_programme_was_killed(tmp_path: Path):
    (tmp_path / "killed_networks.py").write_text(NETWORKS)
    (tmp_path / "mine.py").write_text(PROGRAMME)
    kill_after(["mine.py"], tmp_path, lambda line: line.startswith("done 3"))
    finish(["mine.py"], tmp_path)
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/mine.db")
    assert len(complete(study)) == 6
    for trial in complete(study):
        assert record_of(trial)["params"] == trial.params
        assert ("second_width" in trial.params) == (trial.params["depth"] == 2)
    assert len(select(study).networks) == len({candidate_of(record_of(trial)).network for trial in complete(study)})
