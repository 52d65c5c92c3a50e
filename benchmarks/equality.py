"""Whether "equal" and "worse" are true, by simulation: families of networks whose true accuracies are known."""

from __future__ import annotations

import measure

# isort: split
import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from measure import Bench, Claim
from scipy import stats

from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.equality import judge
from nas_relucode.ranking.intervals import SCREEN

measure.PAGE = measure.PAGE.with_name("equality.md")
MARGIN = 0.005
TRUTHS = {  # the true differences from the most accurate network
    "all equal": lambda networks, _: np.zeros(networks),
    "one best, all others at the margin": lambda networks, _: np.r_[0.0, np.full(networks - 1, MARGIN)],
    "0, margin and 3 x margin": lambda networks, generator: np.r_[
        0.0, MARGIN * generator.choice([0, 1, 3], networks - 1)
    ],
}
PARTS = (
    "same variance over seeds",
    "half of the networks with nine times the variance over seeds",
    "one network with 25 times the variance over seeds",
    "half of the networks without predictions or with samples of their own",
    "1 to 10 seeds in one family",
)
LIMIT = "5 % of the families at most"
FAMILIES = "of {cells} families"
CLAIMS = {
    "equal": Claim(f'false "equal" in any network, {FAMILIES}', LIMIT, 1, 3_000, 240, 1),
    "worse": Claim(f'false "worse" in any network, {FAMILIES}', LIMIT, 1, 3_000, 240, 1),
    **{part: Claim(f"any false answer: {part}, {FAMILIES}", LIMIT, 1, 600, 48, 0.5) for part in PARTS},
    **{truth: Claim(f"any false answer: {truth}, {FAMILIES}", LIMIT, 1, 1_000, 80, 0.5) for truth in TRUTHS},
    "time": Claim("judging 30 networks with 10 seeds and {cells} samples", "0.2 s at most", 1, 10_000),
}
WIDE, TRIES = 5.5, 4_000  # of the families whose standard errors are known
KNOWN = {
    "30 equal": np.zeros(30),
    "29 at the margin": np.r_[0.0, np.full(29, WIDE)],
    "5 equal, 5 at the margin, 20 far behind": np.r_[np.zeros(5), np.full(5, WIDE), np.full(20, 100.0)],
}
DIFFICULTY, OWN, LUCK = 1.0, 0.4, 0.6  # deviations over samples: of all networks, of one network, of one seed


Rule = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # differences -> equal, worse


@dataclass(frozen=True)
class Family:
    """Networks of known accuracy, before they are trained and validated."""

    accuracies: np.ndarray  # float64, (networks,): the true ones
    seeds: np.ndarray  # int64, (networks,)
    spread: np.ndarray  # float64, (networks,): standard deviation of the accuracy over seeds
    samples: int
    shared: np.ndarray  # bool, (networks,): whether predictions of the common validation samples are kept

    def validated(self, generator: np.random.Generator) -> list[Accuracies]:
        """A network is right on a sample if its strength exceeds the sample's difficulty.

        The strength varies over seeds; the difficulty is partly that for all networks, partly for this one, partly for
        this seed. All are normal, so that the true accuracy is known.
        """
        common = DIFFICULTY * generator.standard_normal(self.samples, np.float32)
        return [self._one(number, common, generator) for number in range(len(self.accuracies))]

    def _one(self, number: int, common: np.ndarray, generator: np.random.Generator) -> Accuracies:
        shared, seeds, accuracy = self.shared[number], self.seeds[number], self.accuracies[number]
        unexplained = np.sqrt(DIFFICULTY**2 + OWN**2 + LUCK**2)
        slope = stats.norm.pdf(stats.norm.ppf(accuracy)) / unexplained  # of the accuracy against the strength
        spread = self.spread[number] / slope
        strength = stats.norm.ppf(accuracy) * np.hypot(unexplained, spread) + spread * generator.normal(size=(seeds, 1))
        own_samples = not shared and number % 2 == 1
        hard = DIFFICULTY * generator.standard_normal(self.samples, np.float32) if own_samples else common
        hard = hard + OWN * generator.standard_normal(self.samples, np.float32)
        correct = hard + LUCK * generator.standard_normal((seeds, self.samples), np.float32) < strength
        values = correct.mean(axis=1)
        if shared or own_samples:
            return Accuracies(values, self.samples, correct.astype(float), "common" if shared else str(number))
        return Accuracies(values, self.samples)


