"""What choosing by an index was worth: the results of docs/evidence.md, and the order that they support for a purpose.

The results come with the package (``evidence.csv`` beside this module); `evidence.known` writes them.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources

from nas_relucode.errors import InputError, unknown

PURPOSES = {  # what networks are chosen for -> the quality that says how good they are for it
    "noise": "noise_accuracy",
    "corruptions": "corruption_accuracy",
    "adversarial": "pgd_accuracy",
    "calibration": "calibration_error",
    "out-of-distribution": "ood_auroc",
    "selective": "confident_accuracy",
    "shift": "shift_accuracy",
    "pruning": "pruned_accuracy",
    "rounding": "rounded_accuracy",
}
RESULTS = "evidence.csv"
HELD_OUT, ALL = "held-out", "all"  # parts of a body: those that took no part in a choice, and every network


@dataclass(frozen=True)
class Result:
    """What choosing equally accurate networks by one column was worth, on one body of networks."""

    body: str  # the data that the networks were trained on
    part: str  # HELD_OUT for what the protocol chose, otherwise ALL
    networks: int
    column: str  # an index, of the codes of fully connected layers; ``all:index`` of all layers; or a baseline
    direction: str
    quality: str
    gain: float  # the mean captured gain over three bands of accuracy
    low: float  # the ends of its 95 % interval
    high: float
    worst: float  # the captured gain of the worst band
    supported: bool  # whether the protocol's bar is passed on this body

    @property
    def text(self) -> str:
        return f"{self.gain:.2f} on {self.body} ({self.low:.2f} to {self.high:.2f}, {self.networks} networks)"


@functools.cache
def results() -> tuple[Result, ...]:
    """All results that come with the package."""
    text = resources.files(__package__).joinpath(RESULTS).read_text("utf-8")
    return tuple(
        Result(
            row["body"],
            row["part"],
            int(row["networks"]),
            row["column"],
            row["direction"],
            row["quality"],
            float(row["gain"]),
            float(row["low"]),
            float(row["high"]),
            float(row["worst"]),
            row["supported"] == "yes",
        )
        for row in csv.DictReader(text.splitlines())
    )


@dataclass(frozen=True)
class Purpose:
    """The order that the evidence supports for a purpose, and what choosing by it was worth."""

    name: str
    quality: str
    column: str
    direction: str
    held_out: tuple[Result, ...]  # one for each body

    @property
    def text(self) -> str:
        worth = " and ".join(result.text for result in self.held_out)
        return (
            f"The order is for {self.name} ({self.quality}): on networks that took no part in its choice, choosing by "
            f"it captured {worth} of what could be gained among equally accurate networks (95 % intervals)."
        )


def purpose_of(name: str, known: Collection[Result] | None = None) -> Purpose:
    """The order for a purpose. Raises InputError for an unknown purpose, and for one that no evidence supports."""
    if name not in PURPOSES:
        raise unknown("purpose", name, PURPOSES)
    quality = PURPOSES[name]
    known = results() if known is None else known
    held_out = [result for result in known if result.part == HELD_OUT and result.quality == quality]
    advice = f"Record the quality itself and rank by it: Recorder(qualities=[{quality!r}]), by=[{quality!r}]."
    if not held_out:
        raise InputError(f"nobody has measured which index orders equally accurate networks for {name}. {advice}")
    supported = [result for result in held_out if result.supported]
    orders = {(result.column, result.direction) for result in held_out}
    if len({result.body for result in supported}) < 2:
        worth = "; ".join(f"{result.column} ({result.direction}) captured {result.text}" for result in held_out)
        raise InputError(
            f"no index is known to order equally accurate networks for {name}. The best candidate did not pass on two "
            f"data sets: {worth}. {advice}"
        )
    (column, direction), *_ = orders
    return Purpose(name, quality, column, direction, tuple(held_out))


def order_for(purpose: Purpose, recorded: Collection[str]) -> dict[str, str]:
    """The criteria of a purpose; InputError if the study's records lack the index."""
    column = purpose.column.removeprefix("all:")
    if column not in recorded:
        layers = ', layers="all"' if purpose.column.startswith("all:") else ""
        raise InputError(
            f"for {purpose.name} networks are ordered by {purpose.column}, which this study did not record. "
            f"Record it: Recorder(indices=['all', {column!r}]{layers})."
        )
    return {column: purpose.direction}


def known_of(order: Mapping[str, str]) -> str:
    """What is known of the order by these indices, in a sentence; empty if none of them was measured."""
    sentences = []
    for column, direction in order.items():
        own = [result for result in results() if result.part == ALL and result.column == column]
        for body in dict.fromkeys(result.body for result in own):
            sentences.append(_sentence(column, direction, [result for result in own if result.body == body]))
    return " ".join(sentences)


def _sentence(column: str, direction: str, measured: list[Result]) -> str:
    """What choosing by a column in one direction was worth on one body, over all qualities."""
    own = [result for result in measured if result.direction == direction]
    if not own:
        return ""
    helps = [result.quality for result in own if result.low > 0]
    harms = [result.quality for result in own if result.high < 0]
    words = {
        "better than a random choice for": helps,
        "worse than a random choice for": harms,
        "neither for": [result.quality for result in own if result.low <= 0 <= result.high],
    }
    listed = "; ".join(f"{text} {', '.join(names).replace('_', ' ')}" for text, names in words.items() if names)
    return f"Known of {column} ({direction}), from {own[0].networks} networks on {own[0].body}: {listed}."
