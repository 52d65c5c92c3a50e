"""Orders within a tie: each way against its definition, and how often it stays when seeds are resampled."""

import itertools
import math

import moocore
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode.errors import InputError
from nas_relucode.ranking.criteria import HOW, check_way, check_weights, read_criteria
from nas_relucode.ranking.order import costs, hypervolume, places, silent_reasons, sort_keys, stays_ahead

WAYS = [*((how, "ranks") for how in HOW), ("weighted", "standardised")]
few = st.integers(0, 3).map(float)
tables = st.integers(1, 3).flatmap(
    lambda indices: st.lists(st.lists(few, min_size=indices, max_size=indices), min_size=1, max_size=8)
)


def test_the_direction_is_the_written_one_then_the_studys_then_that_of_the_index():
    objectives = {"accuracy": "maximize", "cell_count": "maximize"}
    names = ["cell_count", "cell_purity", "-edge_count", ("varying_neurons", "maximize"), "parameters", "+seconds"]
    assert read_criteria(names, objectives) == {
        "cell_count": "maximize",
        "cell_purity": "maximize",
        "edge_count": "minimize",
        "varying_neurons": "maximize",
        "parameters": "minimize",
        "seconds": "maximize",
    }
    assert read_criteria(["head.1:cell_count"], objectives) == {"head.1:cell_count": "minimize"}
    assert read_criteria(["-cell_count"], objectives) == {"cell_count": "minimize"}
    assert read_criteria([], objectives) == {}


@pytest.mark.parametrize("name", ["cells", "", "head.1:", "head.1:parameter_count", "--cell_count", ":cell_count"])
def test_an_unknown_index_is_answered_with_the_known_ones(name):
    with pytest.raises(InputError, match=r"unknown index .*Known: cell_count"):
        read_criteria([name], {})


def test_an_index_without_a_direction_asks_for_one():
    with pytest.raises(InputError, match=r"edge_count has no direction .*'-edge_count' .*'\+edge_count'"):
        read_criteria(["edge_count"], {})
    with pytest.raises(InputError, match="unknown direction 'down'"):
        read_criteria([("edge_count", "down")], {})


def test_names_are_a_list_without_repeats_or_a_single_name():
    assert read_criteria("parameters", {}) == read_criteria(["parameters"], {})
    with pytest.raises(InputError, match="Give a list"):
        read_criteria(3, {})
    with pytest.raises(InputError, match="cell_count is given twice"):
        read_criteria(["cell_count", "-cell_count"], {})


@pytest.mark.parametrize(
    ("how", "weights", "scale", "message"),
    [
        ("best", None, "ranks", "unknown value 'best' for how"),
        ("weighted", None, "percent", "unknown scale 'percent'"),
        ("pareto", {"a": 1}, "ranks", "weights have no meaning"),
        ("weighted", {"c": 1}, "ranks", "unknown weight 'c'"),
        ("weighted", {"a": -1}, "ranks", "out of range"),
        ("weighted", {"a": math.nan}, "ranks", "not a number"),
        ("weighted", {"a": 0, "b": 0}, "ranks", "all weights are 0"),
    ],
)
def test_an_invalid_order_is_refused(how, weights, scale, message):
    def check():
        check_way(how, weights, scale)
        check_weights(weights, ["a", "b"])

    with pytest.raises(InputError, match=message):
        check()


def test_silent_columns_are_named_with_the_reason():
    values = pd.DataFrame(
        {
            "good": [1.0, 2.0],
            "constant": [3.0, 3.0],
            "some": [1.0, math.nan],
            "endless": [1.0, math.inf],
            "missing": [math.nan, math.nan],
            "saturated": [7.0, 8.0],
        }
    )
    assert silent_reasons(values, ["saturated", "elsewhere"]) == {
        "constant": "constant, 3",
        "some": "undefined for some",
        "endless": "undefined for some",
        "missing": "undefined or not measured",
        "saturated": "saturated for all",
    }
    assert silent_reasons(values[:0]) == {}


def test_costs_are_minimised():
    values = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 0.0]})
    signed = costs(values, {"b": "maximize", "a": "minimize"})
    assert signed.tolist() == [[-3, 1], [0, 2]]
    assert not np.signbit(signed[1, 0])


@given(tables)
def test_lexicographic_keys_order_as_tuples_do(rows):
    keys = sort_keys(np.array(rows), how="lexicographic")
    for (a, one), (b, other) in itertools.product(zip(keys, map(tuple, rows), strict=True), repeat=2):
        assert (a < b) == (one < other)
        assert (a == b) == (one == other)


