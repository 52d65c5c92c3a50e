"""The verdict on a study: which network to choose, how sure one can be, and everything that limits it, in sentences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from nas_relucode.ranking import intervals
from nas_relucode.ranking.order import costs
from nas_relucode.ranking.trials import accuracies

if TYPE_CHECKING:
    from nas_relucode.ranking.selection import Selection

FEWEST_RANKED = 5  # networks whose order is compared with their test accuracies


@dataclass(frozen=True)
class Remark:
    """Something that limits a verdict."""

    name: str  # one of WARNINGS
    text: str


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
    sentences = [_choice(selection), _preference(selection), _stability(selection), _test(selection)]
    warnings = [Remark(name, text) for name, check in WARNINGS.items() if (text := check(selection))]
    return Verdict(" ".join(filter(None, sentences)), tuple(warnings))


def _choice(selection: Selection) -> str:
    first, best = selection.networks.iloc[0], selection.most_accurate
    seeds = f"{int(first['seeds'])} seed" + ("s" if first["seeds"] > 1 else "")
    accuracy = f"Choose {first['network']}. Its validation accuracy is {first['accuracy']:.4f} ({seeds})"
    compared = int(selection.compared.sum())
    if compared == 1:
        return f"{accuracy}; it is the only feasible network, so there is nothing to compare."
    if first["network"] == best["network"]:
        return f"{accuracy}, the highest of {compared} networks. {_others(selection)}"
    comparison, margin = selection.comparison.iloc[0], selection.arguments["margin"]
    interval = _interval(selection, comparison["low"], comparison["high"])
    gap = f"{accuracy}, {comparison['difference']:.4f} below that of the most accurate network, {best['network']}"
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


def _preference(selection: Selection) -> str:
    count, rule = len(selection.finalists), selection.arguments["rule"]
    if selection.compared.sum() == 1:
        return ""
    who = {
        "1se": f"within one standard error of the best ({selection.threshold:.4f} or more)",
        "margin": f"shown to be equal to the best (less than {selection.arguments['margin']:g} apart), with the best",
    }[rule]
    if count == 1:
        return f"It is the only network {who}, so no index takes part in the choice."
    if not selection.deciding:
        return f"Among {count} networks {who}, no index can order them, so accuracy and size do."
    order = ", ".join(f"{name} ({direction})" for name, direction in selection.deciding.items())
    how = {"pareto": "their Pareto rank over", "lexicographic": "in turn", "weighted": "the weighted mean of"}
    return f"It is preferred among the {count} networks {who}, by {how[selection.arguments['how']]} {order}."


def _stability(selection: Selection) -> str:
    """How firm the order is, in words that cannot be read as confidence in the network."""
    if len(selection.finalists) < 2:
        return ""
    share = selection.ahead[0, 1]
    second = selection.finalists["network"].iloc[1]
    if math.isnan(share):
        return f"Whether it would stay ahead of the second, {second}, with other seeds is not known."
    return (
        f"With its seeds resampled it stays ahead of the second, {second}, in {share:.0%} of the draws; this says how "
        "firm the order is, not how good the network is."
    )


def _test(selection: Selection) -> str:
    first, best = selection.networks.iloc[0], selection.most_accurate
    if pd.isna(first["test_accuracy"]):
        return "No test accuracy was measured."
    text = f"On the test split, which takes no part in the choice, its accuracy is {first['test_accuracy']:.4f}"
    if first["network"] == best["network"] or pd.isna(best["test_accuracy"]):
        return f"{text}."
    return f"{text}; that of the most accurate network is {best['test_accuracy']:.4f}."


def _few_seeds(selection: Selection) -> str:
    """Too few seeds or samples to tell some networks from the best."""
    untold = selection.comparison[selection.comparison["answer"] == "cannot be told"]
    if untold.empty:
        return ""
    seeds = selection.networks.loc[selection.compared, "seeds"]
    if (seeds == 1).all():
        return (
            "Each network was trained once, so nothing is known of the effect of other seeds: equal accuracy cannot be "
            "shown, nor can a difference. Train the networks in question again (reseed)."
        )
    count = f"{int(seeds.min())}" if seeds.min() == seeds.max() else f"{int(seeds.min())} to {int(seeds.max())}"
    smallest, needed = untold["smallest_difference"].median(), untold["seeds_needed"]
    text = (
        f"{len(untold)} of {int(selection.compared.sum()) - 1} networks cannot be told from the best: {count} seeds "
        f"and {selection.networks['validation_samples'].max():,.0f} validation samples show differences of about "
        f"{smallest:.4f} or more."
    )
    margin = selection.arguments["margin"]
    if needed.notna().all():
        return f"{text} About {int(needed.max())} seeds of each would show differences of {margin:g}."
    samples = untold["samples_needed"].max()
    return (
        f"{text} No number of seeds would show differences of {margin:g} with these validation samples: about "
        f"{samples:,.0f} of them are needed."
    )


def _rules_disagree(selection: Selection) -> str:
    """The other rule chooses another network."""
    if selection.compared.sum() < 2:
        return ""
    other = {"1se": "margin", "margin": "1se"}[selection.arguments["rule"]]
    accuracy, answer = selection.networks["accuracy"], selection.comparison["answer"]
    if other == "margin":
        finalists = answer.isin(["best", "equal"])
    else:
        finalists = selection.compared & (accuracy >= selection.one_error_below)
    first = selection.networks["network"].iloc[selection.order_of(finalists.to_numpy()).rows[0]]
    if first == selection.networks["network"].iloc[0]:
        return ""
    return f"The rules disagree: by rule={other!r} the first choice is {first}."


def _test_lower(selection: Selection) -> str:
    """The first choice is less accurate on the test split than another network, by more than chance."""
    names = list(selection.networks.loc[selection.compared, "network"])  # the first choice is the first
    if len(names) < 2:
        return ""
    networks = accuracies(selection.source, names, split="test")
    if any(np.isnan(network.values).any() or math.isnan(network.samples) for network in networks):
        return ""
    uncertain = intervals.errors(networks)
    one_seed_each = all(len(network.values) == 1 for network in networks)  # these trained networks are compared then
    _, multiple = intervals.multiples(uncertain, 0, selection.arguments["level"], 0, known=one_seed_each)
    reach = multiple * uncertain.standard[0]
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
    silent = [f"{name} ({selection.silent[name]})" for name in selection.by if name in selection.silent]
    return (
        "" if not silent or len(selection.finalists) < 2 else f"These do not order the finalists: {', '.join(silent)}."
    )


def _against_test(selection: Selection) -> str:
    """The order goes against test accuracy in this study."""
    compared = selection.networks[selection.compared & selection.networks["test_accuracy"].notna()]
    against = []
    for name, direction in selection.deciding.items():
        both = compared[compared[name].notna()]
        if name in ("accuracy", "validation_loss") or len(both) < FEWEST_RANKED:
            continue
        preferred = -costs(both, {name: direction})[:, 0]
        rank, low, high = rank_correlation(preferred, both["test_accuracy"].to_numpy(float))
        if high < 0:
            against.append(f"{name} ({direction}; rank correlation {rank:.2f}, interval {low:.2f} to {high:.2f})")
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
    rank = float(stats.spearmanr(first, second).statistic)
    reach = stats.norm.isf(level / 2) * math.sqrt((1 + rank**2 / 2) / (len(first) - 3))
    middle = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, rank)))
    return rank, math.tanh(middle - reach), math.tanh(middle + reach)


def _interval(selection: Selection, low: float, high: float) -> str:
    if math.isnan(low) or math.isinf(high):
        return "no interval: one seed each"
    return f"{100 * (1 - selection.arguments['level']):g} % interval {low:.4f} to {high:.4f}"


WARNINGS: dict[str, Callable[[Selection], str]] = {
    "few_seeds": _few_seeds,
    "rules_disagree": _rules_disagree,
    "test_lower": _test_lower,
    "silent_index": _silent_order,
    "against_test": _against_test,
}
