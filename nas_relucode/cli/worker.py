"""The command `worker`: works on a planned study, in this process or in several of this machine."""

from __future__ import annotations

import argparse
import re
import sys
import threading
from typing import Any

from nas_relucode.cli.printing import print_message
from nas_relucode.cli.progress import Progress
from nas_relucode.cli.stored_studies import queue_address, study_folder
from nas_relucode.errors import InputError
from nas_relucode.ranking.reseeding import further_trainings
from nas_relucode.study.artifact_stores import artifact_store
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.texts import counted
from nas_relucode.toml_files import builtin_files
from nas_relucode.workers.database import check_queue
from nas_relucode.workers.fleet import cpu_environments, gpu_environments, run_fleet
from nas_relucode.workers.retrying import StorageRetry, StorageUnavailableError
from nas_relucode.workers.stopping import Stop
from nas_relucode.workers.worker import DeviceLostError, work


def run(options: argparse.Namespace) -> int:
    """Works on a planned study, in this process or in several; the exit code."""
    name, storage = queue_address(options)
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
                folder=study_folder(options, name),
                artifacts=waiting(lambda: artifact_store(options.artifacts)),
                max_trials=options.max_trials,
                wait=not options.no_wait,
                patience=options.patience,
                stop=stop,
                further=further_trainings,
                say=progress.say,
                on_epoch=progress.epoch,
                on_trial=progress.trial,
            )
    except (StorageUnavailableError, DeviceLostError) as error:
        print_message(f"{error}. Start a worker again: it resumes.")
        return 1
    progress.say(f"{counted(done, 'trial')} ended by this worker" + (f"; {stop.reason}" if stop.reason else ""))
    return 1 if stop.reason and stop.reason.startswith("SIG") else 0


def seconds(time: str) -> float:
    """A time as batch queues write it, in seconds.

    >>> seconds("90"), seconds("1:30"), seconds("2:00:00"), seconds("1-00:00:00")
    (90.0, 90.0, 7200.0, 86400.0)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", time)
    days, hours, minutes, rest = (float(part or 0) for part in match.groups()) if match else (0.0,) * 4
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not 0 < total <= threading.TIMEOUT_MAX:
        raise InputError(f"the time {time!r} cannot be used. Give SECONDS, MM:SS, HH:MM:SS or DAYS-HH:MM:SS.")
    return total


def _fleet(options: argparse.Namespace, storage: str, stop: Stop, progress: Progress, limit: float | None) -> int:
    if options.gpus is not None:
        gpus = [gpu.strip() for gpu in options.gpus.split(",")]
        if not all(gpus) or len(set(gpus)) < len(gpus):
            raise InputError(f"--gpus {options.gpus!r} must be a list of different GPUs, e.g. 0,1.")
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
    """The options of each process: all except the storage and those of this process only."""
    options_of_process = {
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
    return {name: value for name, value in options_of_process.items() if value is not None and value is not False}


def _settings(study: str) -> StudySettings | None:
    """The settings in a file, or of a built-in study; None for a bare name that is neither."""
    if study.endswith(".toml") or study in builtin_files("studies"):
        return load_settings(study)
    return None
