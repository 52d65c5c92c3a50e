"""The command `evidence`: what indices say of other qualities among equally accurate networks."""

from __future__ import annotations

import argparse
import sys
import textwrap
from functools import partial
from pathlib import Path

from tqdm import tqdm

from nas_relucode.cli.compare import compared
from nas_relucode.cli.score import load_images
from nas_relucode.cli.select import WIDTH
from nas_relucode.cli.stored_studies import stored_study
from nas_relucode.errors import InputError
from nas_relucode.evidence.bodies import train_body
from nas_relucode.evidence.examining import Findings, examine
from nas_relucode.evidence.families import FAMILIES, load_family
from nas_relucode.evidence.judging import Body, read_body
from nas_relucode.evidence.measuring import measure_body, measure_costs, measured_indices, others_of
from nas_relucode.evidence.report import sentences, write_findings
from nas_relucode.evidence.studies import networks_of
from nas_relucode.files import check_folder
from nas_relucode.qualities.corruptions import LEAST_SIZE
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import Selection
from nas_relucode.texts import counted
from nas_relucode.training.data import ImageData

FOLDER = "evidence"  # for tables and pictures


def run(options: argparse.Namespace) -> int:
    """Prints what follows for each quality and writes tables and pictures; the exit code."""
    sources = {"STUDY": options.study, "--weights": options.weights, "--body": options.body}
    if not any(sources.values()) and options.storage:
        sources["STUDY"] = options.storage  # its only one
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        several = f"{' and '.join(given)} are several sources. " if given else ""
        raise InputError(f"{several}Name one source of evidence: STUDY, --weights or --body.")
    check_folder(_folder(options))  # refused now rather than after the measuring
    if options.body:
        body = _body(options)
        count, seeds = counted(len(body.networks.table), "network"), counted(len(body.family.seeds), "seed")
        return _write(examine(body.networks), options, f"Evidence: {count} on {options.body}, {seeds} each")
    if not options.weights:
        with stored_study(options) as (study, _):
            selection = select(study)
    else:
        selection = _checkpoints(options)
    return _write(examine(networks_of(selection)), options, f"Evidence: {selection.study}")


def _folder(options: argparse.Namespace) -> Path:
    """Where tables and pictures go; each body has its own folder, which also holds its trainings."""
    return Path(options.output or Path(FOLDER, options.body or ""))


def _write(findings: Findings, options: argparse.Namespace, title: str) -> int:
    files = write_findings(findings, _folder(options), title)
    for sentence in sentences(findings):
        print(textwrap.fill(sentence, WIDTH, initial_indent="- ", subsequent_indent="  "))
    print(f"\nWritten: {', '.join(map(str, files))}")
    return 0


def _checkpoints(options: argparse.Namespace) -> Selection:
    """The networks of --weights with every index and quality that their images allow."""
    missing = [name for name in ("model", "data") if not getattr(options, name)]
    if missing:
        raise InputError(f"--weights also needs {' and '.join(f'--{name}' for name in missing)}.")
    data = load_images(options)
    of_layers, whole = measured_indices()
    return compared(options, data, indices=[*of_layers, *whole], qualities=["parameters", "flops", *_measurable(data)])


def _measurable(data: ImageData) -> list[str]:
    """The qualities of held-out samples that any classifier of images of this size has."""
    left_out = {"linear_probe_accuracy"}  # needs a linear layer, and two samples of each class
    if min(data.image_shape[1:]) < LEAST_SIZE:
        left_out.add("corruption_accuracy")
    return [name for name, quality in QUALITIES.items() if quality.held_out and name not in left_out]


def _body(options: argparse.Namespace) -> Body:
    """A body of docs/evidence.md: what is not trained and measured yet is done first."""
    family, folder = FAMILIES[options.body], _folder(options) / "weights"
    data = load_family(family, data_root=options.data_root, download=options.download)
    others = others_of(family, data, options.data_root)
    for words, suffix, work in (
        ("trained", "pt", partial(train_body, family, data, folder)),
        ("measured", "npz", partial(measure_body, family, data, folder, others=others)),
    ):
        done, trainings = len(list(folder.glob(f"*.{suffix}"))), family.candidates * len(family.seeds)
        hidden = options.quiet or not sys.stderr.isatty()
        with tqdm(total=trainings, initial=done, desc=words, unit="network", disable=hidden) as bar:
            work(on_network=lambda number, seed, bar=bar: bar.update())  # type: ignore[misc]
    measure_costs(family, data, folder, others=others)
    return read_body(options.body, folder)
