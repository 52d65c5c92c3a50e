"""Networks by chance: tables of right and wrong samples."""

import numpy as np

from nas_relucode.ranking.accuracies import Accuracies


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
