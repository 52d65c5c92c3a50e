"""Search spaces: the oracles are itertools, the paper's Table 1 and Optuna's own distributions."""

import itertools
import json
import math
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial
from scipy.stats import kstest

from nas_relucode.errors import InputError
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.search_space import (
    HeadGrid,
    Interval,
    SearchSpace,
    load_search_space,
    own_value,
    parameter_value,
)

SPACE = SearchSpace(heads=("512", "256-256"), learning_rates=(0.1, 0.001))


def space_file(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, "utf-8")
    return str(path)


def test_table1_holds_the_papers_heads_and_learning_rates():
    space = load_search_space("table1")
    heads, rates = ("512", "256-256", "256-128-128"), (0.1, 0.01, 0.001)  # Table 1; Figures 1, 5 and 6
    candidates = space.candidates(seeds=[0])
    assert space.size == len(candidates) == 9
    assert {(*c.params.values(), c.seed) for c in candidates} == set(itertools.product(heads, rates, [0]))


def test_every_network_comes_once_before_any_is_repeated():
    candidates = SPACE.candidates(seeds=[3, 0])
    assert len(candidates) == len(set(candidates)) == 8
    assert [c.seed for c in candidates] == [3] * 4 + [0] * 4
    assert [c.params for c in candidates[:4]] == [c.params for c in candidates[4:]]


def test_a_candidate_names_the_parameters_of_its_trial():
    for candidate in SPACE.candidates(seeds=[0, 1]):
        params = {**candidate.params, "seed": candidate.seed}
        trial = FixedTrial(params)
        assert SPACE.suggest(trial, seeds=[0, 1]) == candidate == Candidate.of_trial(params)
        assert trial.params == params


def test_one_seed_is_not_asked_for():
    trial = FixedTrial({"head": "512", "learning_rate": 0.1})
    assert SPACE.suggest(trial, seeds=[7]) == Candidate({"head": "512", "learning_rate": 0.1}, 7)
    assert SPACE.suggest(trial, seeds=[0, 1], seed=9).seed == 9  # of `reseed`
    assert trial.params == {"head": "512", "learning_rate": 0.1}


def test_a_study_draws_every_candidate_and_no_other():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(100)]
    drawn = {SPACE.suggest(trial, seeds=[0, 1]) for trial in trials}
    assert drawn == set(SPACE.candidates(seeds=[0, 1]))
    assert trials[0].distributions == {
        "head": CategoricalDistribution(("512", "256-256")),
        "learning_rate": CategoricalDistribution((0.1, 0.001)),
        "seed": CategoricalDistribution((0, 1)),
    }


def test_an_enqueued_candidate_is_the_one_suggested():
    study = optuna.create_study()
    for candidate in SPACE.candidates(seeds=[0, 1]):
        study.enqueue_trial({**candidate.params, "seed": candidate.seed})
        assert SPACE.suggest(study.ask(), seeds=[0, 1]) == candidate


def test_an_interval_is_drawn_uniformly_on_a_logarithmic_scale():
    space = SearchSpace(heads=("8",), learning_rates=Interval(1e-4, 1e-1))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(200)]
    rates = [space.suggest(trial, seeds=[0]).params["learning_rate"] for trial in trials]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert kstest([math.log10(rate) for rate in rates], "uniform", (-4, 3)).pvalue > 0.01
    assert trials[0].distributions["learning_rate"] == FloatDistribution(1e-4, 1e-1, log=True)


def test_an_interval_has_no_list_of_candidates():
    space = SearchSpace(heads=("8",), learning_rates=Interval(1e-4, 1e-1))
    assert space.size is None
    with pytest.raises(InputError, match=r"learning_rate.*interval.*trials"):
        space.candidates(seeds=[0])


@given(
    depths=st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
    widths=st.lists(st.integers(1, 512), min_size=1, max_size=4, unique=True),
)
def test_a_head_grid_holds_every_head_once(depths, widths):
    heads = HeadGrid(tuple(depths), tuple(widths)).heads()
    assert len(set(heads)) == len(heads) == sum(len(widths) ** depth for depth in depths)
    layers = [[int(width) for width in head.split("-")] for head in heads]
    assert {len(head) for head in layers} == set(depths)
    assert set(itertools.chain.from_iterable(layers)) == set(widths)


def test_a_file_of_ones_own_may_hold_a_grid_and_an_interval(tmp_path):
    text = "heads = {depths = [1, 2], widths = [8, 16]}\nlearning_rates = {low = 0.001, high = 1}"
    space = load_search_space(space_file(tmp_path, text))
    assert set(space.parameters["head"].choices) == {"8", "16", "8-8", "8-16", "16-8", "16-16"}
    assert space.parameters["learning_rate"] == FloatDistribution(0.001, 1.0, log=True)


