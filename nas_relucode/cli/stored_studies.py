"""Where a command finds what a study has left behind: the study in its storage, and its folder."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import optuna

from nas_relucode.errors import InputError, unknown
from nas_relucode.study.settings import load_settings
from nas_relucode.study.storage import check_exists, default_storage, open_storage, storage_errors, study_name
from nas_relucode.study.stored_settings import check_settings


@contextlib.contextmanager
def stored_study(options: argparse.Namespace) -> Iterator[tuple[optuna.Study, str]]:
    """The study that the options name, and the URL of its storage."""
    name = study_name(options.study, options.study_name)
    storage = options.storage or default_storage(name)
    check_exists(storage, f"Run `nas-relucode run {options.study}` first, or give another --storage.")
    with storage_errors(storage):
        engine = open_storage(storage)
        names = optuna.get_all_study_names(engine)
        if name not in names:
            raise unknown("study", name, names)
        study = optuna.load_study(study_name=name, storage=engine)
        if options.study.endswith(".toml") and Path(options.study).is_file():
            check_settings(study, load_settings(options.study))
        yield study, storage


def study_folder(options: argparse.Namespace, name: str) -> Path:
    """The folder of the report and of the study's files."""
    return Path(options.output or Path("runs", name))


def queue_address(options: argparse.Namespace) -> tuple[str, str]:
    """The study's name and the URL of the database that many workers share."""
    name = study_name(options.study, options.study_name)
    if not options.storage:
        raise InputError(
            "several processes need a PostgreSQL database. Set OPTUNA_STORAGE, or give --storage-file or --storage: "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )
    return name, options.storage