@given(tables)
def test_pareto_keys_are_the_longest_chains_of_dominance(rows):
    def dominates(one, other):
        return all(a <= b for a, b in zip(one, other, strict=True)) and one != other

    def depth(row):
        return 1 + max((depth(other) for other in rows if dominates(other, row)), default=-1)

    assert sort_keys(np.array(rows)).tolist() == [depth(row) for row in rows]


@given(tables, st.data())
def test_weighted_ranks_are_those_counted_by_hand(rows, data):
    weights = data.draw(st.lists(st.integers(1, 5), min_size=len(rows[0]), max_size=len(rows[0])))
    keys = sort_keys(np.array(rows), how="weighted", weights=weights)
    if len(rows) == 1:
        assert keys.tolist() == [0]
        return
    for key, row in zip(keys, rows, strict=True):
        ahead = [
            sum((other[i] < row[i]) + (other[i] == row[i]) / 2 for other in rows) - 0.5 for i in range(len(row))
        ]  # how many are ahead, equal ones by half
        expected = sum(w * a for w, a in zip(weights, ahead, strict=True)) / sum(weights) / (len(rows) - 1)
        assert key == pytest.approx(expected, abs=1e-12)


def test_equal_weighted_ranks_are_equal_numbers():
    table = np.array([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0], [3.0, 0.0]])
    assert len(set(sort_keys(table, how="weighted"))) == 1


def test_standardised_values_see_how_far_apart_networks_are():
    table = np.array([[0.0, 1.0], [1.0, 0.0], [9.0, 0.5]])
    z = (table - table.mean(axis=0)) / table.std(axis=0)
    keys = sort_keys(table, how="weighted", weights=[2, 1], scale="standardised")
    assert keys == pytest.approx((z @ [2, 1]) / 3)
    constant = sort_keys(np.array([[1.0, 5.0], [2.0, 5.0]]), how="weighted", scale="standardised")
    assert np.isfinite(constant).all()


@given(tables, st.sampled_from(WAYS), st.data())
def test_keys_do_not_depend_on_the_order_of_the_networks(rows, way, data):
    how, scale = way
    order = data.draw(st.permutations(range(len(rows))))
    table = np.array(rows)
    keys, keys_of_permuted = (sort_keys(part, how=how, scale=scale) for part in (table, table[order]))
    assert keys[order].tolist() == keys_of_permuted.tolist()


@pytest.mark.parametrize("way", WAYS)
def test_swapping_the_sign_of_an_index_reverses_the_order(way):
    how, scale = way
    table = np.array([[30.0], [10.0], [40.0], [20.0]])
    one, other = (np.argsort(sort_keys(t, how=how, scale=scale)).tolist() for t in (table, -table))
    assert one == other[::-1] == [1, 3, 0, 2]


@given(tables, st.sampled_from(WAYS))
def test_a_dominating_network_is_ahead(rows, way):
    how, scale = way
    keys = sort_keys(np.array(rows), how=how, scale=scale)
    for i, j in itertools.permutations(range(len(rows)), 2):
        if all(a <= b for a, b in zip(rows[i], rows[j], strict=True)) and rows[i] != rows[j]:
            assert keys[i] < keys[j]


@given(st.lists(st.tuples(few, few, few), min_size=1, max_size=8))
def test_places_fall_back_to_accuracy_then_size_then_the_trials_number(rows):
    key, accuracy, parameters = np.array(rows).T
    place, rank = places(key, accuracy, parameters, np.arange(len(rows))[::-1])
    tuples = [(k, -a, p) for k, a, p in rows]
    expected = sorted(range(len(rows)), key=lambda i: (*tuples[i], -i))
    assert np.argsort(place).tolist() == expected
    assert rank.tolist() == [1 + sum(other < row for other in tuples) for row in tuples]


def test_the_hypervolume_is_the_area_under_the_front():
    table = np.array([[0.0, 10.0], [5.0, 5.0], [10.0, 0.0], [10.0, 10.0]])  # scaled: (0, 1), (.5, .5), (1, 0), (1, 1)
    volume, alone = hypervolume(table)
    area = 1.1 * 0.1 + 0.6 * 0.5 + 0.1 * 0.5
    assert volume == pytest.approx(area / 1.21)
    assert alone == pytest.approx(np.array([0.5 * 0.1, 0.5 * 0.5, 0.1 * 0.5, 0]) / 1.21)


