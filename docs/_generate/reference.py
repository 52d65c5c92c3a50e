"""The reference, made from code: stations, command line, keys of study files, indices, qualities, licences."""

import argparse
import dataclasses
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import licences
from docstrings import as_markdown

from nas_relucode.cli.arguments import COMMANDS, build_parser
from nas_relucode.indices.index import Index
from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.purposes import known_of
from nas_relucode.study.explained import INLINE, TABLES, keys_of
from nas_relucode.toml_files import toml_value

STATIONS = [
    "", "codes", "cells", "geometry", "indices", "qualities", "training", "scoring", "study", "workers", "ranking",
    "evidence", "plots", "integrations", "paper", "report",
]  # fmt: skip


def page_of(station: str) -> str:
    """The path of a station's page."""
    return f"reference/python/{station or 'index'}.md"


def pages() -> dict[str, str]:
    """The text of each page by its path."""
    texts: dict[str, Callable[[], str]] = {
        "reference/command-line.md": command_line,
        "reference/settings.md": settings,
        "reference/indices.md": indices,
        "reference/qualities.md": qualities,
        "reference/licences.md": licences.page,
    }
    return {path: text() for path, text in texts.items()} | {page_of(name): station(name) for name in STATIONS}


def station(name: str) -> str:
    """A page with an entry for each public name of a station; of the package itself a table that leads to them."""
    package = importlib.import_module(f"nas_relucode.{name}".rstrip("."))
    heading = f"# {package.__name__}\n\n{as_markdown(inspect.getdoc(package) or '')}\n\n"
    public = {public: getattr(package, public) for public in package.__all__ if not public.startswith("_")}
    if not name:
        things = {public: thing for public, thing in public.items() if not inspect.ismodule(thing)}
        rows = [
            (f"[`rc.{public}`][{path_of(thing, public, package)}]", first_line(thing))
            for public, thing in things.items()
        ]
        errors = "".join(f"\n::: nas_relucode.errors.{name}\n" for name in ("InputError", "NonFiniteError"))
        return "# nas_relucode\n\n`import nas_relucode as rc`\n\n" + table(["name", "what"], rows) + errors
    return heading + "\n".join(f"::: {path_of(thing, public, package)}\n" for public, thing in public.items())


def path_of(thing: Any, name: str, package: Any) -> str:
    """Where a public name is defined."""
    module = getattr(thing, "__module__", None)
    if module and module.startswith("nas_relucode") and hasattr(thing, "__qualname__"):
        return f"{module}.{thing.__qualname__}"
    stub = inspect.getsource(package).count("attach_stub") and (package.__file__ or "") + "i"
    with open(stub, encoding="utf-8") as file:
        found = re.search(rf"^from \.(\S*) import {name} as", file.read(), flags=re.MULTILINE)
    assert found, name
    return f"{package.__name__}.{found[1]}.{name}"


def first_line(thing: Any) -> str:
    if not callable(thing):
        return "The indices by name." if isinstance(thing, dict) else ""
    return as_markdown((inspect.getdoc(thing) or "").split("\n")[0])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join(
            f"| {' | '.join(str(cell).replace('|', '&#124;').replace(chr(10), ' ') for cell in line)} |"
            for line in lines
        )
        + "\n\n"
    )


# the command line


def command_line() -> str:
    _, commands = build_parser()
    parts = [
        COMMAND_LINE,
        table(["command", "what it does"], [(f"[`{n}`](#{n})", text) for n, (text, _) in COMMANDS.items()]),
    ]
    for name, command in commands.items():
        usage = re.sub(r"\x1b\[[0-9;]*m", "", command.format_usage()).removeprefix("usage: ")
        parts.append(f"## {name}\n\n{COMMANDS[name][0].capitalize()}.\n\n```text\n{usage.strip()}\n```\n\n")
        parts.append(table(["argument", "meaning"], [option(action) for action in command._actions]))
        if command.epilog:
            parts.append(f"```text\n{command.epilog}\n```\n\n")
    return "".join(parts)


def option(action: argparse.Action) -> tuple[str, str]:
    """An argument with its value, and its meaning, in which the default stands in brackets."""
    if action.option_strings:
        values = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        values = " ".join(values) if isinstance(values, tuple) else values
        if action.choices and not action.metavar:
            values = "{" + ",".join(map(str, action.choices)) + "}"
        name = ", ".join(f"`{flag}`" for flag in action.option_strings) + (f" `{values}`" if values else "")
    else:
        name = f"`{action.metavar or action.dest}`"
    return name, escaped(action.help or "")