def families(number: int, generator: np.random.Generator) -> Iterator[tuple[str, str, Family]]:
    """Every part with every truth, as often as each other."""
    for part, truth in itertools.islice(itertools.cycle(itertools.product(PARTS, TRUTHS)), number):
        networks = int(generator.choice([2, 3, 5, 10, 20, 30]))
        seeds = np.full(networks, generator.integers(2, 11))
        if part == PARTS[4]:
            seeds = generator.integers(1, 11, networks)
        spread = np.full(networks, generator.choice([0.0003, 0.001, 0.003, 0.01]))
        if part == PARTS[1]:
            spread *= np.where(generator.random(networks) < 0.5, 1, 3)
        if part == PARTS[2]:
            spread[generator.integers(networks)] *= 5
        accuracies = generator.choice([0.7, 0.9, 0.97, 0.99]) - TRUTHS[truth](networks, generator)
        samples = int(generator.choice([200, 500, 1_000, 3_000, 10_000]))
        shared = generator.random(networks) < 0.5 if part == PARTS[3] else np.ones(networks, bool)
        yield part, truth, Family(accuracies, seeds, spread, samples, shared)


def false_answers(family: Family, answers: np.ndarray) -> tuple[bool, bool]:
    """Whether any "equal" is false, and whether any "worse" is.

    "equal" is false for a network that lies the margin or more below the most accurate network of all, which may be
    another than the one of the highest mean; "worse" for one that is at least as accurate as that of the highest mean.
    """
    best = family.accuracies[answers == "best"]
    behind = family.accuracies.max() - family.accuracies
    return bool((behind[answers == "equal"] >= MARGIN - 1e-12).any()), bool(
        (family.accuracies[answers == "worse"] >= best - 1e-12).any()
    )


def level(bench: Bench) -> None:
    generator = np.random.default_rng(0)
    false: Counter[str] = Counter()
    for part, truth, family in families(bench.cells("equal"), generator):
        answers = judge(family.validated(generator), margin=MARGIN).answer
        equal, worse = false_answers(family, answers)
        false.update({"equal": equal, "worse": worse, part: equal or worse, truth: equal or worse})
    for name in CLAIMS:
        if name != "time":
            bench.row(name, false[name] / bench.cells(name), 0.05, show=percent)


def power(bench: Bench) -> None:
    """The shares of true answers: half of ten networks are equal, half lie three margins below."""
    generator = np.random.default_rng(1)
    seeds, sizes = (2, 3, 5, 10), (1_000, 10_000, 50_000)
    bench.print(
        "\nOf ten networks with an accuracy of 0.97, or three margins less, which are shown to be equal / worse:\n"
    )
    header = [f"{samples:,} samples" for samples in sizes]
    bench.print(f"| deviation over seeds | seeds | {' | '.join(header)} |\n| ---: | ---: |" + " ---: |" * len(sizes))
    for spread, number in itertools.product((0.001, 0.003), seeds):
        cells = []
        for samples in sizes:
            shares = defaultdict(list)
            behind = np.repeat([0.0, 3 * MARGIN], 5)
            family = Family(0.97 - behind, np.full(10, number), np.full(10, spread), samples, np.ones(10, bool))
            for _ in range(5 if bench.quick else 30):
                answers = judge(family.validated(generator), margin=MARGIN).answer
                shares["equal"].append((answers[:5] == "equal").sum() / 4)
                shares["worse"].append((answers[5:] == "worse").mean())
            cells.append(" / ".join(percent(float(np.mean(values)), 0) for values in shares.values()))
        bench.print(f"| {spread} | {number} | {' | '.join(cells)} |")


