"""Networks that are still in question are trained again with other seeds."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import optuna
import pytest
import simulated_study
from optuna.trial import TrialState, create_trial
from private_postgres import Server
from simulated_study import Objective, searched
from storages import opened

import nas_relucode as rc
from nas_relucode.errors import InputError
from nas_relucode.processes import TOKEN, machine
from nas_relucode.ranking.reseeding import CLAIM
from nas_relucode.study.record import ATTRIBUTE


def study_of(objective: Objective) -> optuna.Study:
    return searched(optuna.create_study(direction="maximize"), objective)


def trained_again(objective: Objective) -> list[tuple[str, int]]:
    """What the objective has trained after the search, which trains each network once."""
    return objective.calls[len(simulated_study.ACCURACY) :]


def test_it_trains_the_best_networks_until_the_others_are_shown_equal_or_worse():
    objective = Objective()
    study = study_of(objective)
    result = rc.reseed(study, objective, seeds=range(1, 9), margin=0.02)
    answers = result.selection.comparison["answer"].set_axis(result.selection.networks["params_name"])
    assert result.reason == "firm"
    assert sorted(answers[["a", "b"]]) == ["best", "equal"]
    assert list(answers[["c", "d"]]) == ["worse", "worse"]
    again = Counter(name for name, _ in trained_again(objective))
    assert again["d"] < again["a"] < 8
    assert len(result.trained) == again.total()


@pytest.mark.parametrize("by", ["settings", "recorder"])
def test_the_margin_is_the_studys_own_where_none_is_given(by):
    objective = Objective(margin=0.3 if by == "recorder" else 0.005)
    study = study_of(objective)
    if by == "settings":
        study.set_user_attr("settings", {"data": {}, "network": {}, "search": {}, "margin": 0.3})
    result = rc.reseed(study, objective, seeds=[1, 2])
    assert rc.select(study).ranking.margin == result.selection.ranking.margin == 0.3
    assert result.reason == "firm"
    assert rc.select(study, margin=0.01).ranking.margin == 0.01


def test_each_training_has_the_same_parameters_conditional_ones_and_none_included():
    objective = Objective()
    study = study_of(objective)
    rc.reseed(study, objective, seeds=[1, 2], which="all")
    params = {name: {"name": name, "skip": None} | ({"dropout": 0.2} if name == "b" else {}) for name in "abcd"}
    for trial in study.trials:
        assert trial.params == params[trial.params["name"]]
    assert sorted(objective.calls) == sorted((name, seed) for name in "abcd" for seed in (0, 1, 2))
    assert {(t.params["name"], t.user_attrs["relucode"]["seed"]) for t in study.trials} == set(objective.calls)


def test_it_ends_when_the_seeds_are_spent_and_says_what_cannot_be_told():
    objective = Objective(spread=0.02)
    study = study_of(objective)
    result = rc.reseed(study, objective, seeds=[1, 2], margin=0.001)
    assert result.reason == "seeds spent"
    assert "name=a" in str(result) or "name=b" in str(result)


def test_networks_may_be_named_and_others_are_left():
    objective = Objective()
    study = study_of(objective)
    name = str(rc.select(study).networks["network"].iloc[-1])
    result = rc.reseed(study, objective, seeds=[5, 6], which=[name])
    assert trained_again(objective) == [("d", 5), ("d", 6)]
    assert result.reason == "seeds spent"
    with pytest.raises(InputError, match="nobody"):
        rc.reseed(study, objective, seeds=[7], which=["nobody"])


def test_a_second_call_repeats_nothing():
    objective = Objective()
    study = study_of(objective)
    rc.reseed(study, objective, seeds=[1, 2], which="all")
    before = len(study.trials)
    result = rc.reseed(study, objective, seeds=[1, 2], which="all")
    assert (result.trained, len(study.trials)) == ([], before)


@pytest.mark.parametrize("attribute", ["x", 3, None, {}, {"network": "a", "seed": 1}, {"process": {"id": "x"}}])
def test_an_attribute_of_somebody_else_is_no_claim(attribute):
    objective = Objective()
    study = study_of(objective)
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={CLAIM: attribute}))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={CLAIM: attribute}))
    result = rc.reseed(study, objective, seeds=[1], n_trials=1)
    assert (len(result.trained), result.elsewhere) == (1, [])


@pytest.mark.parametrize("budget", [{"n_trials": 2}, {"timeout": 0.0}])
def test_it_ends_when_the_budget_is_spent(budget):
    objective = Objective()
    study = study_of(objective)
    result = rc.reseed(study, objective, seeds=[1, 2], which="all", **budget)
    assert result.reason == "budget spent"
    assert len(result.trained) == budget.get("n_trials", 0)


def test_networks_of_a_grid_are_trained_again_and_the_study_keeps_its_sampler():
    objective = Objective()
    grid = optuna.samplers.GridSampler({"name": list(simulated_study.ACCURACY)[:2]})
    study = optuna.create_study(direction="maximize", sampler=grid)

    def named(trial, seed=0):
        return objective.record(
            trial,
            simulated_study.network(trial.suggest_categorical("name", list(simulated_study.ACCURACY)), seed),
            seed=seed,
        )

    study.optimize(named)
    rc.reseed(study, named, seeds=[1], which="all")
    assert sorted(trial.params["name"] for trial in study.trials) == ["a", "a", "b", "b"]
    assert study.sampler is grid


def test_a_failure_is_told_and_raised_and_the_next_call_trains_that_seed():
    objective = Objective()
    study = study_of(objective)

    def broken(trial, seed=0):
        if seed == 1:
            raise RuntimeError("no memory")
        return objective(trial, seed=seed)

    with pytest.raises(RuntimeError, match="no memory"):
        rc.reseed(study, broken, seeds=[1], which="all")
    assert study.trials[-1].state == TrialState.FAIL
    assert "no memory" in study.trials[-1].user_attrs["relucode"]["failed"]
    result = rc.reseed(study, broken, seeds=[1, 2], which="all", catch=(RuntimeError,))
    assert (len(result.failed), len(result.trained), result.reason) == (4, 4, "seeds spent")
    result = rc.reseed(study, objective, seeds=[1, 2], which="all")
    assert len(result.trained) == 4


def test_a_network_of_which_a_seed_is_pruned_drops_out():
    objective = Objective()
    study = study_of(objective)

    def diverges(trial, seed=0):
        values = objective(trial, seed=seed)
        if trial.params["name"] == "a":
            trial.set_user_attr("relucode", trial.user_attrs["relucode"] | {"pruned": "diverged"})
            raise optuna.TrialPruned
        return values

    rc.reseed(study, diverges, seeds=[1, 2, 3], which="all")
    assert Counter(name for name, _ in trained_again(objective)) == {"a": 1, "b": 3, "c": 3, "d": 3}


def test_trials_that_wait_in_the_study_are_left_to_others():
    objective = Objective()
    study = study_of(objective)
    study.enqueue_trial({"name": "c", "skip": True})
    rc.reseed(study, objective, seeds=[1], which="all")
    assert sorted(trained_again(objective)) == [(name, 1) for name in "abcd"]
    assert [trial.state for trial in study.trials].count(TrialState.WAITING) == 1


def claimed(study: optuna.Study, process: dict) -> int:
    """Another process trains the first trial's network with seed 1; the number of its trial."""
    key = rc.select(study).source.candidates[0].network
    claim = {"network": key, "seed": 1, "process": process, "id": "of another"}
    study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={CLAIM: claim, "seed": 1}))
    return study.trials[-1].number


