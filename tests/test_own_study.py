"""A user's own study, from the recorder to the report, in the programme that the documentation shows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from private_postgres import Server
from storages import opened

import nas_relucode as rc

MNIST = Path(__file__).parent / "data" / "mnist.npz"
TRIALS, SEEDS = 12, [1, 2]
PROGRAMME = """\
data = rc.load_data(DATA, data_root=ROOT, validation=HELD_OUT)
record = rc.Recorder(train=data.train, validation=data.validation, test=data.test)
def objective(trial, seed=0):
    torch.manual_seed(seed)
    channels, width = trial.suggest_int("channels", 4, 12), trial.suggest_categorical("width", [16, 32, 64])
    convolutions = [nn.Conv2d(1, channels, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten()]
    network = nn.Sequential(*convolutions, nn.Linear(36 * channels, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.Adam(network.parameters(), trial.suggest_float("lr", 1e-3, 1e-2, log=True))
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(data.train)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(data.train.inputs[batch]), data.train.labels[batch]).backward()
            optimizer.step()
    return record(trial, network, seed=seed)
study = optuna.create_study(directions=record.directions, storage=storage, study_name="own", load_if_exists=True)
study.optimize(objective, n_trials=TRIALS)
rc.reseed(study, objective, seeds=SEEDS)
print(rc.select(study))
rc.write_report(study, "report")
"""
PREPARED = """\
import sys
import optuna, torch
from torch import nn
import nas_relucode as rc
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
optuna.logging.set_verbosity(optuna.logging.ERROR)
"""


def programme(where: str | None, trials: int = TRIALS, seeds: Sequence[int] = SEEDS) -> str:
    """The whole text that runs the programme on a storage."""
    storage = repr(where) if where is None or "://" in where else f"JournalStorage(JournalFileBackend({where!r}))"
    settings = {"DATA": str(MNIST), "ROOT": "data", "HELD_OUT": 0.4, "EPOCHS": 30, "TRIALS": trials, "SEEDS": seeds}
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    return "".join([PREPARED, *lines, f"storage = {storage}\n", PROGRAMME])


def check(study: optuna.Study, printed: str, folder: Path, trials: int = TRIALS) -> None:
    """The study has each training once, more than the search alone, and the verdict stands in print and on the page."""
    chosen = rc.select(study)
    complete = [trial.user_attrs["relucode"] for trial in study.trials if trial.state == TrialState.COMPLETE]
    trainings = [(str(record["params"]), record["seed"]) for record in complete]
    assert len(set(trainings)) == len(trainings) > trials
    assert len(chosen.networks) == trials
    assert chosen.networks["seeds"].max() > 1
    assert f"Choose {chosen.best['network']}" in printed
    assert chosen.best["network"] in (folder / "report" / "report.html").read_text("utf-8")


def run(where: str | None, folder: Path) -> str:
    """Runs the programme in another process in the folder; what it prints."""
    command = [sys.executable, "-W", "ignore", "-c", programme(where)]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True, env=environment()).stdout


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_the_programme_is_short_and_runs_in_memory(tmp_path, monkeypatch, capsys):
    assert len(PROGRAMME.splitlines()) <= 20
    monkeypatch.chdir(tmp_path)
    fixed = partial(optuna.create_study, sampler=optuna.samplers.RandomSampler(0))  # networks of similar accuracy
    monkeypatch.setattr(optuna, "create_study", fixed)
    names: dict[str, Any] = {}
    exec(programme(None, trials=3, seeds=[1]), names)
    check(names["study"], capsys.readouterr().out, tmp_path, trials=3)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_the_programme_runs_on_files(storage, tmp_path):
    where = f"sqlite:///{tmp_path}/own.db" if storage == "sqlite" else str(tmp_path / "own.journal")
    printed = run(where, tmp_path)
    with opened(where) as opened_storage:
        check(optuna.load_study(study_name="own", storage=opened_storage), printed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_two_processes_share_a_study(storage, tmp_path, request):
    if storage == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        where = server.database()
    else:
        where = str(tmp_path / "own.journal")
    with opened(where) as opened_storage:
        optuna.create_study(directions=["maximize", "minimize"], storage=opened_storage, study_name="own")
    command = [sys.executable, "-W", "ignore", "-c", programme(where, TRIALS // 2)]
    folders = [tmp_path / name for name in ("first", "second")]
    processes = []
    for folder in folders:
        folder.mkdir()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment())
        processes.append(process)
    printed = [process.communicate(timeout=500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    last = max(folders, key=lambda folder: (folder / "report" / "report.html").stat().st_mtime)
    with opened(where) as opened_storage:
        check(optuna.load_study(study_name="own", storage=opened_storage), printed[folders.index(last)], last)


@pytest.mark.slow
def test_a_killed_run_is_resumed_and_loses_one_trial_at_most(tmp_path):
    where = str(tmp_path / "own.journal")
    command = [sys.executable, "-W", "ignore", "-c", programme(where)]

    def trials() -> list[optuna.trial.FrozenTrial]:
        with opened(where) as storage:
            names = optuna.get_all_study_names(storage)
            return optuna.load_study(study_name="own", storage=storage).trials if names else []

    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    while process.poll() is None and sum(trial.state == TrialState.COMPLETE for trial in trials()) < 3:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = trials()
    complete = [trial for trial in before if trial.state == TrialState.COMPLETE]
    assert 3 <= len(complete) < TRIALS
    assert len(before) - len(complete) <= 1
    assert "Choose" in run(where, tmp_path)
    after = {trial.number: trial.values for trial in trials()}
    assert all(after[trial.number] == trial.values for trial in complete)
