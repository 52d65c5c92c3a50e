"""How to train a network of a study again: the command, and the study's settings as a file for it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from nas_relucode.errors import InputError
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.study.storage import own_settings
from nas_relucode.study.stored_settings import check_settings, stored_settings
from nas_relucode.toml_files import builtin_files, parse, toml_key, toml_table, toml_value
from nas_relucode.training.names import SOURCES

HEAD = "# The settings of study"  # the first words of a file that a later report may overwrite


def settings_toml(study: optuna.Study, folder: Path) -> str | None:
    """The settings of a study made by `run_study` as a TOML file that lies in ``folder``; None for other studies."""
    settings = _settings(study)
    if settings is None:
        return None
    table = settings.as_dict()
    if table["data"]["source"] not in SOURCES:  # paths in a TOML file are relative to its folder
        table["data"]["source"] = Path(os.path.relpath(table["data"]["source"], folder)).as_posix()
    text = f"{HEAD} {json.dumps(study.study_name)}, as they are stored with it.\n{to_toml(table)}"
    return text if _reads_back(text, table) else None


def study_argument(study: optuna.Study, folder: Path) -> str | None:
    """The study as an argument of commands: a built-in name with the same settings, else its file in ``folder``."""
    settings = _settings(study)
    if settings is None:
        return None
    name = study.study_name
    if name in builtin_files("studies") and load_settings(name).as_dict() == settings.as_dict():
        return name
    file = settings_file(study, folder)
    if settings_toml(study, folder) and (may_be_written(study, file) or _holds(file, study)):
        return str(file)
    return None


def settings_file(study: optuna.Study, folder: Path) -> Path:
    """The file of the settings; commands read the study's name from its stem."""
    return folder / f"{study.study_name}.toml"


def may_be_written(study: optuna.Study, path: Path) -> bool:
    """Whether ``path`` does not exist, or was written by an earlier report of this study."""
    try:
        return path.read_text("utf-8").startswith(f"{HEAD} {json.dumps(study.study_name)},")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False


def _holds(file: Path, study: optuna.Study) -> bool:
    """Whether a file that no report wrote has the settings of the study."""
    try:
        check_settings(study, load_settings(str(file)))
    except InputError:
        return False
    return True


def train_command(study: str, candidate: Candidate, device: str | None = None) -> str:
    """The command that trains a candidate again, on ``device`` if it is known.

    >>> train_command("digits", Candidate({"head": "8-4", "learning_rate": 0.01}, seed=2))
    'nas-relucode train digits head=8-4 learning_rate=0.01 --seed 2 --weights head=8-4_learning_rate=0.01_seed=2.pt'
    """
    words = ["nas-relucode", "train", study, *candidate.arguments]
    words += [] if device is None else ["--device", device]
    return shlex.join([*words, "--weights", f"{candidate.file_name}.pt"])


def to_toml(table: dict[str, Any]) -> str:
    """A nested dictionary of strings, numbers, booleans and lists of these as TOML, without the values None.

    >>> print(to_toml({"a": 1.0, "b": {"c:d": ["x", "y"], "e": {"f": True}}}))
    a = 1.0
    <BLANKLINE>
    [b]
    "c:d" = ["x", "y"]
    <BLANKLINE>
    [b.e]
    f = true
    <BLANKLINE>
    """
    return "\n".join(_lines(table, [])) + "\n"


def _lines(table: dict[str, Any], path: list[str]) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if value is not None and not isinstance(value, dict)}
    if path and (plain or not table):
        yield ""
        yield f"[{'.'.join(map(toml_key, path))}]"
    for key, value in plain.items():
        yield f"{toml_key(key)} = {toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, [*path, key])


def _settings(study: optuna.Study) -> StudySettings | None:
    """The settings that `run_study` stored with a study; None if there are none."""
    if not own_settings(study):
        return None
    try:
        return stored_settings(study)
    except InputError:
        return None


def _reads_back(text: str, table: dict[str, Any]) -> bool:
    try:
        return parse(StudySettings, toml_table(text, "the settings"), "the settings").as_dict() == table
    except InputError:
        return False
