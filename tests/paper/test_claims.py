"""The paper's claims on tables with a known answer, and their statistics against scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nas_relucode import InputError
from nas_relucode.paper.claims import compare_curves
from nas_relucode.paper.depth_claims import separability_claim

SEEDS = 6


def curves(accuracy=(0.9, 0.9), cells=(100, 300), epochs=(0, 1, 2, 4), layers=("FC-0", "joint"), shape=None):
    """Two learning rates with ``cells`` cells each, times ``shape`` (epochs,) for each rate; a little noise by seed."""
    rng = np.random.default_rng(0)
    shape = shape or [np.ones(len(epochs))] * 2
    rows = []
    for which, rate in enumerate((0.01, 0.1)):
        for seed in range(SEEDS):
            final = accuracy[which] + rng.normal(0, 0.002)
            for layer in layers:
                for epoch, factor in zip(epochs, shape[which], strict=True):
                    count = cells[which] * factor + rng.normal(0, 10)
                    row = {"label": f"8 @ {rate}", "head": "8", "learning_rate": rate, "seed": seed, "epoch": epoch}
                    row |= {"layer": layer, "accuracy": final if epoch == epochs[-1] else 0.1, "train_accuracy": final}
                    rows.append(row | {"loss": 0.1, "cell_count": count, "correct_cell_count": count / 2})
    return pd.DataFrame(rows)


def values(frame, rate, **where):
    for name, value in where.items():
        frame = frame[frame[name] == value]
    return frame[frame["learning_rate"] == rate].sort_values("seed")


def test_differences_are_scipys_on_the_values_of_each_seed():
    frame = curves()
    comparison = compare_curves(frame.sample(frac=1, random_state=0))  # in any order of the rows
    a, b = (values(frame, rate, layer="joint", epoch=4)["accuracy"] for rate in (0.01, 0.1))
    assert comparison.accuracy.p == pytest.approx(stats.ttest_rel(b, a).pvalue)
    for layer in ("FC-0", "joint"):
        layer_rows = comparison.frame.query("layer == @layer and measure == 'cell_count' and over == 'epoch'")
        assert list(layer_rows["epoch"]) == [0, 1, 2, 4]
        for row in layer_rows.itertuples():
            a, b = (values(frame, rate, layer=layer, epoch=row.epoch)["cell_count"] for rate in (0.01, 0.1))
            expected = stats.ttest_rel(b, a)
            assert (row.difference, row.p) == pytest.approx((np.mean(b) - np.mean(a), expected.pvalue))
            assert (row.low, row.high) == pytest.approx(tuple(expected.confidence_interval()))
            assert row.p <= row.p_holm <= 1
            assert row.seeds == SEEDS


def test_all_epochs_means_the_area_between_the_curves_also_for_uneven_epochs():
    frame = curves()
    whole = compare_curves(frame).counts["joint", "cell_count"]
    areas = []
    for seed in range(SEEDS):
        a, b = (values(frame, rate, layer="joint", seed=seed)["cell_count"].to_numpy() for rate in (0.01, 0.1))
        d = b - a
        areas.append(((d[0] + d[1]) / 2 + (d[1] + d[2]) / 2 + 2 * (d[2] + d[3]) / 2) / 4)
    assert whole.mean == pytest.approx(np.mean(areas))
    assert whole.p == pytest.approx(stats.ttest_1samp(areas, 0).pvalue)


def test_the_claim_holds_if_accuracies_are_equal_and_cells_differ():
    comparison = compare_curves(curves())
    assert comparison.holds
    assert comparison.equal
    assert comparison.equivalent
    assert comparison.learning_rates == (0.01, 0.1)
    assert comparison.differing_epochs("joint", "cell_count") == [0, 1, 2, 4]
    sentences = comparison.sentences()
    assert "holds (joint code space, 6 seeds" in sentences[0]
    assert "No significant difference" in sentences[1]
    assert "is shown" in sentences[1]
    assert len(sentences) == 2 + 4


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"accuracy": (0.90, 0.92)}, "does not hold: the accuracies differ"),
        ({"cells": (200, 200)}, "does not hold: the cells over the epochs do not differ significantly"),
        (
            {"cells": (200, 200), "shape": [np.array([1, 2, 1, 1]), np.array([3, 1, 1, 1])]},
            "holds at single epochs only",
        ),
    ],
)
def test_otherwise_it_does_not_hold_and_the_verdict_says_why(changes, verdict):
    comparison = compare_curves(curves(**changes))
    assert comparison.verdict == verdict
    assert not comparison.holds
    assert verdict in comparison.sentences()[0]


def test_few_scattered_seeds_neither_differ_nor_are_shown_to_be_equal():
    frame = curves()
    frame["accuracy"] += 0.05 * (frame["seed"] % 2) * (frame["learning_rate"] == 0.1)
    few = frame[frame["seed"] < 3]
    comparison = compare_curves(few)
    assert comparison.equal
    assert not comparison.equivalent
    assert not comparison.holds
    half = (
        "is half shown: the cells differ{} and the accuracies do not significantly, but that they are equal within "
        "0.01 is not shown"
    )
    assert comparison.verdict == half.format("")
    assert f"while the occupied cells over the epochs do, {comparison.verdict} (joint" in comparison.sentences()[0]
    assert "is not shown" in comparison.sentences()[1]
    assert compare_curves(few, margin=0.5).holds
    crossing = curves(cells=(200, 200), shape=[np.array([1, 2, 1, 1]), np.array([3, 1, 1, 1])])
    crossing["accuracy"] = frame["accuracy"]
    assert compare_curves(crossing).verdict == half.format(" at single epochs only")


def test_nothing_is_tested_where_the_seeds_do_not_vary():
    frame = curves()
    frame["cell_count"] = frame["cell_count"].where(frame["epoch"] > 0, 7.0)  # the same weights at epoch 0
    comparison = compare_curves(frame)
    assert comparison.holds
    start = comparison.frame.query("epoch == 0 and measure == 'cell_count'")
    assert start[["low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert 0 not in comparison.differing_epochs("joint", "cell_count")
    for column, values, verdict in (
        ("accuracy", (0.9, 0.9), "is not tested: the accuracies do not vary over the seeds"),
        ("accuracy", (0.8, 0.9), "is not tested: the accuracies do not vary over the seeds"),
        ("cell_count", (100, 300), "is not tested: the difference of the cells does not vary over the seeds"),
    ):
        flat = frame.assign(**{column: np.where(frame["learning_rate"] == 0.01, *values)})
        comparison = compare_curves(flat)
        assert comparison.verdict == verdict
        assert not comparison.holds
        sentences = comparison.sentences()
        assert verdict in sentences[0]
        assert "the same for all 6 seeds, so that nothing is tested" in sentences[1 if column == "accuracy" else 4]
        assert not any("p = nan" in sentence or "p = 0:" in sentence for sentence in sentences)


def test_seeds_of_only_one_learning_rate_are_left_out_and_named():
    frame = curves()
    comparison = compare_curves(frame[(frame["seed"] != 5) | (frame["learning_rate"] == 0.1)])
    assert comparison.left_out == (5,)
    assert comparison.accuracy.seeds == 5
    assert "left out: 5" in comparison.sentences()[-1]


def test_two_of_several_learning_rates_are_selected_and_autoencoders_have_only_occupied_cells():
    frame = pd.concat([curves(), curves().assign(learning_rate=lambda f: f["learning_rate"] * 100)])
    frame["correct_cell_count"] = np.nan
    comparison = compare_curves(frame, learning_rates=(10.0, 0.01))
    assert comparison.learning_rates == (0.01, 10.0)
    assert set(comparison.counts) == {("FC-0", "cell_count"), ("joint", "cell_count")}
    with pytest.raises(InputError, match=r"learning rates \[0\.01, 0\.1, 1\.0, 10\.0\]"):
        compare_curves(frame)


def test_without_the_joint_code_space_every_layer_decides():
    frame = curves(layers=("FC-0", "FC-1"))
    assert compare_curves(frame).holds
    assert "(every layer, 6 seeds" in compare_curves(frame).sentences()[0]
    frame.loc[frame["layer"] == "FC-1", ["cell_count", "correct_cell_count"]] = 1.0
    assert not compare_curves(frame).holds


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[f["seed"] == 0], "seeds"),
        (lambda f: f[(f["seed"] != 2) | (f["epoch"] != 4)], "seed 2 at learning rate 0.01 lacks"),
        (lambda f: pd.concat([f, f]), "twice"),
        (lambda f: f.drop(columns="head"), "lacks the columns head"),
        (lambda f: f[:0], "no rows"),
        (lambda f: f.assign(head=f["seed"].astype(str)), "heads"),
    ],
)
def test_curves_that_cannot_be_paired_are_refused(spoil, message):
    with pytest.raises(InputError, match=message):
        compare_curves(spoil(curves()))


def separability(values, *, label="a", samples=10_000):
    """``values``: epoch -> the measures of the layers, both the same."""
    return pd.DataFrame(
        {"label": label, "layer": f"FC-{depth}", "depth": depth + 1, "epoch": epoch, "knn_accuracy": value}
        | {"class_silhouette": value, "cells": 50, "samples": samples}
        for epoch, layers in values.items()
        for depth, value in enumerate(layers)
    )


FALLS = {1: [0.90, 0.85, 0.80], 10: [0.95, 0.85, 0.70]}
BOTH = {"knn_accuracy", "class_silhouette"}


def test_separability_falls_where_the_deepest_layer_has_the_smaller_value_and_the_effect_grows():
    claim = separability_claim(separability(FALLS), expect="falls")
    assert claim.holds == claim.grows == dict.fromkeys(BOTH, True)
    row = claim.frame.iloc[0]
    assert (row["first"], row["last"], row["effect"], row["early_effect"]) == pytest.approx((0.95, 0.7, -0.25, -0.1))
    assert row["every_step"]
    assert "falls from 0.950 (FC-0) to 0.700 (FC-2) at every step" in claim.sentences[1]
    other = separability_claim(separability(FALLS), expect="rises")
    assert other.holds == other.grows == dict.fromkeys(BOTH, False)


def test_it_rises_with_the_values_reversed_in_any_order_of_the_rows():
    rising = {epoch: [1 - value for value in values] for epoch, values in FALLS.items()}
    claim = separability_claim(separability(rising).sample(frac=1, random_state=1), expect="rises")
    assert claim.holds == claim.grows == dict.fromkeys(BOTH, True)


def test_a_rise_on_the_way_down_is_not_every_step():
    claim = separability_claim(separability({1: [0.9, 0.95, 0.7]}))
    assert claim.holds["knn_accuracy"]
    assert not claim.frame["every_step"].any()
    assert "as a whole" in claim.sentences[1]
    assert "one epoch" in claim.sentences[1]
    assert claim.grows == dict.fromkeys(BOTH)
    assert "the effect grows with training is not defined by" in claim.sentences[0]


def test_a_difference_of_the_vote_within_its_noise_is_no_effect():
    """With 100 samples, 0.9 has a standard error of 0.03."""
    near = separability({1: [0.90, 0.88]}, samples=100)
    claim = separability_claim(near)
    assert claim.holds == {"knn_accuracy": False, "class_silhouette": True}
    assert "within its noise" in claim.sentences[1]
    assert "one seed; two standard errors, those of the 100 samples: 0.088" in claim.sentences[1]
    assert separability_claim(near.assign(samples=10_000)).holds["knn_accuracy"]


def test_an_effect_grows_only_where_it_holds():
    """From 0.2 against the claim to 0.1 against it, and to no effect."""
    for last in ([0.70, 0.80], [0.80, 0.80]):
        claim = separability_claim(separability({1: [0.70, 0.90], 10: last}))
        assert claim.holds == claim.grows == dict.fromkeys(BOTH, False)


def test_a_change_of_the_vote_within_its_noise_is_no_growth():
    """The change is a difference of four shares: with 1000 samples its error is about 0.025."""
    shares = {1: [0.90, 0.60], 10: [0.92, 0.58]}
    claim = separability_claim(separability(shares, samples=1000))
    assert claim.holds == dict.fromkeys(BOTH, True)
    assert claim.grows == {"knn_accuracy": False, "class_silhouette": True}
    error = np.sqrt(sum(share * (1 - share) for of in shares.values() for share in of) / 1000)
    row = claim.frame.iloc[0]
    assert (row["change"], row["change_noise"]) == pytest.approx((-0.04, 2 * error))
    assert separability_claim(separability(shares, samples=10_000)).grows["knn_accuracy"]


def test_the_joint_code_space_is_left_out_and_every_label_must_agree():
    frame = separability(FALLS)
    joint = frame[frame["depth"] == 1].assign(layer="joint", depth=np.nan, knn_accuracy=1.0)
    assert separability_claim(pd.concat([frame, joint])).frame.equals(separability_claim(frame).frame)
    rising = separability({1: [0.5, 0.6], 10: [0.5, 0.7]}, label="b")
    claim = separability_claim(pd.concat([frame, rising]))
    assert not any(claim.holds.values())
    assert list(claim.frame["holds"]) == [True, True, False, False]


def seeds_of(*shares):
    return pd.concat([separability(of).assign(seed=seed) for seed, of in enumerate(shares)])


def test_several_seeds_are_averaged_and_tested_in_pairs():
    shares = [{1: [0.8, 0.7], 9: [0.8, 0.6]}, {1: [0.9, 0.7], 9: [1.0, 0.7]}, {1: [0.9, 0.8], 9: [0.9, 0.65]}]
    frame = seeds_of(*shares)
    claim = separability_claim(frame)
    first, last = (np.array([of[9][place] for of in shares]) for place in (0, 1))
    expected = stats.ttest_rel(last, first).confidence_interval()
    row = claim.frame.iloc[0]
    assert (row["first"], row["last"], row["seeds"]) == pytest.approx((first.mean(), last.mean(), 3))
    assert row["effect"] + row["noise"] * np.array([-1, 1]) == pytest.approx(np.array(expected))
    assert claim.holds == dict.fromkeys(BOTH, True)
    early = np.array([of[1][1] - of[1][0] for of in shares])
    assert (stats.ttest_rel(last - first, early).pvalue < 0.05) == claim.grows["knn_accuracy"]
    assert row["change_noise"] == pytest.approx(np.ptp(stats.ttest_rel(last - first, early).confidence_interval()) / 2)
    assert f"3 seeds, 95 % interval of the effect {expected.low:+.3f} to {expected.high:+.3f}" in claim.sentences[1]
    assert claim.frame.equals(separability_claim(frame.assign(samples=10)).frame)  # not the error of the samples


def test_seeds_of_both_signs_or_of_no_spread_show_no_effect():
    scattered = separability_claim(seeds_of({1: [0.9, 0.5]}, {1: [0.6, 0.7]}, {1: [0.9, 0.7]}))
    assert scattered.frame["effect"].tolist() == pytest.approx([-0.5 / 3] * 2)
    assert scattered.holds == dict.fromkeys(BOTH, False)
    same = separability_claim(seeds_of(FALLS, FALLS))
    assert same.holds == same.grows == dict.fromkeys(BOTH, False)
    assert "the same for all 2 seeds, so that nothing is tested" in same.sentences[1]


def test_with_one_layer_the_effect_of_depth_is_not_defined():
    with pytest.raises(InputError, match="two layers"):
        separability_claim(separability({1: [0.5]}))
    claim = separability_claim(pd.concat([separability({1: [0.5]}), separability(FALLS, label="b")]))
    assert "a: there is one layer" in claim.sentences[1]
    assert claim.holds["knn_accuracy"]


def test_an_undefined_measure_neither_holds_nor_fails():
    undefined = separability(FALLS, label="u").assign(class_silhouette=np.nan)
    claim = separability_claim(undefined)
    assert claim.holds == claim.grows == {"knn_accuracy": True, "class_silhouette": None}
    assert "is not defined by the silhouette of the classes" in claim.sentences[0]
    assert "does not hold" not in claim.sentences[0]
    assert any("not defined at epoch 10" in sentence for sentence in claim.sentences)
    both = separability_claim(pd.concat([undefined, separability(FALLS)]))
    assert both.holds == {"knn_accuracy": True, "class_silhouette": None}
    rising = separability({1: [0.5, 0.6], 10: [0.5, 0.7]}, label="b")
    assert separability_claim(pd.concat([undefined, rising])).holds == dict.fromkeys(BOTH, False)


def test_growth_is_not_defined_where_the_first_epoch_is_not():
    frame = separability(FALLS)
    frame.loc[frame["epoch"] == 1, "class_silhouette"] = np.nan
    claim = separability_claim(frame)
    assert claim.holds == dict.fromkeys(BOTH, True)
    assert claim.grows == {"knn_accuracy": True, "class_silhouette": None}
    assert "it was not defined at epoch 1" in claim.sentences[2]


def test_an_unknown_expectation_is_refused():
    with pytest.raises(InputError, match="expectation 'sinks'"):
        separability_claim(separability(FALLS), expect="sinks")