def test_the_hypervolume_of_one_index_is_how_far_the_best_is_ahead():
    volume, alone = hypervolume(np.array([[10.0], [0.0], [4.0]]))
    assert volume == pytest.approx(1)
    assert alone == pytest.approx([0, 0.4 / 1.1, 0])
    assert hypervolume(np.array([[1.0], [1.0]]))[1].tolist() == [0, 0]
    assert hypervolume(np.array([[7.0, 8.0]]))[0] == pytest.approx(1)


def counted_volume(points):
    """The volume that points dominate up to 1.1, box by box of the grid through them."""
    total = 0.0
    for box in itertools.product(*(itertools.pairwise(sorted({*column, 1.1})) for column in zip(*points, strict=True))):
        if any(all(value <= low for value, (low, _) in zip(point, box, strict=True)) for point in points):
            total += math.prod(high - low for low, high in box)
    return total


@given(tables)
def test_a_contribution_is_the_hypervolume_with_the_network_less_that_without_it(rows):
    lows, highs = zip(*((min(column), max(column)) for column in zip(*rows, strict=True)), strict=True)
    points = [[(v - low) / ((high - low) or 1) for v, low, high in zip(row, lows, highs, strict=True)] for row in rows]
    volume, contributions = hypervolume(np.array(rows))
    whole, space = counted_volume(points), 1.1 ** len(lows)
    assert volume == pytest.approx(whole / space)
    for i, contribution in enumerate(contributions):
        remaining = points[:i] + points[i + 1 :]
        assert contribution == pytest.approx((whole - counted_volume(remaining)) / space, abs=1e-12)
        others = rows[:i] + rows[i + 1 :]
        if any(all(a <= b for a, b in zip(other, rows[i], strict=True)) for other in others):
            assert contribution == 0


@pytest.mark.parametrize("indices", [2, 3, 4])
def test_contributions_are_those_of_moocore_where_it_computes_them(indices):
    table = np.random.default_rng(indices).random((40, indices))
    points = (table - table.min(axis=0)) / np.ptp(table, axis=0)
    expected = moocore.hv_contributions(points, [1.1] * indices, ignore_dominated=False)
    assert hypervolume(table)[1] == pytest.approx(expected / 1.1**indices, abs=1e-12)


def test_without_indices_there_is_no_hypervolume():
    volume, alone = hypervolume(np.empty((2, 0)))
    assert math.isnan(volume)
    assert np.isnan(alone).all()


def test_equal_networks_contribute_nothing_to_the_hypervolume():
    assert hypervolume(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))[1][:2].tolist() == [0, 0]


def test_seeds_that_never_overlap_give_a_certain_order():
    trainings = [np.array([[0.9, low + i] for i in range(3)]) for low in (0.0, 10.0)]
    ahead = stays_ahead(trainings, np.array([5.0, 5.0]))
    assert (ahead[0, 1], ahead[1, 0]) == (1, 0)
    assert np.isnan(np.diag(ahead)).all()


@pytest.mark.parametrize("way", WAYS)
def test_how_often_one_stays_ahead_is_what_counting_all_draws_gives(way):
    how, scale = way
    first, second = [1.0, 4.0, 2.0], [2.0, 3.0]
    trainings = [np.array([[0.9, value] for value in values]) for values in (first, second)]
    wins = [
        (np.mean(a) < np.mean(b)) + 0.5 * math.isclose(np.mean(a), np.mean(b))
        for a in itertools.product(first, repeat=3)
        for b in itertools.product(second, repeat=2)
    ]
    ahead = stays_ahead(trainings, np.array([5.0, 5.0]), how=how, scale=scale, resamples=4000)
    assert ahead[0, 1] == pytest.approx(np.mean(wins), abs=0.03)
    assert ahead[0, 1] + ahead[1, 0] == pytest.approx(1)


def test_networks_that_are_equal_in_every_draw_are_ahead_half_the_time():
    same = [np.full((seeds, 2), 0.1) for seeds in (1, 3, 2)]
    ahead = stays_ahead(same, np.array([5.0, 5.0, 5.0]))
    assert ahead[~np.eye(3, dtype=bool)].tolist() == [0.5] * 6


def test_the_stability_of_two_networks_with_one_seed_each_is_unknown():
    trainings = [np.array([[0.9, 1.0]]), np.array([[0.9, 2.0]]), np.array([[0.9, 0.0], [0.9, 3.0]])]
    ahead = stays_ahead(trainings, np.array([5.0, 5.0, 5.0]))
    assert np.isnan(ahead[0, 1])
    assert 0 < ahead[0, 2] < 1


def test_the_draws_are_those_of_their_seed():
    generator = np.random.default_rng(0)
    trainings = [generator.random((3, 3)) for _ in range(4)]
    one, same, other = (stays_ahead(trainings, np.ones(4), resamples=50, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)
