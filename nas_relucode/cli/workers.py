"""The commands `plan`, `worker` and `status`: one study, many processes, on PostgreSQL."""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

from nas_relucode.cli.progress import Progress
from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import artifact_store
from nas_relucode.study.runner import study_name
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.study.storage import default_storage, redact, sqlite_path, storage_errors
from nas_relucode.toml_files import builtin_files
from nas_relucode.workers.database import check_queue
from nas_relucode.workers.fleet import cpu_environments, gpu_environments, run_fleet
from nas_relucode.workers.planning import HEARTBEAT, plan_study
from nas_relucode.workers.retrying import PATIENCE, StorageRetry, StorageUnavailableError
from nas_relucode.workers.status import study_status
from nas_relucode.workers.stopping import Stop
from nas_relucode.workers.worker import DeviceLostError, work


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `plan`, but for those that `run` has too."""
    parser.add_argument("study", help="a built-in study (see list) or a .toml file")
    parser.add_argument(
        "--heartbeat", type=int, metavar="SECONDS", help=f"how often workers say that they are alive ({HEARTBEAT})"
    )
    _add_patience(parser)


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `worker`, but for those that `run` has too."""
    parser.add_argument("study", help="the study's name, or its .toml file, whose settings are then compared")
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--gpus", metavar="LIST", help="a process for each of these GPUs, e.g. 0,1")
    several.add_argument("--processes", type=int, metavar="N", help="so many processes on this machine's cores")
    parser.add_argument("--max-trials", type=int, metavar="N", help="end after so many trials (each process)")
    parser.add_argument("--time-limit", metavar="TIME", help="end by then: SECONDS, MM:SS, HH:MM:SS or DAYS-HH:MM:SS")
    parser.add_argument("--no-wait", action="store_true", help="end when none waits, though others still run")
    _add_patience(parser)


def _add_patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, metavar="SECONDS", help=f"for a lost database ({PATIENCE:.0f})"
    )


def plan(options: argparse.Namespace) -> int:
    """Creates the study in its storage and enqueues what it needs."""
    settings = load_settings(options.study)
    name, storage = _study(options)
    try:
        study, added = plan_study(
            name,
            settings,
            storage=storage,
            data_root=options.data_root,
            download=options.download,
            heartbeat=options.heartbeat,
            artifacts=options.artifacts,
            patience=options.patience,
            say=Progress(options).say,
        )
    except StorageUnavailableError as error:
        print(f"nas-relucode: error: {error}. The same command then goes on.", file=sys.stderr)
        return 1
    what = f"{added} trials enqueued" if added else "nothing to enqueue"
    print(f"study {study.study_name} in {redact(storage)}: {what}.")
    print(f"Start workers, as many as you like: nas-relucode worker {options.study}")
    return 0


def worker(options: argparse.Namespace) -> int:
    """Works on a planned study: in this process, or in one for each GPU."""
    name, storage = _study(options)
    check_queue(storage)
    limit = None if options.time_limit is None else seconds(options.time_limit)
    stop, progress = Stop(), Progress(options)
    if options.gpus is not None or options.processes is not None:
        return _fleet(options, storage, stop, progress, limit)
    waiting = StorageRetry(options.patience, progress.say, stop)
    try:
        with stop.on_signals(limit):
            done = work(
                name,
                storage=storage,
                settings=_settings(options.study),
                data_root=options.data_root,
                download=options.download,
                device=options.device,
                folder=Path(options.output) if options.output else Path("runs", name),
                artifacts=waiting(lambda: artifact_store(options.artifacts)),
                max_trials=options.max_trials,
                wait=not options.no_wait,
                patience=options.patience,
                stop=stop,
                say=progress.say,
                on_epoch=progress.epoch,
                on_trial=progress.trial,
            )
    except (StorageUnavailableError, DeviceLostError) as error:
        print(f"nas-relucode: error: {error}. Start a worker again: it goes on.", file=sys.stderr)
        return 1
    progress.say(f"{done} trials brought to an end by this worker" + (f"; {stop.reason}" if stop.reason else ""))
    return 1 if stop.reason and stop.reason.startswith("SIG") else 0


def status(options: argparse.Namespace) -> int:
    """Says how far a study has come."""
    name = study_name(options.study, options.study_name)
    storage = options.storage or default_storage(name)
    file = sqlite_path(storage)
    if file and not file.is_file():
        raise InputError(f"there is no {file}. Give the --storage that the study was planned or run with.")
    with storage_errors(storage):
        try:
            found = study_status(name, storage)
        except KeyError as error:
            raise InputError(f"there is no study {name!r} in {redact(storage)}.") from error
    print(json.dumps(found.as_dict(), indent=2) if options.format == "json" else "\n".join(found.lines()))
    return 0


def seconds(time: str) -> float:
    """A time as batch queues write it, in seconds.

    >>> seconds("90"), seconds("1:30"), seconds("2:00:00"), seconds("1-00:00:00")
    (90.0, 90.0, 7200.0, 86400.0)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", time)
    days, hours, minutes, rest = (float(part or 0) for part in found.groups()) if found else (0.0,) * 4
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not 0 < total <= threading.TIMEOUT_MAX:
        raise InputError(f"the time {time!r} can't be used. Give SECONDS, MM:SS, HH:MM:SS or DAYS-HH:MM:SS.")
    return total


def _fleet(options: argparse.Namespace, storage: str, stop: Stop, progress: Progress, limit: float | None) -> int:
    if options.gpus is not None:
        gpus = [gpu.strip() for gpu in options.gpus.split(",")]
        if not all(gpus) or len(set(gpus)) < len(gpus):
            raise InputError(f"--gpus {options.gpus!r} is no list of different GPUs. Write them like 0,1.")
        environments = gpu_environments(gpus)
    else:
        if options.processes < 1:
            raise InputError(f"--processes {options.processes} is too small. Give at least 1.")
        environments = cpu_environments(options.processes)
    for environment in environments:
        environment["OPTUNA_STORAGE"] = storage  # not on the command line, which everybody may read
    command = [sys.executable, "-m", "nas_relucode", "worker", options.study]
    for name, value in _passed_on(options).items():
        command += [name] if value is True else [name, str(value)]
    with stop.on_signals(limit):
        code = run_fleet(command, environments, stop=stop, say=progress.say)
    return 1 if stop.reason and stop.reason.startswith("SIG") else code


def _passed_on(options: argparse.Namespace) -> dict[str, Any]:
    """The options of each process, but for the storage and what is for this process alone."""
    given = {
        "--study-name": options.study_name,
        "--output": options.output,
        "--artifacts": options.artifacts,
        "--data-root": options.data_root,
        "--download": options.download,
        "--device": options.device,
        "--max-trials": options.max_trials,
        "--no-wait": options.no_wait,
        "--patience": options.patience,
        "--verbose": options.verbose,
        "--quiet": options.quiet,
        "--debug": options.debug,
    }
    return {name: value for name, value in given.items() if value not in (None, False)}


def _study(options: argparse.Namespace) -> tuple[str, str]:
    """The study's name and its storage, which must be told."""
    name = study_name(options.study, options.study_name)
    if not options.storage:
        raise InputError(
            "several processes need a PostgreSQL database. Set OPTUNA_STORAGE, or give --storage-file or --storage: "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    return name, options.storage


def _settings(study: str) -> StudySettings | None:
    """The settings in a file, or of a built-in study; None for a bare name that is neither."""
    if study.endswith(".toml") or study in builtin_files("studies"):
        return load_settings(study)
    return None
