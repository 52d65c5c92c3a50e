"""The command `score`: accuracy and code-space indices of any network, as a table or JSON."""

from __future__ import annotations

import argparse
from dataclasses import fields

from nas_relucode.codes.reading import Reading, ReadingOptions
from nas_relucode.errors import InputError
from nas_relucode.indices.registry import configured
from nas_relucode.report.tables import Table, text_table
from nas_relucode.scoring.scores import Score, score
from nas_relucode.texts import as_json, with_spread
from nas_relucode.training.data import ImageData, load_data
from nas_relucode.training.loop import pick_device
from nas_relucode.training.networks import network_by_name


def load_images(options: argparse.Namespace) -> ImageData:
    """The data that the options name."""
    return load_data(
        options.data,
        data_root=options.data_root,
        download=options.download,
        classes=options.classes,
        image_size=options.image_size,
        normalise=options.normalise,
    )


def reading_options(options: argparse.Namespace) -> ReadingOptions:
    """How codes are read, as keyword arguments."""
    return Reading(**{field.name: getattr(options, field.name) for field in fields(Reading)}).options


def run(options: argparse.Namespace) -> int:
    """Scores the network and prints its accuracy and indices; the exit code."""
    if options.split == "validation":
        raise InputError("--split validation: score uses the whole splits of the data. Give train, test or all.")
    data = load_images(options)
    network = network_by_name(options.model, options.weights, classes=len(data.classes))
    network = network.to(pick_device(options.device))
    try:
        result = score(
            network,
            data,
            **reading_options(options),
            indices=configured(
                options.indices,
                graph_theta=options.graph_theta,
                distance_theta=options.distance_theta,
                wanted_size=options.wanted_size and tuple(options.wanted_size),
                module=options.module,
            ),
            split=options.split,
            held_out="test" if options.split == "train" else None,
        )
    except InputError:
        raise
    except Exception as error:  # the user's own forward pass may raise anything
        shape = " x ".join(map(str, data.image_shape))
        raise InputError(
            f"{options.model} failed on images of {shape} ({error_line(error)}). "
            "Check the channels and the size that it takes; --image-size makes images square."
        ) from error
    if options.format == "json":
        print(as_json(result.as_dict(), indent=2))
    else:
        accuracy = "none" if result.accuracy is None else f"{result.accuracy:.4f}"
        print(f"{result.accuracy_name} {accuracy} on {result.samples} samples ({result.split})\n")
        print(text_table(_table(result)))
        print("\n* at an end of its range, where it no longer distinguishes networks")
    return 0


def _table(result: Score) -> Table:
    """One row per index, a column for the joint codes and one for each layer."""
    columns = {"joint": result.joint, **result.layers}

    def cell(column: str, index: str) -> str:
        star = "*" if index in result.saturated[column] else ""
        return with_spread(columns[column][index]) + star if index in columns[column] else ""

    return ["index", *columns], [[index, *(cell(column, index) for column in columns)] for index in result.joint]


def error_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
