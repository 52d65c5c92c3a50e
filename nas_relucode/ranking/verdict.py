"""The verdict on a study: which network to choose and how sure one can be, in sentences that one can act on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from nas_relucode.ranking.limits import Remark, warnings_of
from nas_relucode.ranking.purposes import order_for, worth_of
from nas_relucode.texts import counted, digits, listed

if TYPE_CHECKING:
    from nas_relucode.ranking.selection import Selection


@dataclass(frozen=True)
class Verdict:
    """What a comparison of networks says, in sentences that one can act on."""

    text: str  # one paragraph
    warnings: tuple[Remark, ...]

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"- {warning.text}" for warning in self.warnings)])


def verdict_of(selection: Selection) -> Verdict:
    """The verdict on a selection; its reason if no network can be chosen."""
    if selection.finalists.empty:
        return Verdict(selection.infeasibility, ())
    parts = (_choice, not_compared, _preference, _worth, _stability, _test)
    sentences = [part(selection) for part in parts]
    return Verdict(" ".join(filter(None, sentences)), warnings_of(selection))


def _choice(selection: Selection) -> str:
    first, best = selection.networks.iloc[0], selection.most_accurate
    seeds = counted(int(first["seeds"]), "seed")
    accuracy = f"Choose {first['network']}. Its {selection.in_words('accuracy')} is {first['accuracy']:.4f} ({seeds})"
    compared = int(selection.compared.sum())
    if compared == 1:
        alone = len(selection.networks) == 1  # otherwise the others are named with why they were not compared
        nothing = ", and no other network was trained to its end, so that there is nothing to compare"
        return f"{accuracy}{nothing * alone}."
    if first["network"] == best["network"]:
        return f"{accuracy}, the highest of {compared} networks. {_others(selection)}".rstrip()
    comparison, margin = selection.comparison.iloc[0], selection.ranking.margin
    interval = _interval(selection, comparison["low"], comparison["high"])
    below = digits(comparison["difference"])
    below = "to four digits" if float(below) == 0 else f"{below} below"
    gap = f"{accuracy}, {below} that of the most accurate network, {best['network']}"
    answers = {
        "equal": f"the two are equal: the difference is shown to be less than {margin:g}",
        "worse": "it is shown to be less accurate",
        "cannot be told": f"whether the two are equal (to less than {margin:g}) cannot be told",
    }
    return f"{gap} ({interval}); {answers[comparison['answer']]}. {_others(selection)}".rstrip()


def _others(selection: Selection) -> str:
    """How many networks have each answer."""
    counts = selection.comparison["answer"].value_counts().drop(["best", ""], errors="ignore")
    others = int(counts.sum())
    if others < 2:
        return ""
    if len(counts) == 1:
        return {
            "equal": f"All {others} other networks are equal to the most accurate one.",
            "worse": f"All {others} other networks are worse.",
            "cannot be told": f"None of the {others} other networks can be told from the most accurate one.",
        }[counts.index[0]]
    texts = {"equal": "equal to the most accurate one", "worse": "worse", "cannot be told": "cannot be told from it"}
    parts = []
    for answer, text in texts.items():
        if count := int(counts.get(answer, 0)):
            verb = "" if answer == "cannot be told" else "is " if count == 1 else "are "
            parts.append(f"{count} {verb}{text}")
    return f"Of the {others} other networks {', '.join(parts)}."


def not_compared(selection: Selection) -> str:
    """The networks that were not compared with the best one, and why; empty if there are none."""
    networks = selection.networks[~selection.compared]
    if networks.empty:
        return ""
    violated = [name for name in dict.fromkeys(networks["violated"]) if name]
    reasons = {
        "pruned with some seed": networks["pruned"] > 0,
        **{f"violates {name}": (networks["pruned"] == 0) & (networks["violated"] == name) for name in violated},
        "below the accuracy floor": (networks["pruned"] == 0) & (networks["violated"] == "") & ~networks["feasible"],
        "without an accuracy": networks["feasible"],
    }
    parts = [f"{listed(list(networks['network'][kept]), 5)} ({why})" for why, kept in reasons.items() if kept.any()]
    count = f"{len(networks)} of the {counted(len(selection.networks), 'network')}"
    return f"{count} {'was' if len(networks) == 1 else 'were'} not compared: {'; '.join(parts)}."


def _preference(selection: Selection) -> str:
    count, rule = len(selection.finalists), selection.ranking.rule
    if selection.compared.sum() == 1:
        return ""
    who = {
        "1se": f"within one standard error of the best ({selection.threshold:.4f} or more)",
        "margin": f"shown to be equal to the best (less than {selection.ranking.margin:g} apart), with the best",
    }[rule]
    if count == 1 and rule == "margin":
        apart = f"(less than {selection.ranking.margin:g} apart)"
        return f"No other network is shown to be equal to it {apart}, so no index takes part in the choice."
    if count == 1:
        return f"It is the only network {who}, so no index takes part in the choice."
    if not selection.deciding:
        return f"Among {count} networks {who}, no index can order them, so accuracy and size do."
    return f"It is preferred among the {count} networks {who}, by {way_in_words(selection, selection.silent)}."


def way_in_words(selection: Selection, silent: Iterable[str]) -> str:
    """What orders networks, those of ``silent`` left out; empty if nothing does."""
    names = [f"{selection.in_words(name)} ({way})" for name, way in selection.by.items() if name not in silent]
    how = {"pareto": "their Pareto rank over ", "lexicographic": "in turn ", "weighted": "the weighted mean of "}
    return (how[selection.ranking.how] if len(names) > 1 else "") + ", ".join(names)


def _worth(selection: Selection) -> str:
    """What is known of choosing by this order."""
    if len(selection.finalists) < 2:
        return ""
    if selection.ranking.purpose is not None:
        return order_for(selection.ranking.purpose, list(selection.by)).text
    return worth_of(selection.deciding)


def _stability(selection: Selection) -> str:
    """How firm the order is, in words that cannot be read as confidence in the network."""
    if len(selection.finalists) < 2:
        return ""
    rows, deciding = selection.finalists.index, list(selection.deciding)
    is_constant = bool(deciding) and bool((selection.spread.loc[rows, deciding] == 0).all(axis=None))
    keys = selection.comparison.loc[rows[:2], "key"].to_list()
    if is_constant and keys[0] != keys[1]:
        return ""  # what decides is the same for every seed
    share = selection.ahead[0, 1]
    second = selection.finalists["network"].iloc[1]
    if math.isnan(share):
        return f"Whether it would stay ahead of the second, {second}, with other seeds is not known."
    return (
        f"With its seeds resampled it stays ahead of the second, {second}, in {100 * share:.0f} % of the draws; this "
        "says how firm the order is, not how good the network is."
    )


def _test(selection: Selection) -> str:
    first, best = selection.networks.iloc[0], selection.most_accurate
    if selection.source.split == "test":
        return "This split was used for the choice, so that nothing is left to confirm it."
    if pd.isna(first["test_accuracy"]):
        return "No test accuracy was measured."
    text = f"On the test split, which takes no part in the choice, its accuracy is {first['test_accuracy']:.4f}"
    if first["network"] == best["network"] or pd.isna(best["test_accuracy"]):
        return f"{text}."
    return f"{text}; that of the most accurate network is {best['test_accuracy']:.4f}."


def _interval(selection: Selection, low: float, high: float) -> str:
    if math.isnan(low) or math.isinf(high):
        return "no interval: one seed each"
    return f"{100 * (1 - selection.ranking.level):g} % interval {digits(low)} to {digits(high)}"