def few_seeds(bench: Bench) -> None:
    """The hardest families: all equal, few seeds, variances over seeds that differ, samples that do not matter."""
    generator, tries = np.random.default_rng(3), 40 if bench.quick else 800
    spreads = {
        "the same": [1.0] * 6,
        "half of them 9 times as large": [1, 3] * 3,
        "one 25 times as large": [5] + [1] * 5,
    }
    bench.print(f"\nFamilies with a false answer, all networks equal, of {tries:,} families each:\n")
    bench.print(
        "| variances over seeds | networks | 2 seeds | 3 seeds | 5 seeds |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for (name, spread), networks in itertools.product(spreads.items(), (2, 6)):
        cells = []
        for seeds in (2, 3, 5):
            false = 0
            for _ in range(tries):
                chance = generator.normal(size=(networks, seeds)) * np.array(spread[:networks])[:, None]
                judged = judge([Accuracies(0.9 + 0.02 * row, 1e12) for row in chance], margin=MARGIN)
                false += "worse" in judged.answer
            cells.append(percent(false / tries))
        bench.print(f"| {name} | {networks} | {' | '.join(cells)} |")


def alternatives(bench: Bench) -> None:
    """Other rules beside ours where standard errors are known, so that only the multiples differ.

    Tukey: intervals of all pairs. Hsu: multiple comparisons with the best. Hansen: the model confidence set, step by
    step, which has no interval and so no "equal".
    """
    bench.print(
        "\nIn each cell: families with a false answer; the equal networks that are shown to be equal / those at the "
        f"margin that are shown to be worse. The margin is {WIDE} known standard errors of a mean; {TRIES:,} tries.\n"
    )
    bench.print(f"| rule | {' | '.join(KNOWN)} |\n| --- |" + " ---: |" * len(KNOWN))
    for name, rule in {"ours": ours, "Tukey": tukey, "Hsu": hsu, "Hansen": hansen}.items():
        bench.print(f"| {name} | {' | '.join(shares(rule, truth) for truth in KNOWN.values())} |")


def shares(rule: Rule, truth: np.ndarray) -> str:
    means = np.random.default_rng(4).normal(size=(TRIES, len(truth))) - truth
    best = means.argmax(axis=1)[:, None]
    equal, worse = np.array([rule(row.max() - row) for row in means]).swapaxes(0, 1)
    others, worse = np.arange(len(truth)) != best, worse & ~equal
    false = others & ((equal & (truth >= WIDE)) | (worse & (truth <= truth[best])))
    cells = [
        percent(float(shown[asked].mean()), 0) if asked.any() else "-"
        for shown, asked in (
            (equal, others & (truth == 0) & (truth[best] == 0)),
            (worse, others & (truth == WIDE) & (truth[best] == 0)),
        )
    ]
    return f"{percent(float(false.any(axis=1).mean()))}; {' / '.join(cells)}"


@functools.cache
def of_all_pairs(networks: int, level: float) -> float:
    drawn = np.random.default_rng(4).normal(size=(20_000, networks))
    return float(np.quantile(np.ptp(drawn, axis=1), 1 - level))


@functools.cache
def of_one(networks: int, level: float) -> float:
    drawn = np.random.default_rng(4).normal(size=(20_000, networks))
    return float(np.quantile(drawn.max(axis=1) - drawn[:, 0], 1 - level))


def tukey(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    room = of_all_pairs(len(gaps), 0.05)
    return gaps + room < WIDE, gaps > room


def hsu(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    room = of_one(len(gaps), 0.05)
    return gaps + room < WIDE, gaps > room


def hansen(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left = np.sort(gaps)
    while len(left) > 1 and left[-1] > of_all_pairs(len(left), 0.05):
        left = left[:-1]
    return np.zeros(len(gaps), bool), gaps > left[-1]


def ours(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    close = gaps - of_all_pairs(len(gaps), SCREEN * 0.05) <= WIDE
    left, level = int(close.sum()), (1 - SCREEN) * 0.05
    return close & (gaps + of_one(left, level) < WIDE), ~close | (gaps > of_all_pairs(left, level))


def time_of_judge(bench: Bench) -> None:
    generator = np.random.default_rng(2)
    behind = np.linspace(0, 0.05, 30)
    family = Family(0.95 - behind, np.full(30, 10), np.full(30, 0.001), bench.cells("time"), np.ones(30, bool))
    networks = family.validated(generator)
    bench.row("time", float(np.median([measure.processor_seconds(lambda: judge(networks)) for _ in range(5)])), 0.2)


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def main() -> None:
    measured = "Simulated networks; the margin is 0.005, the level 5 %."
    bench = measure.bench(__file__, __doc__, CLAIMS, measured)
    level(bench)
    time_of_judge(bench)
    power(bench)
    few_seeds(bench)
    alternatives(bench)
    bench.finish()


if __name__ == "__main__":
    main()
