"""Which networks are as accurate as the best one, judged by their seeds and validation samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_relucode.errors import InputError, finite_number, unknown
from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.choices import LEVEL, RULES
from nas_relucode.ranking.intervals import simultaneous_intervals
from nas_relucode.study.defaults import MARGIN

ROUNDING = 1e-12  # of differences between accuracies: 0.9 - 0.005 is less than 0.895


@dataclass(frozen=True, eq=False)
class Judgement:
    """How each network compares with the best, the one of the highest mean accuracy; arrays are (networks,).

    Numbers are NaN for the best itself, for a network without accuracy, and where no network has several seeds.
    """

    answer: np.ndarray  # object: "best", "equal", "worse", "cannot be told"
    difference: np.ndarray  # float64: mean accuracy of the best network less that of each network; 0 for the best
    low: np.ndarray  # float64: ends of the interval of the true difference
    high: np.ndarray
    paired: np.ndarray  # bool: whether there are predictions of the same samples for the best network and this one
    smallest_difference: np.ndarray  # float64: the true difference that is shown with a probability of 80 %
    seeds_needed: np.ndarray  # float64: seeds of every network that make it the margin; NaN if none would
    samples_needed: np.ndarray  # float64: validation samples with which some number of seeds does
    finalist: np.ndarray  # bool, by the rule
    one_error_below: float  # the best mean accuracy less one standard error, over other seeds and samples


def check_rule(rule: str, margin: float = MARGIN, level: float = LEVEL) -> None:
    """Raises InputError unless the rule is one of RULES, and margin and level lie between 0 and 1."""
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    for name, value in {"margin": margin, "level": level}.items():
        finite_number(name, value, most=1, above=True, below=True)


def judge(
    networks: Sequence[Accuracies], *, margin: float = MARGIN, rule: str = "1se", level: float = LEVEL, seed: int = 0
) -> Judgement:
    """Which networks are as accurate as the best one, which are worse, and which cannot be told from it.

    What is judged is the true accuracy of a network: the mean over all seeds that it might be trained with and all
    samples that it might be validated on. The best network is the one of the highest mean accuracy (the first of
    several). A network is

    - ``"equal"`` if its true accuracy is shown to lie less than ``margin`` below that of the best network;
    - ``"worse"`` if it is shown to lie below that of the best network, and not equal;
    - ``"cannot be told"`` otherwise.

    Shown means: by the interval of the difference, whose upper end lies below ``margin``, or whose lower end lies above
    0. The lower ends, and the upper ends, hold for all networks at once with a probability of 1 - ``level``, although
    the best network was chosen for its accuracy, see `ranking.intervals.simultaneous_intervals`. Networks with
    predictions of the same samples are compared sample by sample; the others, with less power, as if they had been
    validated on different samples.

    With one seed a network, nothing is known about other seeds, so nothing can be told about accuracies over all seeds:
    every network but the best is ``"cannot be told"``. A network with one seed among others with several is judged by
    their variance over seeds.

    ``rule`` says who is a finalist: by ``"margin"`` the best network and those that are equal; by ``"1se"`` those whose
    mean accuracy lies within one standard error of the best mean, over other seeds and samples.

    Raises InputError for a rule, margin or level out of range, and if no network has an accuracy.

    >>> spread = np.linspace(-1e-4, 1e-4, 10)
    >>> networks = [Accuracies(mean + spread, 1e6) for mean in (0.9, 0.8995, 0.88, 0.8955)]
    >>> judge(networks).answer.tolist()
    ['best', 'equal', 'worse', 'worse']
    """
    check_rule(rule, margin, level)
    means = np.array([network.mean for network in networks])
    compared = [number for number, mean in enumerate(means) if math.isfinite(mean)]
    if not compared:
        raise InputError("no network has an accuracy. Give at least one whose accuracies are numbers.")
    best = max(compared, key=lambda number: means[number])
    reference = networks[best]
    difference = reference.mean - means
    numbers = np.full((5, len(networks)), math.nan)
    others = [number for number in compared if number != best]
    if others and any(len(networks[number].values) > 1 for number in compared):
        found = [networks[number] for number in compared]
        ends = simultaneous_intervals(found, compared.index(best), margin=margin, level=level, seed=seed)
        numbers[:, compared] = dataclasses.astuple(ends)
    numbers[:, best] = math.nan
    low, high, smallest, seeds, samples = numbers
    answer = np.full(len(networks), "cannot be told", object)
    answer[low > ROUNDING] = "worse"
    answer[high < margin - ROUNDING] = "equal"
    answer[best] = "best"
    one_error_below = reference.mean - reference.standard_error
    return Judgement(
        answer=answer,
        difference=difference,
        low=low,
        high=high,
        paired=np.array([reference.paired(network) for network in networks]),
        smallest_difference=smallest,
        seeds_needed=seeds,
        samples_needed=samples,
        finalist=finalists_by(rule, answer, means, one_error_below),
        one_error_below=one_error_below,
    )


def finalists_by(rule: str, answer: np.ndarray, accuracy: np.ndarray, one_error_below: float) -> np.ndarray:
    """The networks that are finalists by a rule, bool (networks,); those without an accuracy are not.

    >>> answers, accuracies = np.array(["best", "worse", "equal"]), np.array([0.95, 0.948, 0.945])
    >>> finalists_by("1se", answers, accuracies, 0.947), finalists_by("margin", answers, accuracies, 0.947)
    (array([ True,  True, False]), array([ True, False,  True]))
    """
    return np.isin(answer, ["best", "equal"]) if rule == "margin" else accuracy >= one_error_below - ROUNDING
