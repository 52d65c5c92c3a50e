"""The commands that `tests.faults` disturbs: what each is given, what it leaves, and whether that is whole."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from command_line import SPACE, STUDY
from optuna.trial import TrialState

from nas_relucode.study.record import ATTRIBUTE

DISK = "disk"  # the folder, or the file system, to which a command writes
RUN_SPECIFIC = ("qualities", "device")  # parts of a record that differ between runs
FIGURE = '\n[codes]\nkept_epochs = [0, 1]\n\n[figure]\nkind = "curves"\n'
NETWORK = """\
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
"""
SHARDS = 12


@dataclass(frozen=True)
class Command:
    """A command line, the files that it needs, and what it leaves; ``result`` is equal for equal runs."""

    arguments: tuple[str, ...]
    prepare: Callable[[Path], None]  # writes files into a folder
    result: Callable[[Path, str], Any]  # folder, standard output -> plain values
    trains: bool = False  # candidates, which may be given up
    resumes: bool = True  # once complete, the same command succeeds again
    forkable: bool = True  # it leaves neither threads nor connections to a server, which a fork would inherit


def commands() -> dict[str, Command]:
    """Every command by its name."""
    place = ("--storage", f"sqlite:///{DISK}/study.db", "--output", DISK)
    stored = ("--storage", "sqlite:///study.db", "--output", DISK)
    weights = ("head=8", "learning_rate=0.1", "--weights", f"{DISK}/weights.pt")
    data = ("--data", "digits", "--shards", str(SHARDS), "--batch-size", "64")
    codes = ("--model", "faulty_network:make", *data, "--output", f"{DISK}/space.npz")
    cells = ("network.npz", "--state", f"{DISK}/state.npz", "-f", "json")
    common = ("-q", "--device", "cpu")
    return {
        "run": Command(("run", "own.toml", *place, *common), _study, _trials, trains=True),
        "report": Command(("report", "own.toml", *stored, "-q"), _study, _digests),
        "codes": Command(("codes", *codes, *common), _network, _digests),
        "complex": Command(("complex", *cells, "-q"), _perceptron, _complex, forkable=False),
        "worker": Command(
            ("worker", "own.toml", "--storage-file", "storage", "--output", DISK, *common),
            _study,
            _trials,
            trains=True,
            forkable=False,
        ),
        "figure": Command(("figure", "drawn.toml", *place, *common), _figure, _drawn, trains=True),
        "train": Command(("train", "own.toml", *weights, *common), _study, _digests, resumes=False),
    }


def _study(folder: Path) -> None:
    (folder / "space.toml").write_text(SPACE)
    (folder / "own.toml").write_text(STUDY)


def _figure(folder: Path) -> None:
    _study(folder)
    (folder / "drawn.toml").write_text(STUDY + FIGURE)


def _network(folder: Path) -> None:
    (folder / "faulty_network.py").write_text(NETWORK)


def _perceptron(folder: Path) -> None:
    rng = np.random.default_rng(0)
    widths = [2, 24, 24, 1]
    weights = {f"W{i}": rng.standard_normal((b, a)) for i, (a, b) in enumerate(pairwise(widths))}
    np.savez(folder / "network.npz", **weights, **{f"b{i}": rng.standard_normal(b) for i, b in enumerate(widths[1:])})


def trials(url: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of the only study in a storage."""
    (summary,) = optuna.get_all_study_summaries(url)
    return optuna.load_study(study_name=summary.study_name, storage=url).trials


def complete_trials(url: str) -> dict[str, Any]:
    """Values and record, without what differs between runs, of the complete trials by their candidate.

    Raises AssertionError if a candidate was completed twice or a failure counts against it.
    """
    results: dict[str, Any] = {}
    for trial in trials(url):
        record = trial.user_attrs.get(ATTRIBUTE, {})
        assert "failed" not in record, f"trial {trial.number} counts as a failure of its candidate: {record['failed']}"
        if trial.state == TrialState.COMPLETE:
            name = json.dumps(trial.params)
            assert name not in results, f"{name} was completed twice"
            results[name] = [trial.values, {key: item for key, item in record.items() if key not in RUN_SPECIFIC}]
    return results


def _trials(folder: Path, printed: str) -> Any:
    url = (folder / "storage").read_text() if (folder / "storage").exists() else f"sqlite:///{folder / DISK}/study.db"
    return complete_trials(url)


def _drawn(folder: Path, printed: str) -> Any:
    return [_trials(folder, printed), sorted(path.name for path in (folder / DISK).rglob("*.png"))]


def _digests(folder: Path, printed: str) -> dict[str, str]:
    """The SHA-256 of every file."""
    files = sorted(path for path in (folder / DISK).rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _complex(folder: Path, printed: str) -> Any:
    with np.load(folder / DISK / "state.npz") as state:
        codes = np.unique(state["codes"], axis=0)
    return [json.loads(printed), len(codes), hashlib.sha256(codes.tobytes()).hexdigest()]


def check_whole(folder: Path) -> None:
    """Raises an exception for a file that is not whole; those that processes were writing (``.name``) do not count."""
    for path in (folder / DISK).rglob("[!.]*"):
        if path.is_file() and path.suffix in WHOLE:
            try:
                WHOLE[path.suffix](path)
            except Exception as error:
                raise AssertionError(f"{path.name} is half-written: {type(error).__name__}: {error}") from error


def _database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _ends_with(ending: bytes) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert path.read_bytes().rstrip().endswith(ending), f"it ends in {path.read_bytes()[-20:]!r}"

    return check


def _archive(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None


def _table(path: Path) -> None:
    assert path.read_text("utf-8").endswith("\n")
    assert len({len(row) for row in csv.reader(path.read_text("utf-8").splitlines())}) == 1


WHOLE: dict[str, Callable[[Path], object]] = {
    ".db": _database,
    ".npz": _archive,
    ".json": lambda path: json.loads(path.read_text("utf-8")),
    ".html": _ends_with(b"</html>"),
    ".svg": _ends_with(b"</svg>"),
    ".png": _ends_with(b"IEND\xaeB`\x82"),
    ".csv": _table,
}


def check_clean(folder: Path) -> None:
    """Raises AssertionError if temporary files or checkpoints are left once a command is complete."""
    left = [str(path.relative_to(folder)) for path in (folder / DISK).rglob("*") if path.name.startswith(".")]
    left += [str(path.relative_to(folder)) for path in (folder / DISK).rglob("checkpoints")]
    assert not left, f"left behind: {left}"
