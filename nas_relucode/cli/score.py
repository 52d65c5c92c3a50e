"""The command `score`: accuracy and code-space indices of any network, as a table or JSON.

Which network, which images and how codes are taken is said as here by `codes`, too.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import fields

from nas_relucode.codes.reading import Reading, ReadingOptions
from nas_relucode.errors import InputError
from nas_relucode.indices.registry import configured
from nas_relucode.report.tables import Table, number, text_table
from nas_relucode.scoring.scores import Score, score
from nas_relucode.training.data import SOURCES, ImageData, load_data
from nas_relucode.training.loop import pick_device
from nas_relucode.training.named_networks import network_by_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command, but for those of the data."""
    add_network_arguments(parser)
    parser.add_argument("--data", required=True, help=f"{', '.join(SOURCES)}, an .npz file or a folder of images")
    add_image_arguments(parser)
    add_capture_arguments(parser)
    parser.add_argument("--indices", nargs="+", help="names of indices (all)")
    parser.add_argument("--module", help="whose inputs' space the indices of polyhedra are taken in (the network's)")
    parser.add_argument("--wanted-size", nargs=2, type=float, metavar=("MU", "SIGMA"), help="of regularised_patterns")
    parser.add_argument("--split", default="train", help="train, test or all (train)")
    parser.add_argument("--graph-theta", type=int, default=1, help="cells are joined up to this distance (1)")
    parser.add_argument("--distance-theta", type=int, help="distances are truncated here (never)")
    parser.add_argument("-f", "--format", choices=["table", "json"], default="table")


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """What `network_by_name` wants to know."""
    parser.add_argument("--model", required=True, metavar="MODEL", help="package.module:factory, or torchvision's name")
    parser.add_argument("--weights", metavar="FILE", help="state dict saved by torch.save, or imagenet")


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """What `images` wants to know beside --data."""
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="keep these classes, by name")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="make the images square")
    parser.add_argument("--normalise", action="store_true", help="subtract the mean, divide by the deviation")


def images(options: argparse.Namespace) -> ImageData:
    """The data that the options name."""
    return load_data(
        options.data,
        data_root=options.data_root,
        download=options.download,
        classes=options.classes,
        image_size=options.image_size,
        normalise=options.normalise,
    )


def add_capture_arguments(parser: argparse.ArgumentParser) -> None:
    """What `capture` wants to know."""
    parser.add_argument("--layers", nargs="+", default=["all"], help="names, prefixes or globs of layers (all)")
    parser.add_argument("--mode", default="eval", help="eval, or train: batch statistics, for initialisation (eval)")
    parser.add_argument("--preset", default="paper", help="paper, or released_code: bits of activations >= 1 (paper)")
    parser.add_argument("--maps", default="pixel", help="bits of convolution maps: pixel, channel or pooled (pixel)")
    parser.add_argument("--also", nargs="+", default=[], help="smooth activations to read at 0: gelu, silu, ...")
    parser.add_argument("--batch-size", type=int, default=512, help="samples in one forward pass (512)")


def reading_options(options: argparse.Namespace) -> ReadingOptions:
    """How codes are read, as keyword arguments."""
    return Reading(**{field.name: getattr(options, field.name) for field in fields(Reading)}).options


def run(options: argparse.Namespace) -> int:
    """Scores the network and prints what was found; the exit code."""
    if options.split == "validation":
        raise InputError("score takes an image source's own splits whole: give --split train, test or all.")
    data = images(options)
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
            f"{options.model} failed on images of {shape} ({_reason(error)}). "
            "Check the channels and the size that it takes; --image-size makes images square."
        ) from error
    if options.format == "json":
        print(json.dumps(result.as_dict(), indent=2))
    else:
        accuracy = "none" if result.accuracy is None else f"{result.accuracy:.4f}"
        print(f"accuracy {accuracy} on {result.samples} samples ({result.split})\n")
        print(text_table(_table(result)))
        print("\n* at an end of its range, where it tells networks apart no longer")
    return 0


def _table(result: Score) -> Table:
    """A row an index, a column for the joint codes and for each layer."""
    columns = {"joint": result.joint, **result.layers}

    def cell(column: str, index: str) -> str:
        star = "*" if index in result.saturated[column] else ""
        return number(columns[column][index]) + star if index in columns[column] else ""

    return ["index", *columns], [[index, *(cell(column, index) for column in columns)] for index in result.joint]


def _reason(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
