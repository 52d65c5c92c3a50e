"""What choosing by an index was worth: the results of docs/evidence.md, and the order that they support for a purpose.

The results come with the package (``evidence.csv`` beside this module); `evidence.known` writes them.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from nas_relucode.errors import InputError, unknown
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.ranking.choices import LEVEL, PURPOSES

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
    # Of the correlation with the quality, adjusted for all columns and qualities; 1 where it contradicts the gain, None
    # if HELD_OUT.
    p: float | None
    supported: bool  # whether the protocol's bar is passed on this body

    @property
    def firm(self) -> bool:
        """Whether the interval is clear of 0 and the correlation beyond chance among all that were looked at."""
        return self.p is not None and self.p < LEVEL and not self.low <= 0 <= self.high

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
            float(row["p"]) if row["p"] else None,
            row["supported"] == "yes",
        )
        for row in csv.DictReader(text.splitlines())
    )


@dataclass(frozen=True)
class PurposeOrder:
    """What orders networks for a purpose, and why."""

    by: dict[str, str]  # column -> direction
    text: str


def order_for(purpose: str, recorded: Collection[str], known: Collection[Result] | None = None) -> PurposeOrder:
    """The order of networks for a purpose: by its quality itself where the study recorded it, else by a proven index.

    ``recorded`` are the columns of the study. Raises InputError for an unknown purpose, for one that no index is proven
    for (see docs/evidence.md: on two data sets, on networks that took no part in the choice), and for a study that did
    not record what orders them.
    """
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        raise unknown("purpose", purpose, PURPOSES)
    quality = PURPOSES[purpose]
    if quality in recorded:
        text = f"The order is for {purpose}, by {quality} itself, measured on the samples held out for the choice."
        return PurposeOrder({quality: QUALITIES[quality].direction}, text)
    known = results() if known is None else known
    held_out = [result for result in known if result.part == HELD_OUT and result.quality == quality]
    proven = [result for result in held_out if result.supported]
    advice = f"Record {quality} in the study, and networks are ordered by it: Recorder(qualities=[{quality!r}])."
    if len({result.body for result in proven}) < 2:
        worth = "; ".join(f"{result.column} ({result.direction}) captured {result.text}" for result in held_out)
        measured = f"The best one measured did not pass on two data sets: {worth}" if worth else "None was measured"
        raise InputError(f"no index is proven to order equally accurate networks for {purpose}. {measured}. {advice}")
    index = proven[0].column
    if index not in recorded:  # a study has no column for the codes of other layers than it read
        record = "" if ":" in index else f"Record it: Recorder(indices=['all', {index!r}]). "
        raise InputError(
            f"for {purpose} networks are ordered by {index}, which this study did not record. {record}{advice}"
        )
    worth = " and ".join(result.text for result in proven)
    text = (
        f"The order is for {purpose} ({quality}): on networks that took no part in its choice, choosing by it captured "
        f"{worth} of what could be gained among equally accurate networks (95 % intervals)."
    )
    return PurposeOrder({index: proven[0].direction}, text)


def known_of(order: Mapping[str, str]) -> str:
    """What is known of the order by these indices, in a sentence each; empty if none of them was measured."""
    return " ".join(
        f"On {own[0].networks} networks trained on {own[0].body}, choosing equally accurate ones by {column} "
        f"({direction}; read off the fully connected layers) was, compared with a random choice, {_effects(own)}."
        for column, direction in order.items()
        for own in _measured(column, direction)
    )


def worth_of(order: Mapping[str, str]) -> str:
    """What is known of choosing by these columns, in one sentence; empty if none of them was measured."""
    measured = {column: _measured(column, direction) for column, direction in order.items()}
    bodies = dict.fromkeys(own[0].body for results_of in measured.values() for own in results_of)
    if not bodies:
        return ""
    known = {column: _firm_effects(results_of) for column, results_of in measured.items() if results_of}
    without = " or ".join(column for column, effects in known.items() if not effects)
    parts = [f"by {without} was neither better nor worse, as far as could be told"] * bool(without)
    parts += [f"by {column} was {effects}" for column, effects in known.items() if effects]
    return (
        f"In our tests on {' and '.join(bodies)} (docs/evidence.md), compared with a random choice, choosing equally "
        f"accurate networks {'; '.join(parts)}."
    )


def _firm_effects(results_of: Sequence[Sequence[Result]]) -> str:
    """For which qualities choosing by a column was better or worse beyond chance; empty if for none."""
    parts = []
    for own in results_of:
        for word, sign in (("better", 1), ("worse", -1)):
            names = [r.quality.replace("_", " ") for r in own if r.firm and (r.low > 0) == (sign > 0)]
            parts += [f"{word} for {', '.join(names)} on {own[0].body}"] * bool(names)
    return ", ".join(parts)


def effects_of(column: str, direction: str) -> str:
    """The same in a few words; empty if the column was not measured."""
    return ". ".join(f"{own[0].body}, {direction}: {_effects(own)}" for own in _measured(column, direction))


def _measured(column: str, direction: str) -> list[list[Result]]:
    """What was measured of choosing by a column in one direction, over all networks of each body."""
    own = [r for r in results() if (r.part, r.column, r.direction) == (ALL, column, direction)]
    return [[r for r in own if r.body == body] for body in dict.fromkeys(r.body for r in own)]


def _effects(measured: Sequence[Result]) -> str:
    """What choosing by a column in one direction was worth on one body, over all qualities."""

    def names(kept: Callable[[Result], bool]) -> str:
        return ", ".join(result.quality.replace("_", " ") for result in measured if kept(result))

    better, worse = names(lambda result: result.firm and result.low > 0), names(lambda r: r.firm and r.high < 0)
    parts = [f"better for {better}"] * bool(better) + [f"worse for {worse}"] * bool(worse)
    undecided = sum(not result.firm for result in measured)
    others = f"{undecided} {'other ' * bool(parts)}{'quality' if undecided == 1 else 'qualities'}"
    parts += [f"no better or worse, as far as could be told, for {others}"] * bool(undecided)
    return "; ".join(parts)
