"""The command `list`: what comes with the package, by name."""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Callable

from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.choices import PURPOSES
from nas_relucode.toml_files import builtin_files
from nas_relucode.training.names import BACKBONES, SOURCES


def run(options: argparse.Namespace) -> int:
    """Prints the names of one topic or of all, with their meanings; the exit code."""
    topics = [options.topic] if options.topic else list(TOPICS)
    groups = dict(TOPICS[topic]() for topic in topics)
    if options.format == "json":
        print(json.dumps(groups, indent=2))
        return 0
    width = max(len(name) for group in groups.values() for name in group)
    for heading, group in groups.items():
        print(heading.replace("_", " "))
        for name, meaning in group.items():
            print(f"  {name:{width}}  {meaning}".rstrip())
    return 0


def _studies() -> tuple[str, dict[str, str]]:
    files = builtin_files("studies")
    return "studies", {name: tomllib.loads(text)["description"] for name, text in files.items()}


def _spaces() -> tuple[str, dict[str, str]]:
    files = builtin_files("search_spaces")
    return "search_spaces", {name: text.split("\n", 1)[0].removeprefix("# ") for name, text in files.items()}


def _data() -> tuple[str, dict[str, str]]:
    files = {"FILE.npz": "arrays x_train, y_train, x_test, y_test", "FOLDER": "images: train/CLASS/* and test/CLASS/*"}
    return "data", SOURCES | files


def _backbones() -> tuple[str, dict[str, str]]:
    return "backbones", BACKBONES


def _indices() -> tuple[str, dict[str, str]]:
    return "indices", {name: index.meaning for name, index in INDICES.items()}


def _qualities() -> tuple[str, dict[str, str]]:
    return "qualities", {name: quality.meaning for name, quality in QUALITIES.items()}


def _purposes() -> tuple[str, dict[str, str]]:
    return "purposes", {name: f"by {quality}: {QUALITIES[quality].meaning}" for name, quality in PURPOSES.items()}


TOPICS: dict[str, Callable[[], tuple[str, dict[str, str]]]] = {
    "studies": _studies,
    "spaces": _spaces,
    "data": _data,
    "backbones": _backbones,
    "indices": _indices,
    "qualities": _qualities,
    "purposes": _purposes,
}
