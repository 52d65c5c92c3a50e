"""Statistics of evidence against answers worked out by hand, by simulation and by other tools."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.evidence.examining import ACCURACY, Networks, Pair, direct_gain, examine
from nas_relucode.evidence.statistics import (
    adjusted_p,
    bands_of,
    captured_gain,
    gain_interval,
    partial_spearman,
)


def test_choosing_by_the_quality_itself_captures_all_and_by_its_opposite_less_than_nothing() -> None:
    quality = np.array([0.2, 0.9, 0.4, 0.5])
    assert captured_gain(quality, quality) == 1
    assert captured_gain(-quality, quality) == pytest.approx((0.2 - 0.5) / (0.9 - 0.5))


def test_an_index_that_is_constant_captures_nothing_whatever_the_order_of_the_networks() -> None:
    quality = np.random.default_rng(0).random(30)
    assert captured_gain(np.ones(30), quality) == pytest.approx(0)


def test_partial_correlation_agrees_with_the_formula_for_one_control() -> None:
    a, b, c = np.random.default_rng(1).random((3, 40)) + np.linspace(0, 1, 40)
    ab, ac, bc = (stats.spearmanr(x, y).statistic for x, y in ((a, b), (a, c), (b, c)))
    expected = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    assert partial_spearman(a, b, [c]) == pytest.approx(expected)


def test_bands_leave_out_the_least_accurate_and_hold_every_other_network_once() -> None:
    accuracies = np.random.default_rng(2).random(100)
    bands = bands_of(accuracies)
    assert sorted(np.concatenate(bands)) == sorted(np.argsort(accuracies)[15:])
    assert all(accuracies[low].max() <= accuracies[high].min() for low, high in pairwise(bands))


def test_one_true_index_among_noise_is_found_and_noise_alone_is_not() -> None:
    rng = np.random.default_rng(3)

    def p_of(strength: float) -> np.ndarray:
        bands = []
        for _ in range(3):
            quality = rng.normal(size=(40, 2))
            indices = rng.normal(size=(40, 20))
            indices[:, 0] += strength * quality[:, 0]
            bands.append((indices, quality, [rng.normal(size=40)]))
        return adjusted_p(bands, permutations=200)[1]

    found = p_of(2.0)
    assert found[0, 0] < 0.05
    assert (found[1:] < 0.05).sum() == 0
    false = [p_of(0.0).min() < 0.05 for _ in range(40)]
    assert sum(false) <= 6  # 2 expected; more than 6 with probability 0.003


def test_the_interval_of_the_gain_is_clear_of_nothing_for_a_true_index_and_not_for_noise() -> None:
    rng = np.random.default_rng(4)
    quality = rng.normal(size=(3, 45))
    true = [(own + 0.1 * rng.normal(size=45), own) for own in quality]
    noise = [(rng.normal(size=45), own) for own in quality]
    assert gain_interval(true)[0] > 0.4
    low, high = gain_interval(noise)
    assert low < 0 < high


def family(networks: int = 60, *, seed: int = 5) -> Networks:
    """Networks whose quality goes with the index `good`, against `bad`, and with nothing else."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=networks)
    accuracy = 0.9 + 0.01 * rng.random(networks)
    table = pd.DataFrame(
        {
            ACCURACY: accuracy,
            "noise_accuracy": 0.5 + 0.1 * quality,
            "calibration_error": 0.1 - 0.01 * quality,
            "good": quality + 0.1 * rng.normal(size=networks),
            "bad": -quality + 0.1 * rng.normal(size=networks),
            "none": rng.normal(size=networks),
            "constant": np.ones(networks),
            "undefined": np.where(np.arange(networks) % 5 == 0, np.nan, quality),
            "parameters": rng.normal(size=networks),
        }
    )
    strata = {str(number): rows for number, rows in enumerate(bands_of(accuracy))}
    return Networks(
        table,
        ("good", "bad", "none", "constant", "undefined"),
        ("parameters",),
        {"noise_accuracy": "maximize", "calibration_error": "minimize"},
        strata,
    )


def test_findings_name_the_index_its_direction_and_what_cannot_order_the_networks() -> None:
    findings = examine(family(), draws=100, permutations=100)
    pairs = findings.pairs.set_index(["column", "quality"])
    for quality in ("noise_accuracy", "calibration_error"):
        assert pairs.loc[("good", quality), "direction"] == "maximize"
        assert pairs.loc[("bad", quality), "direction"] == "minimize"
        assert pairs.loc[("good", quality), "p"] < 0.05 < pairs.loc[("none", quality), "p"]
        assert pairs.loc[("good", quality), "gain"] > 0.5
    assert set(findings.left_out) == {"constant", "undefined"}
    assert findings.permuted_p > 0.05


def test_measuring_a_quality_on_all_samples_captures_everything() -> None:
    networks = family(20)
    rng = np.random.default_rng(6)
    samples = rng.random((20, 50))
    networks.table["noise_accuracy"] = samples.mean(axis=1)

    def on(row: int, rows: np.ndarray) -> float:
        return float(samples[row][rows].mean())

    assert direct_gain(networks, "noise_accuracy", 50, on, 50, draws=3) == pytest.approx(1)
    assert direct_gain(networks, "noise_accuracy", 2, on, 50) < 0.9


def test_networks_without_a_quality_are_refused() -> None:
    networks = family(20)
    with pytest.raises(InputError, match="no quality"):
        Networks(networks.table, networks.indices, networks.baselines, {}, networks.strata)


def test_a_direction_that_is_given_is_kept_even_if_it_is_wrong_here() -> None:
    pair = Pair.of(family(), "good", "noise_accuracy", -1)
    assert pair.direction == "minimize"
    assert np.mean(pair.gains) < 0