def test_a_trial_that_a_dead_process_left_behind_is_failed_and_trained_again():
    objective = Objective()
    study = study_of(objective)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    number = claimed(study, {"machine": machine(), "id": ended.pid, "token": "of another"})
    rc.reseed(study, objective, seeds=[1], which="all")
    assert study.trials[number].state == TrialState.FAIL
    assert trained_again(objective).count(("a", 1)) == 1


def test_an_earlier_process_of_the_same_number_is_dead():
    objective = Objective()
    study = study_of(objective)
    number = claimed(study, {"machine": machine(), "id": os.getpid(), "token": "of an earlier one"})
    rc.reseed(study, objective, seeds=[1], which="all")
    assert study.trials[number].state == TrialState.FAIL


def test_what_another_machine_runs_is_not_repeated_nor_waited_for():
    objective = Objective()
    study = study_of(objective)
    number = claimed(study, {"machine": "elsewhere", "id": 1, "token": TOKEN})
    result = rc.reseed(study, objective, seeds=[1], which="all")
    assert (result.reason, result.elsewhere) == ("running elsewhere", [number])
    assert str(number) in str(result)
    assert ("a", 1) not in objective.calls


def test_an_objective_that_takes_no_seed_is_refused_before_anything_is_trained():
    objective = Objective()
    study = study_of(objective)
    with pytest.raises(InputError, match="seed"):
        rc.reseed(study, lambda trial: objective(trial), seeds=[1])


WRONG_TYPES = [
    {"seeds": 3},
    {"seeds": [True]},
    {"seeds": [1], "which": None},
    {"seeds": [1], "timeout": "x"},
    {"seeds": [1], "timeout": float("nan")},
    {"seeds": [1], "n_trials": 1.5},
]


@pytest.mark.parametrize(
    "settings", [{"seeds": []}, {"seeds": [1, 1]}, {"seeds": [0.5]}, {"seeds": [1], "n_trials": 0}, *WRONG_TYPES]
)
def test_seeds_and_budgets_that_mean_nothing_are_refused(settings):
    objective = Objective()
    study = study_of(objective)
    with pytest.raises(InputError):
        rc.reseed(study, objective, **settings)


