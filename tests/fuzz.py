"""Feeds every reader of files and records with damaged and forged ones: `python -m tests.fuzz --seconds 600`.

A reader may accept an input or raise InputError. Everything else is a failure: another exception, more than 20 s for an
input, more than 1 GiB of memory. The counts by reader are printed, and the exit code is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from torch import nn

from nas_relucode import InputError, load_data, select
from nas_relucode.cells.code_spaces import CodeSpace, _digest, load_code_space, save_code_space
from nas_relucode.cli.complex import from_npz
from nas_relucode.codes import pack
from nas_relucode.geometry.complexes import complex_of
from nas_relucode.report.write import write_report
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.predictions import correct_samples, kept_predictions
from nas_relucode.study.record import Outcome, checked_record
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.toml_files import parse
from nas_relucode.training.checkpoints import load_checkpoint, save_checkpoint
from nas_relucode.training.weights import load_weights
from nas_relucode.workers.results import SavedResults
from nas_relucode.workers.status import status_of

sys.path.insert(0, str(Path(__file__).parent))
from damage import VALUES, damaged, forged, mutated, npz
from hand_made import hand_made

MEMORY = Path("/dev/shm")  # where files are written quickly
LONGEST = 20  # seconds for an input
MOST_MEMORY = 2**30  # bytes beyond those at the start
STUDY = """description = "a study"
margin = 0.01
[data]
source = "digits"
validation = 0.25
classes = ["0", "1"]
[network]
backbone = "none"
[training]
epochs = 3
momentum = 0.9
[search]
seeds = [0, 1]
trials = 4
[search.space]
heads = {depths = [1, 2], widths = [8, 16]}
learning_rates = {low = 0.01, high = 0.1}
[objectives]
accuracy = "maximize"
cell_count = "minimize"
"""


@dataclass
class Reader:
    """What reads an input, how inputs are drawn, and what came of them."""

    draw: Callable[[random.Random], Any]
    read: Callable[[Any], object]
    accepted: int = 0
    refused: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # where it was raised -> the traceback
    failed: int = 0
    slowest: float = 0.0


class TooSlowError(BaseException):
    """An input took longer than it may."""


def readers(folder: Path) -> dict[str, Reader]:
    """Every reader, with files below ``folder``."""
    return {
        "study files (TOML)": _toml(folder),
        "data (.npz)": _data(folder),
        "networks (.npz)": _networks(folder),
        "weights (torch.save)": _weights(folder),
        "code spaces": _code_spaces(folder),
        "checkpoints": _checkpoints(folder),
        "states of complexes": _states(folder),
        "results of workers": _results(folder),
        "predictions": _predictions(),
        "records of trials": _records(),
        "whole studies": _studies(),
        "reports": _reports(folder),
    }


def _file_reader(path: Path, content: Callable[[random.Random], bytes], read: Callable[[Path], object]) -> Reader:
    def read_file(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return Reader(content, read_file)


def _toml(folder: Path) -> Reader:
    return _file_reader(
        folder / "study.toml", lambda rng: damaged(rng, STUDY.encode()), lambda path: load_settings(str(path))
    )


def _data(folder: Path) -> Reader:
    arrays = {
        "x_train": np.zeros((6, 2, 2), np.uint8),
        "y_train": np.arange(6) % 2,
        "x_test": np.zeros((2, 2, 2), np.uint8),
        "y_test": np.arange(2),
        "classes": np.array(["cat", "dog"]),
    }
    return _file_reader(folder / "data.npz", lambda rng: forged(rng, arrays), lambda path: load_data(str(path)))


def _networks(folder: Path) -> Reader:
    arrays = _perceptron()
    return _file_reader(folder / "network.npz", lambda rng: forged(rng, arrays), from_npz)


def _perceptron() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "W0": rng.standard_normal((4, 2)),
        "b0": rng.standard_normal(4),
        "W1": rng.standard_normal((1, 4)),
        "b1": np.zeros(1),
    }


def _weights(folder: Path) -> Reader:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    stream = io.BytesIO()
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, stream)
    whole = io.BytesIO()
    torch.save(network, whole)
    contents = [stream.getvalue(), whole.getvalue()]
    return _file_reader(
        folder / "weights.pt",
        lambda rng: damaged(rng, rng.choice(contents)),
        lambda path: load_weights(network, path, "a network"),
    )


def _code_spaces(folder: Path) -> Reader:
    bits = np.random.default_rng(0).integers(0, 2, (20, 5))
    whole = save_code_space(CodeSpace.of(pack(bits), labels=np.arange(20) % 3), folder / "whole.npz")
    with np.load(whole) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").tobytes())
    del header["sha256"]

    def draw(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return damaged(rng, whole.read_bytes())
        try:  # with a digest that is right
            with np.load(io.BytesIO(forged(rng, arrays)), allow_pickle=False) as file:
                others = dict(file)
            changed = mutated(rng, header) if rng.random() < 0.5 else header
            text = json.dumps(changed | {"sha256": _digest(changed, others)})
        except Exception:
            return damaged(rng, whole.read_bytes())
        return npz({"header": np.frombuffer(text.encode(), np.uint8), **others})

    return _file_reader(folder / "space.npz", draw, load_code_space)


def _checkpoints(folder: Path) -> Reader:
    settings = {"epochs": 3, "head": "8"}
    whole = save_checkpoint(
        folder / "whole.pt", {"weights": {"w": torch.zeros(3)}, "epoch": 1}, settings=settings, results=[1.0]
    )
    return _file_reader(
        folder / "checkpoint.pt",
        lambda rng: damaged(rng, whole.read_bytes()),
        lambda path: load_checkpoint(path, settings=settings),
    )


def _states(folder: Path) -> Reader:
    np.savez(folder / "small.npz", **_perceptron())
    network = from_npz(folder / "small.npz")
    complex_of(network, state=folder / "whole_state.npz", max_cells=3)
    with np.load(folder / "whole_state.npz") as file:
        arrays = dict(file)
    return _file_reader(
        folder / "state.npz", lambda rng: forged(rng, arrays), lambda path: complex_of(network, state=path, max_cells=4)
    )


def _results(folder: Path) -> Reader:
    candidate = Candidate({"head": "8"}, 0)
    results = SavedResults(folder, "study", "digest")
    path = results.save(3, Outcome(candidate, _record(), (0.5, 3.0)))
    content = json.loads(path.read_text())

    def draw(rng: random.Random) -> bytes:
        if rng.random() < 0.5:
            return damaged(rng, json.dumps(content).encode())
        return json.dumps(mutated(rng, content), default=str).encode()

    return _file_reader(path, draw, lambda _: results.find(candidate))


def _predictions() -> Reader:
    kept = kept_predictions(np.arange(40) % 3 > 0, "0a")
    kept["split"] = None

    def draw(rng: random.Random) -> dict[str, Any]:
        changed = dict(kept)
        if rng.random() < 0.5:
            changed["correct"] = damaged(rng, kept["correct"].encode()).decode("latin-1")
        else:
            changed["samples"] = rng.choice([1, 8, 9, 39, 41, 2**31 - 1])
        return changed

    return Reader(draw, correct_samples)


def _record() -> dict[str, Any]:
    record: dict[str, Any] = hand_made().user_attrs["relucode"]
    return record


def _trial(record: Any, state: optuna.trial.TrialState = optuna.trial.TrialState.COMPLETE) -> Any:
    values = [0.5, 3.0] if state == optuna.trial.TrialState.COMPLETE else None
    return optuna.trial.create_trial(state=state, values=values, user_attrs={"relucode": record})


def _records() -> Reader:
    whole = _record()
    return Reader(lambda rng: mutated(rng, whole), lambda record: checked_record(_trial(record), "study"))


def _studies() -> Reader:
    """Studies with a trial of ours, and one whose attributes are mutated; what they show is JSON without NaN."""
    whole = _record()
    states = [optuna.trial.TrialState.COMPLETE] * 3 + [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED]

    def draw(rng: random.Random) -> tuple[Any, Any]:
        return mutated(rng, whole) if rng.random() < 0.95 else rng.choice(VALUES), rng.choice(states)

    def read(drawn: tuple[Any, Any]) -> None:
        study = optuna.create_study(directions=["maximize", "minimize"])
        study.add_trials([_trial(whole), _trial(drawn[0], drawn[1])])
        select(study)

    return Reader(draw, read)


def _reports(folder: Path) -> Reader:
    """Reports of studies with a mutated trial or mutated settings: all files or none, and JSON without NaN."""
    whole, settings = _record(), parse(StudySettings, tomllib.loads(STUDY), "here").as_dict()

    def draw(rng: random.Random) -> tuple[Any, Any]:
        is_record = rng.random() < 0.5
        return mutated(rng, whole) if is_record else whole, settings if is_record else mutated(rng, settings)

    def read(drawn: tuple[Any, Any]) -> None:
        study = optuna.create_study(directions=["maximize", "minimize"], study_name="drawn")
        study.add_trials([_trial(whole), _trial(drawn[0])])
        study.set_user_attr("settings", drawn[1])
        with contextlib.suppress(InputError):
            status_of(study)
        with tempfile.TemporaryDirectory(dir=folder) as report:
            try:
                write_report(study, report)
            finally:
                files = {file.name for file in Path(report).iterdir()}
                assert not files or {"report.html", "pareto.json", "trials.csv"} <= files, files
            json.loads((Path(report) / "pareto.json").read_text("utf-8"), parse_constant=_no_number)

    return Reader(draw, read)


def _no_number(name: str) -> None:
    raise AssertionError(f"{name} in JSON")


def feed(reader: Reader, rng: random.Random) -> None:
    """Draws an input and notes what the reader does with it."""
    drawn = reader.draw(rng)
    start = time.perf_counter()
    try:
        signal.alarm(LONGEST)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            reader.read(drawn)
        reader.accepted += 1
    except InputError:
        reader.refused += 1
    except (Exception, TooSlowError) as error:
        reader.failed += 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{type(error).__name__} in {place.filename}:{place.lineno}"
        shown = repr(drawn)
        reader.failures.setdefault(key, f"{traceback.format_exc()}input: {shown[:2000]}")
    finally:
        signal.alarm(0)
    reader.slowest = max(reader.slowest, time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> int:
    """Feeds all readers in turn until the time is up, prints a table, and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    def too_slow(*_: object) -> None:
        raise TooSlowError(f"more than {LONGEST} s")

    signal.signal(signal.SIGALRM, too_slow)
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng, peak = random.Random(options.seed), _peak()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        every = readers(Path(folder))
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            for reader in every.values():
                slice_end = time.monotonic() + 0.2
                while time.monotonic() < slice_end:
                    feed(reader, rng)
    print("| reader | inputs | accepted | refused | tracebacks | slowest (s) |\n|---|---|---|---|---|---|")
    for name, reader in every.items():
        counts = (reader.accepted, reader.refused, reader.failed)
        print(f"| {name} | {sum(counts):,} | {' | '.join(f'{n:,}' for n in counts)} | {reader.slowest:.2f} |")
    for name, reader in every.items():
        for place, text in reader.failures.items():
            print(f"\n{name}: {place}\n{text}")
    memory = _peak() - peak
    print(f"\nmemory beyond that at the start: {memory / 2**20:.0f} MiB")
    return int(memory > MOST_MEMORY or any(reader.failed for reader in every.values()))


def _peak() -> int:
    """The peak of this process's memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
