"""The command line: run, plan, worker, status, figure, train, report, ... Exit 0 done, 1 failed, 2 misuse."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

import nas_relucode
from nas_relucode.cli import builtin as command_builtin
from nas_relucode.cli import codes as command_codes
from nas_relucode.cli import complex as command_complex
from nas_relucode.cli import figure as command_figure
from nas_relucode.cli import score as command_score
from nas_relucode.cli import select as command_select
from nas_relucode.cli import train as command_train
from nas_relucode.cli import workers as command_workers
from nas_relucode.cli.progress import run_shown
from nas_relucode.errors import InputError, unknown
from nas_relucode.ranking.ranking import rank, trials_frame
from nas_relucode.report.dashboard import show_in_dashboard
from nas_relucode.report.tables import (
    constant_on_front,
    networks_table,
    nobody_feasible,
    retries,
    text_table,
)
from nas_relucode.report.write import write_report
from nas_relucode.study.artifact_stores import artifact_store, study_store
from nas_relucode.study.plan import Plan
from nas_relucode.study.predictions import FOLDER, file_store
from nas_relucode.study.runner import check_settings, study_name
from nas_relucode.study.settings import load_settings
from nas_relucode.study.storage import (
    default_storage,
    has_password,
    open_storage,
    redact,
    sqlite_path,
    storage_errors,
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.INFO if options.verbose else optuna.logging.ERROR)
    logging.captureWarnings(True)
    try:
        _read_storage(options)
        code: int = options.command(options)
        return code
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python closes it at its end
        return 0
    except InputError as error:
        return _fail(options, error, str(error), 2)
    except OSError as error:
        file = f"{error.filename} cannot be used ({error.strerror})" if error.filename else str(error.strerror or error)
        advice = "Check that the folder is there, can be written to and is not full; the same command then goes on."
        return _fail(options, error, f"{file}. {advice}", 2)
    except KeyboardInterrupt as error:
        return _fail(options, error, "interrupted. The same command goes on where this one stopped.", 1)
    except Exception as error:
        return _fail(options, error, f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _read_storage(options: argparse.Namespace) -> None:
    """Puts the URL in the file of --storage-file in the place of --storage, where a password can be read by all."""
    url = getattr(options, "storage", None)
    if url and url != os.environ.get("OPTUNA_STORAGE") and has_password(url):
        print(
            "nas-relucode: warning: everybody on this machine can read a password on the command line. "
            "Put the URL in OPTUNA_STORAGE, or in a file for --storage-file.",
            file=sys.stderr,
        )
    file = getattr(options, "storage_file", None)
    if file is not None:
        try:
            options.storage = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read ({error}). Name a file that holds the storage's URL.") from error


def _fail(options: argparse.Namespace, error: BaseException, message: str, code: int) -> int:
    if options.debug:
        raise error
    print(f"nas-relucode: error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nas-relucode", description=(nas_relucode.__doc__ or "").splitlines()[0])
    parser.add_argument("--version", action="version", version=nas_relucode.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="a line an epoch, and Optuna's log")
    common.add_argument("-q", "--quiet", action="store_true", help="results only")
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data-root", default="data", metavar="DIR", help="where torchvision's data sets lie (data)")
    data.add_argument(
        "--download", action="store_true", help="let torchvision check the files and fetch what is missing"
    )
    data.add_argument("--device", help="cpu, cuda, cuda:1, mps (the best there is)")
    stored = argparse.ArgumentParser(add_help=False)
    stored.add_argument(
        "--storage",
        metavar="URL",
        default=os.environ.get("OPTUNA_STORAGE"),
        help="Optuna storage (OPTUNA_STORAGE, else runs/NAME/study.db)",
    )
    stored.add_argument("--storage-file", metavar="FILE", help="a file with the storage's URL, and with it a password")
    stored.add_argument(
        "--artifacts",
        metavar="STORE",
        help="s3://BUCKET or a folder for predictions and checkpoints (that of the plan, else --output)",
    )
    stored.add_argument("--study-name", metavar="NAME", help="name in the storage (that of the study)")
    stored.add_argument("--output", metavar="DIR", help="folder of the report (runs/NAME)")

    def add(
        name: str, command: Callable[[argparse.Namespace], int], *parents: argparse.ArgumentParser, help: str
    ) -> Any:
        added = commands.add_parser(name, parents=[common, *parents], help=help, description=help)
        added.set_defaults(command=command)
        return added

    run = add("run", _run, data, stored, help="run or resume a study, then write its report")
    run.add_argument("study", help="a built-in study (see list) or a .toml file")
    command = add("figure", command_figure.run, data, stored, help="run what a figure of the paper needs, then draw it")
    command_figure.add_arguments(command)
    command = add(
        "train", command_train.run, data, help="train one candidate of a study as in its trial, keep its weights"
    )
    command_train.add_arguments(command)
    command = add("plan", command_workers.plan, data, stored, help="enqueue a study's candidates for workers")
    command_workers.add_plan_arguments(command)
    command = add("worker", command_workers.worker, data, stored, help="work on a planned study until none is left")
    command_workers.add_worker_arguments(command)
    command = add("status", command_workers.status, stored, help="how far a study has come, and how long it will take")
    command.add_argument("study", help="the study's name or .toml file")
    command.add_argument("-f", "--format", choices=["table", "json"], default="table")
    report = add("report", _report, stored, help="write the report of a study as it is now")
    report.add_argument("study", help="the study's name or .toml file")
    report.add_argument("--dashboard", action="store_true", help="the ranking and the front for optuna-dashboard, too")
    command = add("select", _select, stored, help="the equally accurate networks of a study, the first choice first")
    command_select.add_arguments(command)
    command = add("score", command_score.run, data, help="accuracy and code-space indices of any network")
    command_score.add_arguments(command)
    command = add("codes", command_codes.run, data, help="a network's code space over a data set in shards")
    command_codes.add_arguments(command)
    command = add("complex", command_complex.run, help="count the cells of a small network and which share a facet")
    command_complex.add_arguments(command)
    listing = add("list", command_builtin.show, help="studies, search spaces, data sets, backbones and indices")
    listing.add_argument("-f", "--format", choices=["table", "json"], default="table")
    copy = add("copy", command_builtin.copy, help="copy a built-in study or search space, to change it")
    copy.add_argument("name", help="a study or search space; search_spaces/NAME for a space of a study's name")
    copy.add_argument("file", help="a new file ending in .toml")
    return parser


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.study)
    name = _study_name(options)
    storage = options.storage or default_storage(name)
    folder = _folder(options, name)
    for path in (folder, *folder.parents):  # refused now rather than after the training
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, so no report can be written to {folder}. Give another --output.")
    study, _ = run_shown(name, settings, options, storage=storage, folder=folder)
    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        print("\n".join(retries(trials_frame(study))), file=sys.stderr)
        print("nas-relucode: error: no trial came to an end, so there is nothing to report.", file=sys.stderr)
        return 1
    code = 0
    if settings.network.decoder is None:
        code = _write_report(study, options, storage)
    else:
        print(f"Autoencoders have no accuracy to be ranked by: their trials are in {redact(storage)}.")
    if settings.figure is not None:
        print(f"Its figure: nas-relucode figure {options.study}")
    missing = Plan(study, settings.search, settings.search_space).missing_candidates()
    if missing:
        print(f"nas-relucode: error: {len(missing)} candidates have no result; see the report.", file=sys.stderr)
    return 1 if missing else code


def _report(options: argparse.Namespace) -> int:
    with _stored_study(options) as (study, storage):
        if options.dashboard:
            show_in_dashboard(study)
        return _write_report(study, options, storage)


def _select(options: argparse.Namespace) -> int:
    with _stored_study(options) as (study, _):
        return command_select.run(study, options, _store(study, options))


@contextlib.contextmanager
def _stored_study(options: argparse.Namespace) -> Iterator[tuple[optuna.Study, str]]:
    """The study that was run, and its storage."""
    name = _study_name(options)
    storage = options.storage or default_storage(name)
    file = sqlite_path(storage)
    if file and not file.is_file():
        raise InputError(
            f"there is no {file}. Run `nas-relucode run {options.study}` first, or give another --storage."
        )
    with storage_errors(storage):
        engine = open_storage(storage)
        names = optuna.get_all_study_names(engine)
        if name not in names:
            raise unknown("study", name, names)
        study = optuna.load_study(study_name=name, storage=engine)
        if options.study.endswith(".toml") and Path(options.study).is_file():
            check_settings(study, load_settings(options.study))
        yield study, storage


def _write_report(study: optuna.Study, options: argparse.Namespace, storage: str) -> int:
    store = _store(study, options)
    files = write_report(study, _folder(options, study.study_name), storage=storage, artifacts=store)
    ranking = rank(study)
    print(f"Pareto front of {study.study_name}: {', '.join(f'{k} ({v})' for k, v in ranking.objectives.items())}\n")
    front = ranking.front
    print("No network is on the front." if front.empty else text_table(networks_table(ranking, front)))
    constant = constant_on_front(ranking)
    if constant:
        print("\nThe same on the whole front: " + ", ".join(f"{k} = {v:.4g}" for k, v in constant.items()))
    if ranking.equal.empty:
        print("\n" + nobody_feasible(ranking))
    else:
        print(f"\nEqually accurate with the best (at least {ranking.threshold:.4f}), in their order by the indices:\n")
        print(text_table(networks_table(ranking, ranking.equal)))
    sentences = retries(trials_frame(study))
    print("\n" + "\n".join([*sentences, f"Report: {files['report.html']}"]))
    return 0


def _study_name(options: argparse.Namespace) -> str:
    return study_name(options.study, options.study_name)


def _store(study: optuna.Study, options: argparse.Namespace) -> Any:
    """The artifact store with the predictions: the one named, the one planned, else the folder of the study's files."""
    if options.artifacts is not None:
        return artifact_store(options.artifacts, make=False)
    try:
        planned = study_store(study, make=False)
    except InputError as error:  # whoever reads the results need not have the keys
        print(f"nas-relucode: warning: no predictions are compared: {error}", file=sys.stderr)
        return None
    folder = _folder(options, study.study_name)
    return planned or (file_store(folder) if (folder / FOLDER).is_dir() else None)


def _folder(options: argparse.Namespace, name: str) -> Path:
    """Where the report goes."""
    return Path(options.output or Path("runs", name))
