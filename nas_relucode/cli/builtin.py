"""The commands `list` and `copy`: what comes with the package, by name, and a copy of it to change."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nas_relucode.errors import InputError, unknown
from nas_relucode.files import write_atomically
from nas_relucode.indices.registry import INDICES
from nas_relucode.study.settings import load_settings
from nas_relucode.toml_files import builtin_files
from nas_relucode.training.data import SOURCES
from nas_relucode.training.networks import BACKBONES


def show(options: argparse.Namespace) -> int:
    """Prints the names of studies, search spaces, data sets, backbones and indices; the exit code."""
    names: dict[str, dict[str, str]] = {
        "studies": {name: load_settings(name).description for name in builtin_files("studies")},
        "search_spaces": {name: _first_line(text) for name, text in builtin_files("search_spaces").items()},
        "data": {**dict.fromkeys(SOURCES, ""), "FILE.npz": "x_train, y_train, x_test, y_test", "FOLDER": "images"},
        "backbones": dict.fromkeys(BACKBONES, ""),
        "indices": {name: index.meaning for name, index in INDICES.items()},
    }
    if options.format == "json":
        print(json.dumps(names, indent=2))
        return 0
    width = max(len(name) for group in names.values() for name in group)
    for kind, group in names.items():
        print(kind.replace("_", " "))
        for name, meaning in group.items():
            print(f"  {name:{width}}  {meaning}".rstrip())
    return 0


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].removeprefix("# ")


def copy(options: argparse.Namespace) -> int:
    """Copies a built-in study or search space to a new file; the exit code."""
    studies = builtin_files("studies")
    spaces = builtin_files("search_spaces")
    files = studies | {f"search_spaces/{name}" if name in studies else name: spaces[name] for name in spaces}
    if options.name not in files:
        raise unknown("study or search space", options.name, files)
    target = Path(options.file)
    if target.suffix != ".toml":
        raise InputError(f"{target} does not end in .toml. Name the copy so: it is then read as your own file.")
    if target.exists():
        raise InputError(f"{target} exists already. Name a new file.")
    write_atomically(target, lambda path: path.write_text(files[options.name], "utf-8"))
    use = f"Try `nas-relucode run {target}`." if options.name in studies else f'Name it in a study: space = "{target}".'
    print(f"{target}: a copy of {options.name}. {use}")
    return 0
