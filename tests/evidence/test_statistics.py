"""Statistics of evidence against answers worked out by hand, by simulation and by other tools."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nas_relucode.errors import InputError
from nas_relucode.evidence.examining import ACCURACY, Networks, Pair, direct_gain, examine, with_correlations
from nas_relucode.evidence.families import FAMILIES
from nas_relucode.evidence.judging import Body, Choice, choices, chosen_by_chance, comparable_pairs, judged
from nas_relucode.evidence.measuring import BASELINES, Measured
from nas_relucode.evidence.statistics import (
    adjusted_p,
    bands_of,
    captured_gain,
    correlation_intervals,
    gain_interval,
    named_bands,
    residual_ranks,
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
    left = residual_ranks(np.stack([a, b], axis=1), [c])
    assert left[:, 0] @ left[:, 1] == pytest.approx(expected)


def test_intervals_of_correlations_are_those_of_other_tools_on_the_same_draws() -> None:
    rng = np.random.default_rng(7)
    shape = (3, 20)
    band = (rng.normal(size=(20, 2)).round(1), rng.normal(size=(20, 3)).round(1), [*rng.normal(size=shape)])
    tau, partial, given_all = correlation_intervals([band], draws=50, seed=8)
    generator, expected = np.random.default_rng(8), []
    for rows in generator.integers(20, size=(50, 20)):
        index, quality, controls = band[0][rows, 1], band[1][rows, 2], [control[rows] for control in band[2]]
        columns = np.stack([index, quality], axis=1)
        left = [residual_ranks(columns, given) for given in (controls[:1], controls)]
        expected.append([stats.kendalltau(index, quality).statistic, *(each[:, 0] @ each[:, 1] for each in left)])
    for interval, own in zip((tau, partial, given_all), np.transpose(expected), strict=True):
        assert interval[:, 1, 2] == pytest.approx(np.quantile(own, [0.025, 0.975]))


def test_the_interval_of_a_correlation_holds_the_true_one_as_often_as_it_says() -> None:
    rng = np.random.default_rng(9)
    true = 2 / np.pi * np.arcsin(0.5)  # Kendall's tau of a normal pair with correlation 0.5
    hits = 0
    for _ in range(100):
        x = rng.normal(size=(40, 1))
        y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=(40, 1))
        (low,), (high,) = correlation_intervals([(x, y, [])], draws=200)[0][:, 0]
        hits += low <= true <= high
    assert hits >= 86  # 95 expected of an exact interval; a percentile bootstrap of 40 networks covers a little less


def test_correlations_turn_with_the_direction_of_the_index() -> None:
    networks = family()
    up, down = (
        with_correlations([Pair.of(networks, "good", "noise_accuracy", sign)], networks, draws=50).iloc[0]
        for sign in (1, -1)
    )
    for name in ("tau_b", "partial", "partial_all_controls"):
        assert up[name] == -down[name] > 0
        assert (up[f"{name}_low"], up[f"{name}_high"]) == (-down[f"{name}_high"], -down[f"{name}_low"])
        assert up[f"{name}_low"] <= up[name] <= up[f"{name}_high"]
    assert up["worst_partial"] <= up["partial"]
    assert down["worst_partial"] <= down["partial"]


def test_undefined_networks_are_the_last_choice_and_in_the_middle_of_correlations() -> None:
    networks = family(20)
    rows = networks.strata["1"]
    networks.table.loc[rows[2], "good"] = np.nan
    undefined = 2
    assert networks.values("good", rows, -1).argmin() == networks.values("good", rows, 1).argmin() == undefined
    middle = networks.middling(["good"], rows)[undefined, 0]
    assert middle == np.nanmedian(networks.table["good"].iloc[rows])


def test_permuted_indices_keep_their_values_in_each_stratum_and_nothing_else_changes() -> None:
    networks = family()
    permuted = networks.permuted(np.random.default_rng(10))
    for rows in networks.strata.values():
        assert sorted(permuted.table["good"].iloc[rows]) == sorted(networks.table["good"].iloc[rows])
    assert not permuted.table["good"].equals(networks.table["good"])
    assert permuted.table["noise_accuracy"].equals(networks.table["noise_accuracy"])
    assert permuted.table["parameters"].equals(networks.table["parameters"])


def test_the_choice_falls_on_the_index_that_captures_most_and_chance_passes_seldom() -> None:
    development, held_out = family(seed=11), family(seed=12)
    chosen = choices(development)["noise_accuracy"]
    assert (chosen.column, chosen.sign) in {("good", 1), ("bad", -1)}
    assert chosen.on(held_out).gain > 0.5
    chance = chosen_by_chance(development, held_out, times=40)
    assert chance.loc["noise_accuracy", "passed"] <= 0.15


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

    def on(rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        return np.asarray(samples[np.ix_(rows, drawn)].mean(axis=1))

    assert direct_gain(networks, "noise_accuracy", 50, on, 50, draws=3) == pytest.approx(1)
    assert direct_gain(networks, "noise_accuracy", 2, on, 50) < 0.9


def made_body() -> Body:
    """The family on MNIST with made-up measurements: noise accuracy goes with the index `good`."""
    rng = np.random.default_rng(13)
    family, measured = FAMILIES["mnist"], {}
    for number in range(family.candidates):
        chances = rng.uniform(0.2, 0.8)
        measured[number] = []
        for _ in family.seeds:
            samples = (rng.random((1, 300)) < chances).astype(np.float32)
            numbers = {name: float(rng.normal()) for name in BASELINES}
            numbers |= {ACCURACY: 0.8 + 0.001 * number, "test_accuracy": rng.random(), "good": chances}
            numbers |= {"noise_accuracy": float(samples.mean()), "none": rng.normal()}
            measured[number].append(Measured(numbers, {"noise_accuracy": samples}))
    table = pd.DataFrame(
        [pd.DataFrame([seed.numbers for seed in seeds]).mean() for seeds in measured.values()], index=list(measured)
    )
    networks = Networks(
        table,
        ("good", "none"),
        BASELINES,
        {"noise_accuracy": "maximize"},
        named_bands(table[ACCURACY].to_numpy()),
        {"good": 1.0, "none": 1.0, "noise_accuracy": 4.0},
    )
    return Body(family, networks, measured, 0)


def test_an_index_that_goes_with_a_quality_is_chosen_on_one_half_and_passes_on_the_other() -> None:
    body = made_body()
    development, held_out = body.halves
    rows = [set(np.concatenate(list(half.strata.values()))) for half in body.halves]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == set(np.concatenate(list(body.networks.strata.values())))
    chosen = choices(development)
    assert (chosen["noise_accuracy"].column, chosen["noise_accuracy"].sign) == ("good", 1)
    (row,) = judged(chosen, development, body, held_out).to_dict("records")
    assert row["gain"] == pytest.approx(chosen["noise_accuracy"].on(held_out).gain)
    assert row["cost"] == 0.25
    assert row["gain"] > 0.5
    # On a quarter of the samples the quality is known up to a spread of 0.04 among chances from 0.2 to 0.8.
    assert 0.5 < row["direct_gain"] <= 1
    assert row["baseline_gain"] == max(row["direct_gain"], row["baseline_gain"])
    assert row["evidence"] == (row["gain"] > row["baseline_gain"])


def test_nothing_chosen_is_nothing_judged() -> None:
    body = made_body()
    assert judged({}, *body.halves[:1], body, body.halves[1]).empty


def test_pairs_that_differ_in_one_parameter_are_counted_by_hand() -> None:
    designs = [
        {"head": "16", "learning_rate": 0.010, "epochs": 5},
        {"head": "32", "learning_rate": 0.014, "epochs": 6},  # the head alone differs from 0
        {"head": "16", "learning_rate": 0.100, "epochs": 5},  # the learning rate alone differs from 0
        {"head": "32", "learning_rate": 0.100, "epochs": 9},  # two differ from every other
    ]
    table = pd.DataFrame({ACCURACY: [0.9] * 4, "noise_accuracy": [1.0, 2.0, 3.0, 4.0], "index": [1.0, 0.0, 2.0, 3.0]})
    networks = Networks(table, ("index",), (), {"noise_accuracy": "maximize"}, {"all": np.arange(4)})
    assert comparable_pairs(designs, networks, Choice("noise_accuracy", "index", 1, 0.0)) == (2, 1)
    assert comparable_pairs(designs, networks, Choice("noise_accuracy", "index", -1, 0.0)) == (2, 1)


def test_finalists_of_a_body_are_within_one_standard_error_of_the_best() -> None:
    body = made_body()
    best = body.networks.table[ACCURACY].max()
    error = np.sqrt(best * (1 - best) / body.family.validated)
    within = np.flatnonzero(body.networks.table[ACCURACY] > best - 0.9 * error)
    assert set(within) <= set(body.finalists) <= set(np.flatnonzero(body.networks.table[ACCURACY] > best - 1.2 * error))


def test_networks_without_a_quality_are_refused() -> None:
    networks = family(20)
    with pytest.raises(InputError, match="no quality"):
        Networks(networks.table, networks.indices, networks.baselines, {}, networks.strata)


def test_a_direction_that_is_given_is_kept_even_if_it_is_wrong_here() -> None:
    pair = Pair.of(family(), "good", "noise_accuracy", -1)
    assert pair.row(draws=50)["direction"] == "minimize"
    assert pair.gain < 0
