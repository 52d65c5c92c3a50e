"""The command `compare`: the verdict on networks whose weights are files, without a study."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from nas_relucode.cli.score import image_errors, load_images
from nas_relucode.cli.select import json_text, lines, ranking_options
from nas_relucode.codes.reading import Reading
from nas_relucode.errors import InputError, unknown
from nas_relucode.files import check_folder
from nas_relucode.ranking.comparing import compare
from nas_relucode.ranking.selection import Selection
from nas_relucode.report.write import write_report
from nas_relucode.training.data import ImageData
from nas_relucode.training.loop import pick_device
from nas_relucode.training.networks import network_by_name

SEED_AT_THE_END = re.compile(r"(.+?)[-_.]?seed[-_=]?(\d+)")  # of a file's name without its ending


def run(options: argparse.Namespace) -> int:
    """Prints the verdict on the networks and writes their page if a folder is named; the exit code."""
    ranking = ranking_options(options)
    if options.output is not None:
        check_folder(Path(options.output))  # refused now rather than after the measuring
    _show(compared(options, load_images(options), **ranking), options)
    return 0


def compared(options: argparse.Namespace, data: ImageData, **settings: Any) -> Selection:
    """The comparison of the networks of ``--model`` and ``--weights``; ``settings`` are further ones of `compare`."""
    files = read_weights(options.weights)
    models = read_models(options.model, files)
    device = pick_device(options.device)

    def load(name: str, file: str) -> nn.Module:
        return network_by_name(models[name], file, classes=len(data.classes)).to(device)

    networks: dict[str, dict[int, Callable[[], nn.Module]]] = {
        name: {seed: partial(load, name, file) for seed, file in seeds.items()} for name, seeds in files.items()
    }
    with image_errors("a network", data):
        return compare(networks, data, **settings, **_reading(options))


def _show(selection: Selection, options: argparse.Namespace) -> None:
    selection.require_feasible()
    print(json_text(selection) if options.format == "json" else "\n".join(lines(selection)))
    if options.output is not None:
        files = write_report(selection, options.output)
        if options.format != "json":
            print(f"\nReport: {files['report.html']}")


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """How codes are read; without layers, those that suit the networks."""
    reading = {field.name: getattr(options, field.name) for field in fields(Reading)}
    return {name: value for name, value in reading.items() if value is not None}


def read_weights(texts: Sequence[str]) -> dict[str, dict[int, str]]:
    """Name of a network -> seed -> file, from FILE, NAME=FILE and NAME/SEED=FILE; each seed is given once.

    The name and the seed of a FILE are those of ``NAME/3.pt``, ``NAME_seed3.pt`` or ``NAME_seed=3.pt``; any other is
    seed 0 of a network that is called like the file.

    >>> read_weights(["a/0.pt", "a/1.pt", "b_seed2.pt", "c=d.pt", "c/1=e.pt", "f.pt"])
    {'a': {0: 'a/0.pt', 1: 'a/1.pt'}, 'b': {2: 'b_seed2.pt'}, 'c': {0: 'd.pt', 1: 'e.pt'}, 'f': {0: 'f.pt'}}
    """
    files: dict[str, dict[int, str]] = {}
    for text in texts:
        name, seed, file = _training(text)
        seeds = files.setdefault(name, {})
        if seed in seeds:
            raise InputError(
                f"seed {seed} of network {name!r} is given twice: {seeds[seed]} and {file}. "
                f"Say which is which: NAME/SEED={file}."
            )
        seeds[seed] = file
    return files


def _training(text: str) -> tuple[str, int, str]:
    """The network's name, the seed and the file, from a text such as NAME/SEED=FILE."""
    before, equals, after = text.partition("=")
    if equals and not after:
        raise InputError(f"{text!r} names no file. Write NAME=FILE or NAME/SEED=FILE.")
    if equals and not Path(text).is_file() and not SEED_AT_THE_END.fullmatch(Path(text).stem):
        name, slash, seed = before.rpartition("/")
        if slash and seed.isdecimal():
            return name, int(seed), after
        return before, 0, after
    path = Path(text)
    if path.stem.isdecimal() and path.parent.name:
        return path.parent.name, int(path.stem), text
    if match := SEED_AT_THE_END.fullmatch(path.stem):
        return match[1], int(match[2]), text
    return path.stem, 0, text


def read_models(texts: Sequence[str], names: Mapping[str, Any]) -> dict[str, str]:
    """The model of each network, from MODEL, for those that have none of their own, and NAME=MODEL.

    >>> read_models(["resnet18", "b=package.module:build"], {"a": 0, "b": 0})
    {'a': 'resnet18', 'b': 'package.module:build'}
    """
    models: dict[str, str] = {}
    others: list[str] = []
    for text in texts:
        name, equals, model = text.rpartition("=")
        if not equals:
            others.append(model)
        elif name not in names:
            raise unknown("network", name, names)
        else:
            models[name] = model
    without = [name for name in names if name not in models]
    if len(others) > 1:
        raise InputError(f"{' and '.join(others)} are both the model of all networks. Write NAME=MODEL.")
    if without and not others:
        raise InputError(f"{without[0]} has no model. Give --model MODEL for all, or --model {without[0]}=MODEL.")
    return {name: models[name] if name in models else others[0] for name in names}
