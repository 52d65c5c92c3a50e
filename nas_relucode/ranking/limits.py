"""What limits a verdict: warnings about the study and its order, and notes on what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

from nas_relucode.ranking import intervals
from nas_relucode.ranking.order import costs
from nas_relucode.ranking.trials import accuracies
from nas_relucode.study.columns import PARAMS
from nas_relucode.texts import listed

if TYPE_CHECKING:
    from nas_relucode.ranking.selection import Selection

MOST_NAMED = 5  # networks that are named
MOST_REPEATED = 3  # repeated trainings that are named
FEWEST_RANKED = 5  # networks whose order is compared with their test accuracies


@dataclass(frozen=True)
class Remark:
    """Something that limits a verdict."""

    name: str  # one of WARNINGS
    text: str


def warnings_of(selection: Selection) -> tuple[Remark, ...]:
    """Each warning that applies to a selection."""
    return tuple(Remark(name, text) for name, check in WARNINGS.items() if (text := check(selection)))


def notes_on(selection: Selection) -> tuple[str, ...]:
    """What was left out of a selection, or limits its comparison, in sentences."""
    notes = []
    if skipped := selection.source.without_record:
        notes.append(f"Trials without our record, which are left out: {listed(skipped)}.")
    if unfinished := _unfinished(selection):
        notes.append(unfinished)
    if len(margins := selection.source.margins) > 1 and selection.ranking.margin == margins[0]:
        notes.append(
            f"The trials were recorded with different margins ({listed(margins)}): the smallest one is used. Give "
            "margin= for another."
        )
    repeated = [item for item in selection.source.repeated_seeds.items() if len(_accuracies_of(selection, item[1])) < 2]
    for (network, seed), numbers in repeated[:MOST_REPEATED]:
        notes.append(
            f"{network} was trained {len(numbers)} times with seed {seed} (trials {listed(numbers)}): "
            "they count as one training."
        )
    if other := selection.source.other_samples:
        notes.append(
            f"The {selection.source.split} samples of trials {listed(other)} are not those of the other trials: their "
            "networks are not compared sample by sample."
        )
    unpaired, compared = (
        int((~selection.comparison["paired"] & selection.compared).sum()),
        int(selection.compared.sum()),
    )
    if unpaired and compared > 1:
        notes.append(
            f"{unpaired} of {compared} networks have no predictions of the best one's samples: "
            "they are compared by their accuracies, which has less power."
        )
    if not selection.deciding and len(selection.finalists) > 1:
        notes.append("No index orders the finalists: accuracy and size do.")
    return tuple(notes)


def _unfinished(selection: Selection) -> str:
    """The networks of which no trial, or not every trial, came to its end and has a result."""
    frame = selection.source.frame
    ended = frame[frame["ranked"]]
    early = frame[frame["state"].isin(["FAIL", "PRUNED"]) & ~frame["number"].isin(frame["retry_of"].dropna())]
    early = early[~_pairs(early).isin(_pairs(ended))]
    early = early[~early["number"].isin(selection.source.repetitions)]
    params = [name for name in frame if name.startswith(PARAMS)]
    early = early[early[params].notna().any(axis=1)]  # others ended before anything was suggested
    nothing = list(dict.fromkeys(early["network"][~early["network"].isin(ended["network"])]))
    unsure = (early["state"] == "FAIL") | early["seed"].isna()  # pruned with a seed that is known: not compared
    failed = early[unsure & early["network"].isin(ended["network"])]
    parts = [f"without a complete trial, and so left out: {listed(nothing, MOST_NAMED)}"] if nothing else []
    if len(failed):
        names = listed(list(dict.fromkeys(failed["network"])), MOST_NAMED)
        numbers = listed(list(failed["number"]))
        parts.append(f"with trainings that failed or were pruned (trials {numbers}): {names}")
    return f"Networks {'; '.join(parts)}." if parts else ""


def _pairs(trials: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(trials[["network", "seed"]])


def _accuracies_of(selection: Selection, numbers: Sequence[int]) -> list[float]:
    """The different accuracies of some trials, in order."""
    ranked = zip(selection.source.ranked, selection.source.records, strict=True)
    chosen = {record["accuracy"] for trial, record in ranked if trial.number in set(numbers)}
    return sorted(accuracy for accuracy in chosen if accuracy is not None)


def _unseeded(selection: Selection) -> str:
    """Repeats of one network and seed that are not equally accurate."""
    parts = []
    for (network, seed), numbers in selection.source.repeated_seeds.items():
        if len(values := _accuracies_of(selection, numbers)) > 1:
            often = f"{len(numbers)} times with seed {seed} (trials {listed(numbers)})"
            parts.append(f"{network} was trained {often}, with accuracies from {values[0]:.4f} to {values[-1]:.4f}")
    if not parts:
        return ""
    return (
        f"{'; '.join(parts[:MOST_REPEATED])}{'; and others' * (len(parts) > MOST_REPEATED)}: the seed does not decide "
        "the training. Repeats count as one training, by their mean. Call torch.manual_seed(seed) in the objective and "
        "pass seed=seed to the recorder."
    )


def _few_seeds(selection: Selection) -> str:
    """Too few seeds or samples to tell some networks from the best."""
    untold = selection.comparison[selection.comparison["answer"] == "cannot be told"]
    if untold.empty:
        return ""
    seeds = selection.networks.loc[selection.compared, "seeds"]
    if (seeds == 1).all():
        return (
            "Each network was trained once, so nothing is known of the effect of other seeds: equal accuracy cannot be "
            "shown, nor can a difference. Train them with more seeds: rc.reseed(study, objective, seeds=[1, 2])."
        )
    count = f"{int(seeds.min())}" if seeds.min() == seeds.max() else f"{int(seeds.min())} to {int(seeds.max())}"
    smallest, needed = untold["smallest_difference"].median(), untold["seeds_needed"]
    others = int(selection.compared.sum()) - 1
    which = "The other network" if others == 1 else f"{len(untold)} of {others} other networks"
    available = selection.networks["validation_samples"].max()
    shown = f"differences of about {smallest:.4f} or more" if smallest < 1 else "no difference at all"
    text = (
        f"{which} cannot be told from the best: {count} seeds "
        f"and {available:,.0f} {selection.source.split} samples show {shown}."
    )
    margin = selection.ranking.margin
    if needed.notna().all():
        return f"{text} About {int(needed.max())} seeds of each would show differences of {margin:g}."
    samples = untold["samples_needed"].max()
    if not samples > available:
        return f"{text} More than {intervals.MOST_SEEDS:,} seeds of each would be needed for differences of {margin:g}."
    return (
        f"{text} To show differences of {margin:g}, about {samples:,.0f} {selection.source.split} samples are needed; "
        "more seeds alone will not do."
    )


def _rules_disagree(selection: Selection) -> str:
    """The other rule chooses another network."""
    if selection.compared.sum() < 2:
        return ""
    other = {"1se": "margin", "margin": "1se"}[selection.ranking.rule]
    first = selection.networks["network"].iloc[selection.order_of(selection.finalists_by(other)).rows[0]]
    if first == selection.networks["network"].iloc[0]:
        return ""
    return f"The rules disagree: by rule={other!r} the first choice is {first}."


def _test_lower(selection: Selection) -> str:
    """The first choice is less accurate on the test split than another network, by more than chance."""
    compared = selection.networks[selection.compared]  # the first choice is the first
    if len(compared) < 2 or compared["test_accuracy"].isna().any():
        return ""
    names = list(compared["network"])
    networks = accuracies(selection.source, names, split="test")
    if any(math.isnan(network.samples) for network in networks):
        return ""
    uncertain = intervals.errors(networks)
    one_seed_each = all(len(network.values) == 1 for network in networks)  # these trained networks are compared then
    drawn = uncertain.drawn(np.random.default_rng(0))[one_seed_each]
    standard = uncertain.standard_with(0)
    reach = intervals.largest_of_one(drawn, standard, 0, selection.ranking.level) * standard
    most = np.array([networks[0].mean - network.mean for network in networks]) + reach
    better = int(np.argmin(most[1:])) + 1
    if most[better] >= 0:
        return ""
    return (
        f"On the test split the first choice is less accurate than {names[better]}, by more than chance: "
        f"{networks[0].mean:.4f} against {networks[better].mean:.4f}, at least {-most[better]:.4f} less."
    )


def _silent_order(selection: Selection) -> str:
    """Indices that were to order the finalists, but cannot."""
    silent = [
        f"{selection.in_words(name)} ({selection.silent[name]})" for name in selection.by if name in selection.silent
    ]
    return (
        "" if not silent or len(selection.finalists) < 2 else f"These do not order the finalists: {', '.join(silent)}."
    )


def _against_test(selection: Selection) -> str:
    """The order goes against test accuracy in this study."""
    compared = selection.networks[selection.near_best & selection.networks["test_accuracy"].notna()]
    against = []
    for name, direction in selection.deciding.items():
        both = compared[compared[name].notna()]
        if name in ("accuracy", "validation_loss") or len(both) < FEWEST_RANKED:
            continue
        preferred = -costs(both, {name: direction})[:, 0]
        rank, low, high = rank_correlation(preferred, both["test_accuracy"].to_numpy(float))
        if high < 0:
            words = f"{selection.in_words(name)} ({direction}; rank correlation {rank:.2f}"
            against.append(f"{words}, interval {low:.2f} to {high:.2f})")
    if not against:
        return ""
    return f"In this study the order goes against test accuracy: {', '.join(against)}, over {len(compared)} networks."


def rank_correlation(first: np.ndarray, second: np.ndarray, level: float = 0.05) -> tuple[float, float, float]:
    """Spearman's rank correlation of two arrays (networks,), with the ends of its interval; NaN where one is constant.

    The interval is Fisher's, with the standard error for ranks of Bonett and Wright (Psychometrika 65, 2000).

    >>> [round(value, 2) for value in rank_correlation(np.arange(10.0), np.arange(10.0) % 7)]
    [0.16, -0.53, 0.72]
    """
    if len(first) < 4 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan, math.nan, math.nan
    from scipy import stats  # takes a second to import

    rank = float(stats.spearmanr(first, second).statistic)
    reach = -special.ndtri(level / 2) * math.sqrt((1 + rank**2 / 2) / (len(first) - 3))
    middle = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rank)))
    return rank, math.tanh(middle - reach), math.tanh(middle + reach)


WARNINGS: dict[str, Callable[[Selection], str]] = {
    "few_seeds": _few_seeds,
    "unseeded": _unseeded,
    "rules_disagree": _rules_disagree,
    "test_lower": _test_lower,
    "silent_index": _silent_order,
    "against_test": _against_test,
}