def escaped(text: str) -> str:
    """Text in which neither < nor * nor _ means anything to Markdown, outside backticks."""
    parts = text.split("`")
    outside = [re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(part for pair in zip(outside, [*parts[1::2], ""], strict=True) for part in pair)[
        : -1 if len(parts) % 2 else None
    ]


COMMAND_LINE = """# The command line

Every command has `--help`. Exit codes: 0 done, 1 failed or interrupted, 2 input that cannot be used. Errors go to
standard error in one line; `--debug` shows the traceback. A default stands in brackets.

"""


# keys of a study's file


def settings() -> str:
    parts = [SETTINGS]
    for name, reader in TABLES.items():
        parts.append(f"## {f'[{name}]' if name else 'Before the first table'}\n\n")
        if reader is dict:
            parts.append(
                'A name of an objective, and `"minimize"` or `"maximize"`: `accuracy`, `validation_loss`, an '
                "[index](indices.md), `LAYER:INDEX` for one layer, or a [quality](qualities.md). "
                "Left out: accuracy (maximize), cell_count (minimize).\n\n"
            )
            continue
        parts.append(keys_table(reader))
    parts.append("## Values that are tables\n\n")
    for name, reader in INLINE.items():
        parts.append(
            f"**{name}**: {as_markdown((inspect.getdoc(reader) or '').splitlines()[0])}\n\n{keys_table(reader)}"
        )
    return "".join(parts)


def keys_table(reader: type) -> str:
    rows = []
    for key in keys_of(reader):
        missing = key.default is dataclasses.MISSING
        default = "**required**" if missing else "left out" if key.default is None else f"`{toml_value(key.default)}`"
        rows.append((f"`{key.name}`", key.type, default, key.meaning.replace("{", "&#123;")))
    return table(["key", "type", "default", "meaning"], rows)


SETTINGS = """# Keys of study files

A study is a TOML file. `nas-relucode copy digits mine.toml` writes one with a comment at every key, and `nas-relucode
check mine.toml` says what it would run. An unknown key or a value of another type is an error. How to write one of your
own: [studies in files](../how-to/study-files.md).

"""


# indices and qualities


FAMILIES = {
    "counts": "Counts",
    "graph": "The graph of cells",
    "classes": "Classes",
    "initialisation": "Scores at initialisation",
    "geometric": "Cells as polyhedra",
    "sensitivity": "Sensitivity",
}
COSTS = {
    "polyhedra": "half-spaces of the cells of up to 1,000 samples, or the segments between samples",
    "passes": "some forward and backward passes of some hundred samples",
    "pairs": "distances of all pairs of cells",
    "codes": "one look at the codes",
}


def indices() -> str:
    families: dict[str, list[Index]] = {family: [] for family in FAMILIES}
    for index in INDICES.values():
        families[type(index).__module__.rpartition(".")[2]].append(index)
    parts = [INDICES_PAGE, table(["cost", "beyond the codes themselves"], list(COSTS.items()))]
    for family, members in families.items():
        parts.append(f"## {FAMILIES[family]}\n\n")
        for index in members:
            parts.append(f"### {index.name}\n\n{index.meaning}\n\n{rest_of(index)}")
            parts.append(table(["better", "range", "cost", "computed"], [facts(index)]))
            parts += [f"{known}\n\n" for way in ("minimize", "maximize") if (known := known_of({index.name: way}))]
    return "".join(parts)


def facts(index: Index) -> tuple[str, str, str, str]:
    better = {None: "neither", "minimize": "smaller", "maximize": "larger"}[index.direction]
    ends = ["-∞" if end == -math.inf else "∞" if end == math.inf else f"{end:g}" for end in index.bounds]
    depends = type(index).range is not Index.range
    computed = (
        "if named"
        if index.on_request
        else "always, for the whole network"
        if index.joint
        else "always, also for each layer"
    )
    return better, "depends on the sample" if depends else " to ".join(ends), cost_of(index), computed


def cost_of(index: Index) -> str:
    family = type(index).__module__.rpartition(".")[2]
    return {"geometric": "polyhedra", "sensitivity": "passes"}.get(family, "pairs" if index.all_pairs else "codes")


def rest_of(index: Index) -> str:
    """The docstring after its first line, and the settings."""
    rest = as_markdown(inspect.getdoc(type(index)) or "").partition("\n")[2].strip()
    fields = [f"`{field.name}` ({getattr(index, field.name)!r})" for field in dataclasses.fields(index)]
    settings = (
        f"Settings (as they are here): {', '.join(fields)} of `rc.indices.{type(index).__name__}`.\n\n"
        if fields
        else ""
    )
    return (f"{rest}\n\n" if rest else "") + settings


INDICES_PAGE = """# Indices

A number read off the codes, cells or geometry of a network on a sample, by default its training samples. [How to read
them](../indices.md) says when they mean something. *Better* is the direction that the literature argues for; what
choosing by an index was worth, in either direction, is said where it was measured, without correction for the many
pairs of index and quality ([evidence](../evidence.md)). At an end of its range an index can no longer distinguish
networks.

"""


def qualities() -> str:
    rows = []
    for quality in QUALITIES.values():
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(quality.function).parameters.items()
            if parameter.default is not parameter.empty and name != "forward"
        }
        needs = (
            "images"
            if quality.needs_images
            else "labels"
            if quality.needs_labels
            else "inputs"
            if quality.needs_inputs
            else "nothing"
        )
        better = {"minimize": "smaller", "maximize": "larger"}[quality.direction]
        shown = ", ".join(f"`{name}={value!r}`" for name, value in defaults.items())
        rows.append(
            (
                f"`{quality.name}`",
                quality.meaning,
                quality.unit,
                better,
                needs,
                "yes" if quality.held_out else "",
                shown,
            )
        )
    head = ["quality", "what it is", "unit", "better", "needs", "held-out samples", "settings"]
    return QUALITIES_PAGE + table(head, rows)


QUALITIES_PAGE = """# Qualities

What people want of a network besides accuracy. [How they are measured](../qualities.md), what they cost, and what they
were checked against.

"""
