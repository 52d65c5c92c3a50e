"""Networks by chance: tables of right and wrong samples, and how often equally accurate ones are called different."""

import numpy as np

from nas_relucode.ranking.accuracies import Accuracies
from nas_relucode.ranking.equality import compare, difference_intervals


def network(*seeds, labels="same"):
    """From tables of right and wrong samples, one a seed."""
    correct = np.array(seeds, float)
    return Accuracies(correct.mean(axis=1), correct.shape[1], correct, labels)


def drawn(accuracy, samples, generator):
    return (generator.random(samples) < accuracy).astype(float)


def family(generator, seeds, samples, gaps, luck=0.1):
    """Tables of networks that err where samples are hard, where a seed is unlucky and where both come together.

    The accuracy is 0.89 without a gap, and varies by seeds with a standard deviation of 0.15 times ``luck``.
    """
    hard = generator.normal(0, 1.0, samples)
    tables = []
    for number, gap, spread in zip(*np.broadcast_arrays(seeds, gaps, luck), strict=True):
        ease = generator.normal(1.5 - gap, spread, (number, 1))
        tables.append((ease - hard + generator.normal(0, 0.7, (number, samples)) > 0).astype(float))
    return tables


def called_different(rule, networks, *, chosen, corrected=True):
    """Which differ from the first network, or from the best if ``chosen``; ``corrected``: the rule knows this."""
    best = int(np.argmax([one.mean for one in networks])) if chosen else 0
    if rule == "mcnemar":
        return ~compare(networks, best, tolerance=rule, chosen=chosen and corrected).equal
    low, high = difference_intervals(networks, best, resamples=400, chosen=chosen and corrected)
    return (low > 1e-12) | (high < -1e-12)


def share_called_different(rule, seeds, gaps, *, luck, chosen, corrected=True, samples=300, tries=300):
    """The share of tries in which each network is called different, (networks + 1,); the last one: any network."""
    generator = np.random.default_rng(8)
    counts = np.zeros(len(gaps) + 1)
    for _ in range(tries):
        networks = [network(*table) for table in family(generator, seeds, samples, gaps, luck)]
        different = called_different(rule, networks, chosen=chosen, corrected=corrected)
        counts += [*different, different.any()]
    return counts / tries


def share_of_families(rule, number, seeds, *, luck, chosen, **options):
    """How often any of ``number`` equally accurate networks is called different."""
    return share_called_different(rule, seeds, np.zeros(number), luck=luck, chosen=chosen, **options)[-1]
