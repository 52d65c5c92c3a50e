"""The command `score`: accuracy and code-space indices of any network, as a table or JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields

from nas_relucode.codes.reading import Reading, ReadingOptions
from nas_relucode.errors import InputError, first_line
from nas_relucode.indices.registry import configured
from nas_relucode.report.tables import text_table
from nas_relucode.scoring.scores import SATURATED, score
from nas_relucode.texts import as_json
from nas_relucode.training.data import ImageData, load_data
from nas_relucode.training.loop import pick_device
from nas_relucode.training.networks import network_by_name


def load_images(options: argparse.Namespace) -> ImageData:
    """The data that the options name."""
    if getattr(options, "split", None) == "validation":
        raise InputError("--split validation: the splits of the data are used whole. Give train, test or all.")
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
    data = load_images(options)
    network = network_by_name(options.model, options.weights, classes=len(data.classes), seed=options.seed)
    network = network.to(pick_device(options.device))
    with image_errors(options.model, data):
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
    if options.format == "json":
        print(as_json(result.as_dict(), indent=2))
    else:
        accuracy = "none" if result.accuracy is None else f"{result.accuracy:.4f}"
        print(f"{result.accuracy_name} {accuracy} on {result.samples} samples ({result.split})\n")
        headings, *rows = result.rows()
        print(text_table((headings, rows)))
        print(f"\n{SATURATED}")
    return 0


def image_errors(subject: str, data: ImageData) -> AbstractContextManager[None]:
    """`forward_errors` of networks that run on the images of ``data``."""
    return forward_errors(
        f"{subject} failed on images of {' x '.join(map(str, data.image_shape))}",
        "Check the channels and the size that it takes; --image-size makes images square.",
    )


@contextmanager
def forward_errors(problem: str, advice: str, *, other: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns what a user's own forward pass raises, which may be anything, into an InputError with this advice.

    Errors of the types ``other`` do not come from the forward pass and stay as they are.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (InputError, *other)):
            raise
        raise InputError(f"{problem} ({first_line(error)}). {advice}") from error
