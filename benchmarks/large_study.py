"""A study of 10,000 trials: `status`, `select` and `report` within 10 s of processor time and 1 GiB of memory each.

The trials are not trained: their records are as long as those of a study with a curve of ten epochs, three seeds a
network and predictions of 1,000 validation samples.
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure  # sets the number of threads
import numpy as np
import optuna
from measure import Claim
from optuna.storages._rdb.models import TrialModel, TrialValueModel
from optuna.trial import FrozenTrial, create_trial
from sqlalchemy.orm import Session

from nas_relucode.study.predictions import kept_predictions
from nas_relucode.study.record import ATTRIBUTE, VERSION
from nas_relucode.study.search_space import SearchSettings, SearchSpace
from nas_relucode.study.settings import DataSettings, NetworkSettings, StudySettings
from nas_relucode.workers.queue import _insert

MEMORY = Path("/dev/shm")  # where a storage of 10,000 trials is written quickly
DIGEST = hashlib.sha256(b"validation").hexdigest()
FINITE = TrialValueModel.TrialValueType.FINITE
TRIALS, SEEDS, SAMPLES, EPOCHS = 10_000, 3, 1_000, 10
MEASURING = """
import os, subprocess, sys

process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss)
"""  # in a small process: the peak that the system reports is at least the size of the process that starts a command
COMMANDS = ("status", "select", "report")
CLAIMS = {
    **{name: Claim(f"{name} of {TRIALS:,} trials", "at most 10 s", 1) for name in COMMANDS},
    **{f"{name}, memory": Claim(f"{name} of {TRIALS:,} trials: memory", "at most 1 GiB", 1) for name in COMMANDS},
    "page": Claim(f"report.html of {TRIALS:,} trials", "at most 8 MiB", 1),
}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS, "Processor time and peak memory of a process; one run each.")
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        url = f"sqlite:///{folder}/study.db"
        stored_study(url, 1_000 if bench.quick else TRIALS)
        for command in COMMANDS:
            seconds, memory = measured([command, "large", "--storage", url], folder)
            bench.row(command, seconds, 10.0)
            bench.row(f"{command}, memory", memory, 2**30, show=measure.mebibytes)
        bench.row("page", page_size(Path(folder)), 2**23, show=measure.mebibytes)
    bench.finish()


def measured(arguments: list[str], folder: str) -> tuple[float, int]:
    """The processor seconds and the peak memory in bytes of one command."""
    command = [sys.executable, "-m", "nas_relucode", *arguments]
    measuring = [sys.executable, "-c", MEASURING, *command]
    measured = subprocess.run(measuring, cwd=folder, capture_output=True, text=True, check=True).stdout
    code, seconds, kibibytes = measured.split()
    if code != "0":
        raise SystemExit(f"{arguments[0]} ended with exit code {code}.")
    return float(seconds), float(kibibytes) * 1024


def page_size(folder: Path) -> int:
    return (folder / "runs" / "large" / "report.html").stat().st_size


def stored_study(url: str, trials: int) -> None:
    """Writes a study of so many complete trials, as `run_study` would leave it, to the storage."""
    space = SearchSpace(parameters={"width": {"low": 8, "high": 7 + -(-trials // SEEDS)}, "learning_rate": [0.1]})
    settings = StudySettings(
        data=DataSettings(source="digits"),
        network=NetworkSettings(factory="mine:network"),
        search=SearchSettings(space=space, seeds=tuple(range(SEEDS))),
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="large", storage=url, directions=list(settings.objectives.values()))
    study.set_user_attr("settings", settings.as_dict())
    complete = [trial(settings, number) for number in range(trials)]
    with Session(study._storage._backend.engine) as session:  # Optuna's own add_trials takes ten times as long
        _insert(session, study._study_id, complete)
        rows = session.query(TrialModel).order_by(TrialModel.number).all()
        for row, own in zip(rows, complete, strict=True):
            row.datetime_complete = own.datetime_complete
            session.add_all(
                TrialValueModel(trial_id=row.trial_id, objective=place, value=value, value_type=FINITE)
                for place, value in enumerate(own.values)
            )
        session.commit()


def trial(settings: StudySettings, number: int) -> FrozenTrial:
    """A complete trial with an accuracy near 0.9 that depends on its network a little, and as much on its seed."""
    space = settings.search_space
    network, seed = divmod(number, SEEDS)
    rng = np.random.default_rng(number)
    params = {"width": network + 8, "learning_rate": 0.1}
    level = 0.9 + 0.01 * np.random.default_rng(network + 10**6).normal() + 0.01 * rng.normal()
    correct = rng.random(SAMPLES) < level
    joint = {f"{name}_count": float(rng.integers(10, 1000)) for name in ("cell", "correct_cell", "edge", "component")}
    joint |= {name: float(rng.normal()) for name in ("clustering", "separability", "mean_distance")}
    layers = {"head.1": joint}
    counts = {name: joint[name] for name in ("cell_count", "correct_cell_count")}
    point = {"joint": counts, "layers": {"head.1": counts}}
    point |= dict.fromkeys(["loss", "validation_loss", "accuracy", "train_accuracy"], 0.5)
    record: dict[str, Any] = {
        "version": VERSION,
        "params": params,
        "seed": seed,
        "objectives": list(settings.objectives),
        "accuracy": float(correct.mean()),
        "validation_loss": 0.3,
        "train_accuracy": 0.95,
        "test_accuracy": None,
        "validation": kept_predictions(correct, DIGEST),
        "test": None,
        "classes": 10,
        "qualities": {"parameters": 64 * (network + 8), "seconds": 1.5},
        "joint": joint,
        "layers": layers,
        "saturated": {},
        "split": "train",
        "samples": SAMPLES,
        "curve": [{"epoch": epoch, **point} for epoch in range(EPOCHS + 1)],
        "device": "cpu",
        "codes": {},
    }
    distributions = space.distributions(range(SEEDS))
    return create_trial(
        params={**params, "seed": seed},
        distributions=distributions,
        values=[record["accuracy"], joint["cell_count"]],
        user_attrs={ATTRIBUTE: record},
    )


if __name__ == "__main__":
    main()
