"""The settings that a study was created with: read from it, and compared with those of its file. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna

from nas_relucode.errors import InputError
from nas_relucode.study.settings import StudySettings
from nas_relucode.study.storage import stored_table
from nas_relucode.toml_files import parse


def stored_settings(study: optuna.Study) -> StudySettings:
    """The settings that are stored in a study, those that its version did not have with their defaults.

    Raises InputError for a study that nas-relucode did not create.
    """
    table = stored_table(study)
    table["data"].pop("sha256", None)
    return parse(StudySettings, table, f"the stored settings of study {study.study_name!r}")


def check_settings(study: optuna.Study, settings: StudySettings, data: Mapping[str, Any] | None = None) -> None:
    """Raises InputError if a study of nas-relucode's has other settings than these, or ``data`` with another digest."""
    if study.user_attrs.get("settings") is None:
        return
    stored, current = stored_settings(study).as_dict(), settings.as_dict()
    stored["data"] |= {name: study.user_attrs["settings"]["data"].get(name) for name in data or {}}
    current["data"] |= data or {}
    differences = list(_differences(stored, current))
    if differences:
        raise InputError(
            f"study {study.study_name!r} has other settings: {'; '.join(differences)}. "
            "Give another --study-name to start a new study, or change the settings back."
        )


def _differences(stored: Any, current: Any, path: str = "") -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(current, dict):
        for key in sorted({*stored, *current}):
            if key not in ("description", "figure") and (path, key) != ("search", "finalist_seeds"):  # change no result
                yield from _differences(stored.get(key), current.get(key), f"{path}.{key}" if path else key)
        if path == "objectives" and stored == current and list(stored) != list(current):  # the order of values
            yield f"the order of objectives was {list(stored)} and is {list(current)}"
    elif stored != current:
        yield f"{path} was {stored!r} and is {current!r}"
