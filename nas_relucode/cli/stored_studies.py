"""Where a command finds what a study has left behind: the study in its storage, and its folder."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import optuna

from nas_relucode.errors import InputError, unknown
from nas_relucode.study.settings import load_settings
from nas_relucode.study.storage import (
    check_exists,
    check_folder_name,
    default_storage,
    open_storage,
    redact,
    storage_errors,
    study_name,
)
from nas_relucode.study.stored_settings import check_settings

MOST_NAMED = 10  # studies in a message
SQLITE = b"SQLite format 3\0"  # how such files begin


@contextlib.contextmanager
def stored_study(options: argparse.Namespace) -> Iterator[tuple[optuna.Study, str]]:
    """The study that the options name, and the URL of its storage."""
    name, storage = study_address(options)
    with storage_errors(storage):
        engine = open_storage(storage)
        names = optuna.get_all_study_names(engine)
        if name not in names:
            raise unknown("study", name, names)
        study = optuna.load_study(study_name=name, storage=engine)
        if options.study and options.study.endswith(".toml") and Path(options.study).is_file():
            check_settings(study, load_settings(options.study))
        yield study, storage


def study_address(options: argparse.Namespace) -> tuple[str, str]:
    """The name of a study and the URL of its storage, which exists.

    A study of one's own need not be named if it is the only one of its storage, and its storage may be named in the
    place of the study: an SQLite file, or a URL.
    """
    study, storage = options.study, options.storage
    named = _as_storage(study or "")
    if named:
        if storage:
            raise InputError(f"{redact(named)} is a storage, and {redact(storage)} is another. Give one of them.")
        study, storage = None, named
    name = options.study_name or (Path(study).stem if study and study.endswith(".toml") else study)
    if storage is None:
        if name is None:
            raise InputError(
                "no study is named. Give its name, its .toml file, or the storage that holds it, for example my.db."
            )
        storage = default_storage(check_folder_name(name, "Give the --storage that holds it."))
        check_exists(storage, f"Run `nas-relucode run {study or name}` first, or give the --storage that holds it.")
    return name or _only_study(storage), storage


def _as_storage(name: str) -> str | None:
    """The URL of the storage that is named in the place of a study; None for what is no storage."""
    if "://" in name:
        return name
    with contextlib.suppress(OSError, ValueError):  # no such file, or no name of one
        if Path(name).is_file():
            with Path(name).open("rb") as stream:
                return f"sqlite:///{name}" if stream.read(len(SQLITE)) == SQLITE else None
    return None


def _only_study(storage: str) -> str:
    """The name of the only study of a storage."""
    with storage_errors(storage):
        names = optuna.get_all_study_names(open_storage(storage))
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"the storage {redact(storage)} holds no study. Give another one.")
    listed = ", ".join(sorted(names)[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    raise InputError(f"the storage {redact(storage)} holds {len(names)} studies: {listed}. Name one of them.")


def study_folder(options: argparse.Namespace, name: str) -> Path:
    """The folder of the report and of the study's files."""
    return Path(options.output or Path("runs", check_folder_name(name, "Give a folder: --output DIR.")))


def queue_address(options: argparse.Namespace) -> tuple[str, str]:
    """The study's name and the URL of the database that many workers share."""
    name = study_name(options.study, options.study_name)
    if not options.storage:
        raise InputError(
            "several processes need a PostgreSQL database. Set OPTUNA_STORAGE, or give --storage-file or --storage: "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    return name, options.storage