def test_an_objective_that_records_another_seed_or_network_is_refused():
    objective = Objective()
    study = study_of(objective)

    def other_seed(trial, seed=0):
        return objective(trial, seed=0)

    def other_network(trial, seed=0):
        trial.suggest_int("one_more", seed, seed)
        return objective(trial, seed=seed)

    def no_record(trial, seed=0):
        trial.suggest_categorical("name", list(simulated_study.ACCURACY))
        return 0.5

    for wrong, named in ((other_seed, "seed=seed"), (other_network, "one_more"), (no_record, "Recorder")):
        with pytest.raises(InputError, match=named):
            rc.reseed(study, wrong, seeds=[1])
        assert study.trials[-1].state == TrialState.FAIL


def test_values_that_are_no_numbers_are_refused():
    objective = Objective()
    study = study_of(objective)

    def nothing(trial, seed=0):
        objective(trial, seed=seed)
        return math.nan

    with pytest.raises(InputError, match="nan"):
        rc.reseed(study, nothing, seeds=[1])


def test_seeds_that_change_nothing_are_a_warning():
    class Unseeded(Objective):
        def drawn(self, seed):
            return 0

    objective = Unseeded()
    study = study_of(objective)
    with pytest.warns(UserWarning, match="seed") as warned:
        rc.reseed(study, objective, seeds=[1, 2], which="all")
    assert len(warned) == 1


def test_a_study_in_which_no_network_can_be_chosen_is_refused():
    objective = Objective()
    study = optuna.create_study(direction="maximize")
    strict = rc.Recorder(validation=objective.record.splits.validation.data, objectives=["accuracy"], accuracy_floor=1)
    objective.record = strict
    searched(study, objective)
    with pytest.raises(InputError, match="accuracy_floor"):
        rc.reseed(study, objective, seeds=[1])


def test_an_objective_of_ours_is_reseeded_whether_or_not_it_suggests_seeds():
    data = rc.load_data("digits", validation=0.25, classes=[0, 1], train_samples=80)
    space = rc.SearchSpace(heads=("4", "8"), learning_rates=(0.05,))
    for seeds in ([0], [0, 1]):
        objective = rc.Objective(
            data,
            space,
            network=rc.NetworkSettings(backbone="none"),
            recipe=rc.Recipe(epochs=5, batch_size=8),
            seeds=seeds,
            accuracy_floor=0.0,
        )
        study = optuna.create_study(directions=["maximize", "minimize"])
        for candidate in space.candidates(seeds=seeds):
            study.enqueue_trial({**candidate.params, "seed": candidate.seed})
        study.optimize(objective, n_trials=2 * len(seeds))
        rc.reseed(study, objective, seeds=[0, 1, 2], which="all")
        complete = [t.user_attrs["relucode"] for t in study.trials if t.state == TrialState.COMPLETE]
        trained = sorted((record["params"]["head"], record["seed"]) for record in complete)
        assert trained == [(head, seed) for head in ("4", "8") for seed in range(3)]


PROGRAM = """
import sys
import optuna
import nas_relucode as rc
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from simulated_study import Objective

optuna.logging.set_verbosity(optuna.logging.ERROR)
where = sys.argv[1]
storage = where if "://" in where else JournalStorage(JournalFileBackend(where))
study = optuna.load_study(study_name="study", storage=storage)
print(rc.reseed(study, Objective(), seeds=[1, 2, 3], which="all").reason)
"""


def in_two_processes(where: str) -> None:
    """Reseeds the study there from two processes at once, and checks that no training stands twice or is missing."""
    path = os.pathsep.join([str(Path(simulated_study.__file__).parent), *sys.path])
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), where]
    processes = [
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert outputs == ["seeds spent\n"] * 2
    with opened(where) as storage:
        trials = optuna.load_study(study_name="study", storage=storage).trials
    complete = [trial.user_attrs["relucode"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted((r["params"]["name"], r["seed"]) for r in complete) == [(n, s) for n in "abcd" for s in range(4)]
    others = [trial for trial in trials if trial.state != TrialState.COMPLETE]
    assert all(trial.state == TrialState.FAIL and "same_as" in trial.user_attrs for trial in others)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_two_processes_repeat_nothing(kind, tmp_path, request):
    if kind == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        where = server.database()
    else:
        where = str(tmp_path / "journal")
    with opened(where) as storage:
        searched(optuna.create_study(study_name="study", storage=storage, direction="maximize"), Objective())
    in_two_processes(where)


def test_a_study_without_a_complete_trial_has_no_further_trainings_and_a_damaged_one_is_no_such_study():
    study = optuna.create_study(direction="maximize")
    assert rc.ranking.further_trainings(study, [0, 1]) == []
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={ATTRIBUTE: {"failed": "no memory"}}))
    assert rc.ranking.further_trainings(study, [0, 1]) == []
    study.add_trial(create_trial(value=0.5, user_attrs={ATTRIBUTE: {"version": 2, "accuracy": 0.5}}))
    with pytest.raises(InputError, match="trial 1"):
        rc.ranking.further_trainings(study, [0, 1])