# Parameters of any name


FORMS = {
    "channels": ([8, 16], CategoricalDistribution([8, 16])),
    "activation": (["relu", None, True], CategoricalDistribution(["relu", None, True])),
    "depth": ({"low": 1, "high": 4}, IntDistribution(1, 4)),
    "width": ({"low": 8, "high": 64, "log": True}, IntDistribution(8, 64, log=True)),
    "kernel": ({"low": 3, "high": 7, "step": 2}, IntDistribution(3, 7, step=2)),
    "dropout": ({"low": 0, "high": 0.5}, FloatDistribution(0.0, 0.5)),
    "slope": ({"low": 0.0, "high": 0.3, "step": 0.1}, FloatDistribution(0.0, 0.3, step=0.1)),
    "learning_rate": ({"low": 1e-4, "high": 0.1, "log": True}, FloatDistribution(1e-4, 0.1, log=True)),
}


def test_the_values_of_a_parameter_become_optunas_distribution_and_are_written_back():
    space = SearchSpace(parameters={name: values for name, (values, _) in FORMS.items()})
    assert space.parameters == {name: distribution for name, (_, distribution) in FORMS.items()}
    assert SearchSpace(parameters=dict(space.parameters)) == space  # Optuna's own are taken as they are
    again = SearchSpace(**json.loads(json.dumps(space.table())))
    assert again == space
    assert {name: type(d) for name, d in again.parameters.items()} == {name: type(d) for name, (_, d) in FORMS.items()}


def test_a_file_may_hold_any_parameters_and_is_read_as_the_same_space(tmp_path):
    text = "[parameters]\nchannels = [8, 16]\ndepth = {low = 1, high = 4}\ndropout = {low = 0, high = 0.5}\n"
    space = load_search_space(space_file(tmp_path, text))
    assert space.parameters == {name: FORMS[name][1] for name in ("channels", "depth", "dropout")}


def test_a_space_of_whole_numbers_and_steps_is_finite():
    space = SearchSpace(parameters={name: FORMS[name][0] for name in ("channels", "depth", "kernel", "slope")})
    oracle = set(itertools.product([8, 16], [1, 2, 3, 4], [3, 5, 7], [0, 1, 2, 3]))
    drawn = [tuple(candidate.params.values()) for candidate in space.candidates([0])]
    assert len(drawn) == space.size == len(oracle) == 96
    assert {(*rest, round(10 * slope)) for *rest, slope in drawn} == oracle
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert {space.suggest(study.ask(), [0]) for _ in range(30)} <= set(space.candidates([0]))


def test_a_long_grid_is_never_listed_to_read_one_of_its_values():
    many = {"a": {"low": 0, "high": 10**9}, "learning_rate": {"low": 0.001, "high": 1.0, "step": 1e-10}}
    space = SearchSpace(parameters=many).parameters
    assert parameter_value("a", "5", space["a"]) == 5
    assert parameter_value("learning_rate", "0.5", space["learning_rate"]) == 0.5
    with pytest.raises(InputError, match=r"0\.5.*10{9}"):
        parameter_value("a", "0.5", space["a"])


def test_too_large_a_space_needs_trials():
    with pytest.raises(InputError, match=r"1,000,000 networks.*trials"):
        SearchSpace(parameters={"a": {"low": 1, "high": 1_000_000}}).check_countable()


def test_heads_and_rates_are_the_parameters_of_these_names():
    parameters = {"head": ["512", "256-256"], "learning_rate": [0.1, 0.001]}
    assert SearchSpace(parameters=parameters) == SPACE
    with pytest.raises(InputError, match="learning_rate is given twice"):
        SearchSpace(learning_rates=(0.1,), parameters={"learning_rate": [0.1]})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "no parameters"),
        ({"depth": []}, "depth must hold at least one item"),
        ({"depth": [1, 1]}, "depth must hold .* none twice"),
        ({"depth": 3}, "depth is 3. Give a list"),
        ({"depth": {"low": 3}}, "depth: the key 'high' is missing"),
        ({"depth": {"low": 3, "high": 1}}, "depth cannot have"),
        ({"depth": {"low": 3, "high": 5, "steps": 1}}, "unknown key 'steps'"),
        ({"depth": {"low": 0, "high": 5, "log": True}}, "depth cannot have"),
        ({"learning_rate": {"low": -1, "high": 5.0}}, "learning rate"),
        ({"learning_rate": ["fast"]}, "learning_rate cannot have"),
        ({"learning_rate": {"low": 0.001, "high": 1e400, "step": 1e-10}}, "learning.rate"),
        ({"depth": {"low": 0.001, "high": 1.0, "step": 1e-300}}, "depth cannot have"),
        ({"depth": [1.0, math.nan]}, "depth has the value nan"),
        ({"depth": [-math.inf]}, "depth has the value -inf"),
        ({"a=b": [1, 2]}, "'a=b'"),
        ({"": [1, 2]}, "''"),
        ({"seed": [0, 1]}, "seeds = "),
    ],
)
def test_parameters_that_cannot_be_searched_are_explained(parameters, message):
    with pytest.raises(InputError, match=message):
        SearchSpace(parameters=parameters)


