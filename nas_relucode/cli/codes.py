"""The command `codes`: a network's code space over a data set, shard by shard, in one process or under torchrun."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from nas_relucode.cells.code_spaces import CodeSpace, save_code_space
from nas_relucode.cells.shards import ProcessesError, code_space_of_shards, cut_into_shards, holds_shards
from nas_relucode.cli.printing import print_counts
from nas_relucode.cli.score import forward_errors, load_images, reading_options
from nas_relucode.errors import InputError
from nas_relucode.texts import as_json
from nas_relucode.training.loop import pick_device
from nas_relucode.training.networks import network_by_name

SHARD = 10_000  # samples in a shard, about; the same for any number of processes, so that any number can resume


def run(options: argparse.Namespace) -> int:
    """Writes the code space and prints its size; the exit code."""
    start = time.perf_counter()
    output = Path(options.output)
    if output.suffix != ".npz" or not output.absolute().parent.is_dir():
        raise InputError(f"--output {output} must be an .npz file in a folder that exists.")
    if holds_shards(options.data) and Path(options.data).resolve() in (output.resolve(), output.resolve().parent):
        raise InputError(f"{output} would be one of the shards in {options.data}. Name a file in another folder.")
    shards, classes = _shards(options)
    outputs = classes if options.outputs is None else options.outputs
    network = network_by_name(options.model, options.weights, classes=outputs, seed=options.seed)
    network = network.to(_device(options.device))

    def show(number: int, space: CodeSpace) -> None:
        if not options.quiet:
            line = f"shard {number}: {space.samples:,} samples in {len(space.cells):,} cells"
            print(line, file=sys.stderr, flush=True)

    problem, advice = f"{options.model} failed on the inputs", "Check their shape; --debug shows where."
    with forward_errors(problem, advice, other=(OSError, ProcessesError)):
        space = code_space_of_shards(
            network,
            shards,
            folder=options.folder or output.with_suffix(".shards"),
            on_shard=show,
            **reading_options(options),
        )
    if space is None:  # another process, the first, has it
        return 0
    save_code_space(space, output)
    _print_summary(space, output, time.perf_counter() - start, options.format)
    return 0


def _print_summary(space: CodeSpace, output: Path, seconds: float, form: str) -> None:
    summary: dict[str, int | float | str] = {
        "samples": space.samples,
        "neurons": space.neurons,
        "cells": len(space.cells),
        "largest_cell": int(space.cells.sizes.max()),
        "seconds": round(seconds, 3),
        "output": str(output),
    }
    if form == "json":
        print(as_json(summary, indent=2))
    else:
        print_counts(summary)


def _shards(options: argparse.Namespace) -> tuple[Any, int | None]:
    """The shards, and the number of classes if it is known."""
    for_data_sets = {
        "--shards": options.shards,
        "--split": options.split,
        "--classes": options.classes,
        "--image-size": options.image_size,
        "--normalise": options.normalise,
    }
    if holds_shards(options.data):
        unusable = [name for name, value in for_data_sets.items() if value is not None and value is not False]
        if unusable:
            raise InputError(
                f"{options.data} holds shards, which are read as they are. Leave out {', '.join(unusable)}."
            )
        return options.data, None
    data = load_images(options)
    split = data.split(options.split or "train")
    shards = max(1, round(len(split) / SHARD)) if options.shards is None else options.shards
    return cut_into_shards(split, shards, batch_size=options.batch_size), len(data.classes)


def _device(name: str | None) -> torch.device:
    """The device of that name; under torchrun each process of a machine takes its own GPU unless one is named."""
    local = os.environ.get("LOCAL_RANK")
    if local is not None and name in (None, "cuda") and torch.cuda.is_available():
        name = f"cuda:{int(local) % torch.cuda.device_count()}"
    return pick_device(name)
