"""The keys of a study's file, each with its type, default and meaning; and a whole file that explains itself."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any

from nas_relucode.study.search_space import HeadGrid, Interval, Range, SearchSettings, SearchSpace
from nas_relucode.study.settings import CodeSettings, DataSettings, FigureSettings, NetworkSettings, StudySettings
from nas_relucode.toml_files import field_comments, table_fields, toml_key, toml_value, type_in_words
from nas_relucode.training.recipe import Recipe

TABLES: dict[str, type] = {  # the tables of a study's file, in their order; "" holds the keys before the first table
    "": StudySettings,
    "data": DataSettings,
    "network": NetworkSettings,
    "training": Recipe,
    "search": SearchSettings,
    "search.space": SearchSpace,
    "codes": CodeSettings,
    "objectives": dict,
    "figure": FigureSettings,
}
INLINE = {"heads": HeadGrid, "learning_rates": Interval, "a parameter": Range}  # tables that stand for a list of values
HEAD = """\
# Every key that a study has. A line that starts with #key is a default: remove the # and write a value.
"""


@dataclass(frozen=True)
class Key:
    """A key of a table in a study's file."""

    name: str
    type: str  # in words
    default: Any  # None: left out; dataclasses.MISSING: there is none
    meaning: str


def keys_of(table: type) -> list[Key]:
    """The keys of one of `TABLES` or `INLINE`, from the dataclass that reads them, without those that are tables."""
    hints, meanings = typing.get_type_hints(table), field_comments(table)
    return [
        Key(field.name, type_in_words(hints[field.name]), _default(field), meanings.get(field.name, ""))
        for field in table_fields(table)
        if not (table is StudySettings and field.name in TABLES)
    ]


def explained(study: dict[str, Any], space: dict[str, Any]) -> str:
    """A study's file as text: its own values, all other keys as comments, its search space inside.

    ``study`` is the table of the file, and ``space`` that of the search space which it names. Read back, the text has
    the settings of both.
    """
    tables: dict[str, dict[str, Any]] = {"": study, **{name: study.get(name, {}) for name in TABLES if name}}
    tables["search.space"] = space
    parts = [HEAD]
    for name, dataclass_ in TABLES.items():
        heading = "" if not name else f"[{name}]\n" if tables[name] or name != "figure" else f"#[{name}]\n"
        meaning = field_comments(StudySettings).get(name)
        lines = [f"# {meaning}\n{heading}" if meaning else heading]
        if name == "objectives":
            lines += [f"{toml_key(key)} = {toml_value(value)}\n" for key, value in study.get(name, {}).items()]
        else:
            lines += [_line(key, tables[name]) for key in keys_of(dataclass_) if (name, key.name) not in REPLACED]
        parts.append("".join(lines))
    return "\n".join(parts)


REPLACED = {("search", "space"), ("search", "parameters")}  # by the table search.space


def _line(key: Key, table: dict[str, Any]) -> str:
    """A key with its comment, and with # before it where the table leaves it out."""
    comment = f"# {key.meaning} ({key.type})\n"
    if key.name in table:
        return f"{comment}{key.name} = {toml_value(table[key.name])}\n"
    default = "" if key.default is None else f" {toml_value(key.default)}"
    return f"{comment}#{key.name} ={default}\n"


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