@pytest.mark.parametrize("name", FORMS)
def test_a_value_is_read_back_from_its_text(name):
    distribution = FORMS[name][1]
    values = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
    for value in values:
        text = Candidate({name: value}).arguments[0].removeprefix(f"{name}=")
        again = own_value(distribution, parameter_value(name, text, distribution))
        assert (again, type(again)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heads = []\nlearning_rates = [0.1]", r"\[\] of head must hold at least one item"),
        ('heads = ["8"]\nlearning_rates = []', r"\[\] of learning_rate must hold at least one item"),
        ('heads = ["8", "8"]\nlearning_rates = [0.1]', r"\['8', '8'\] of head must hold .* none twice"),
        ('heads = ["8"]\nlearning_rates = [0.1, 0.1]', r"\[0.1, 0.1\] of learning_rate must hold .* none twice"),
        ('heads = ["8"]\nlearning_rates = [0]', r"learning rate 0\.0 is out of range. Give positive numbers"),
        ('heads = ["8"]\nlearning_rates = [-0.1]', r"learning rate -0\.1 is out of range"),
        ('heads = ["8"]\nlearning_rates = [inf]', "learning rate inf is out of range"),
        ('heads = ["8"]\nlearning_rates = [nan]', "learning rate nan is out of range"),
        ('heads = ["8-x"]\nlearning_rates = [0.1]', "head '8-x' is not a list of layer widths"),
        ('heads = "8"\nlearning_rates = [0.1]', "heads is '8', but must be a list, each item a string or a table"),
        ("heads = [8]\nlearning_rates = [0.1]", "heads.* is .*8.*, but must be .*a string"),
        ('heads = ["8"]\nlearning_rates = {low = 0.1, high = 0.01}', r"interval 0\.1 \.\. 0\.01 must satisfy 0 < low"),
        ('heads = ["8"]\nlearning_rates = {low = 0, high = 0.01}', r"interval 0 \.\. 0\.01 must satisfy 0 < low"),
        ('heads = ["8"]\nlearning_rates = {low = 0.1, high = inf}', r"interval 0\.1 \.\. inf must satisfy"),
        ('heads = ["8"]\nlearning_rates = {low = 0.1}', "learning_rates: the key 'high' is missing"),
        ('heads = ["8"]\nlearning_rates = [0.1]\nseeds = [0]', "unknown key 'seeds'. Known: heads, learning_rates"),
        ("heads = {depths = [1], widths = [0]}\nlearning_rates = [0.1]", "widths \\[0\\] must hold"),
        ("heads = {depths = [], widths = [8]}\nlearning_rates = [0.1]", "must hold at least one item"),
        ("heads = {depths = [0], widths = [8]}\nlearning_rates = [0.1]", "depth.*0"),
        ("heads = {depths = [-1], widths = [8]}\nlearning_rates = [0.1]", "depth.*-1"),
    ],
)
def test_a_space_that_cannot_be_searched_is_explained(tmp_path, text, message):
    path = space_file(tmp_path, text)
    with pytest.raises(InputError, match=rf"search space {path}.*{message}"):
        load_search_space(path)


def test_the_same_errors_reach_python():
    with pytest.raises(InputError, match=r"learning rate 0\.0 is out of range"):
        SearchSpace(heads=("8",), learning_rates=(0,))
    with pytest.raises(InputError, match="must satisfy 0 < low < high"):
        Interval(0.1, 0.1)
    with pytest.raises(InputError, match=r"unknown search space 'tabel1'\. Known: .*table1"):
        load_search_space("tabel1")


def test_a_lone_value_is_not_taken_for_a_list():
    with pytest.raises(InputError, match=r"heads is '64'\. Give a list"):
        SearchSpace(heads="64", learning_rates=[0.1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"learning_rates is 0\.1\. Give a list"):
        SearchSpace(heads=["64"], learning_rates=0.1)  # type: ignore[arg-type]
