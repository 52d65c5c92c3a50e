"""Studies that are run, interrupted and resumed, read back by Optuna from the storage."""

import dataclasses
import errno
import sqlite3
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import pytest
from cases import first_on_push
from optuna.trial import FixedTrial, TrialState
from small_studies import Failing, candidates, reread, run, settings_in

from nas_relucode.errors import InputError
from nas_relucode.study.objective import Objective
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.runner import load_study_data, run_study
from nas_relucode.study.search_space import load_search_space
from nas_relucode.study.settings import CodeSettings, NetworkSettings, StudySettings
from nas_relucode.training.recipe import Recipe

INTERVAL = "{low = 0.01, high = 0.1}"


def test_each_candidate_is_run_once_with_each_seed_and_the_seeds_are_outermost(tmp_path: Path, url: str):
    run(settings_in(tmp_path, rates="[0.1, 0.01]", seeds=(0, 3)), url)
    trials = reread(url)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 8
    assert candidates(trials) == [
        (seed, head, rate) for seed in (0, 3) for head in ("8", "4-4") for rate in (0.1, 0.01)
    ]


def test_the_values_are_those_of_the_objective_without_the_framework(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, objectives={"cell_count": "minimize", "accuracy": "maximize"})
    study = run(settings, url)
    objective = Objective(
        load_study_data(settings.data),
        load_search_space(settings.search.space),
        objectives=["cell_count", "accuracy"],
        network=NetworkSettings(backbone="none"),
        recipe=settings.training,
        device="cpu",
    )
    assert [tuple(trial.values) for trial in study.trials] == [objective(FixedTrial(t.params)) for t in study.trials]


def test_a_finished_study_is_returned_unchanged_and_nothing_is_trained(tmp_path: Path, url: str):
    settings, epochs = settings_in(tmp_path), []
    run(settings, url)
    before = reread(url)
    study = run(settings, url, on_epoch=lambda *arguments: epochs.append(arguments))
    assert epochs == []
    assert reread(url) == before
    assert study.trials == before


def test_a_study_in_memory_runs_too(tmp_path: Path):
    study = run(settings_in(tmp_path), "sqlite://", folder=tmp_path)
    assert candidates(study.trials) == [(None, "8", 0.1), (None, "4-4", 0.1)]


def test_without_a_storage_the_study_lies_in_runs_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run_study("mine", settings_in(tmp_path, ("8",)), device="cpu")
    assert len(reread("sqlite:///runs/mine/study.db", "mine")) == 1


def test_two_studies_share_a_file(tmp_path: Path, url: str):
    run(settings_in(tmp_path, ("8",)), url, "one")
    run(settings_in(tmp_path, ("4",)), url, "two")
    assert candidates(reread(url, "one")) == [(None, "8", 0.1)]
    assert candidates(reread(url, "two")) == [(None, "4", 0.1)]


def test_the_callbacks_get_the_size_each_epoch_and_each_trial(tmp_path: Path, url: str):
    events: list[Any] = []
    run(
        settings_in(tmp_path, seeds=(0, 1)),
        url,
        on_start=lambda study, size: events.append((study.study_name, size)),
        on_epoch=lambda number, epoch, point: events.append((number, epoch.number)),
        on_trial=lambda study, trial: events.append(trial.number),
    )
    assert events[0] == ("own", 4)
    assert events[1:] == [event for number in range(4) for event in ((number, 0), (number, 1), number)]


def test_settings_versions_and_metric_names_are_stored(tmp_path: Path, url: str):
    objectives = {"accuracy": "maximize", "cell_count": "minimize", "edge_count": "maximize"}
    settings = settings_in(tmp_path, objectives=objectives)
    run(settings, url)
    study = optuna.load_study(study_name="own", storage=url)
    assert study.metric_names == list(objectives)
    assert [direction.name.lower() for direction in study.directions] == list(objectives.values())
    stored = study.user_attrs["settings"]
    assert set(stored) == {field.name for field in dataclasses.fields(StudySettings)} - {"folder"}
    assert stored["data"]["train_samples"] == 100
    assert stored["training"]["epochs"] == 1
    # The space itself: a file of this name may change.
    assert stored["search"]["space"] == {"parameters": {"head": ["8", "4-4"], "learning_rate": [0.1]}}
    assert study.user_attrs["versions"] == {
        "python": sys.version.split()[0],
        **{package: version(package) for package in ("nas-relucode", "torch", "optuna", "numpy")},
    }


def test_the_accuracy_floor_decides_what_optuna_calls_best(tmp_path: Path, url: str):
    study = run(
        settings_in(tmp_path, rates="[1e-9]", accuracy_floor=0.99), url
    )  # out of reach for an untrained network
    assert study.best_trials == []
    assert all(trial.constraints["accuracy_floor"] > 0 for trial in study.trials)


@pytest.mark.parametrize("together", [1, 2])
def test_a_run_copies_no_trial_but_the_one_that_ended(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, together: int
):
    """With a copy of all trials after each, the work would grow with the square of their number."""
    copied: list[int] = []
    get_trials = optuna.Study.get_trials

    def counting(study: optuna.Study, deepcopy: bool = True, states: Any = None) -> list[optuna.trial.FrozenTrial]:
        trials = get_trials(study, deepcopy, states)
        copied.append(len(trials) if deepcopy else 0)
        return trials

    monkeypatch.setattr(optuna.Study, "get_trials", counting)
    settings = settings_in(tmp_path, ("8", "4-4"), "[0.2, 0.1]")
    settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, together=together))
    states: list[TrialState] = []
    run(settings, url, on_trial=lambda study, trial: states.append(trial.state))
    assert states == [TrialState.COMPLETE] * 4
    assert sum(copied) == 0


# Failures, interruptions, resumed studies


@pytest.mark.parametrize("error", first_on_push(RuntimeError("no memory"), MemoryError("none left")))
def test_a_candidate_that_fails_is_retried_twice_and_then_given_up(tmp_path: Path, url: str, error: Exception):
    settings = settings_in(tmp_path, ("8", "4-4", "4"), training=Recipe(epochs=3, batch_size=35))
    failing = Failing("4-4", 99, error)
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    trials = reread(url)
    assert sorted(candidates(trials)) == [(None, "4", 0.1), (None, "8", 0.1)]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(failed) == 3 == len(trials) - 2
    assert {trial.params["head"] for trial in failed} == {"4-4"}
    assert [trial.user_attrs.get("retry_of") for trial in failed] == [None, failed[0].number, failed[1].number]
    reason = f"{type(error).__name__}: {error}"
    assert all(trial.user_attrs[ATTRIBUTE] == {"failed": reason} for trial in failed)
    run(settings, url)
    assert reread(url) == trials


def test_a_full_disk_stops_the_run_and_is_no_failure_of_the_candidate(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, training=Recipe(epochs=5, batch_size=35))
    failing = Failing("8", 4, OSError(errno.ENOSPC, "No space left on device"))
    for _ in range(4):  # a candidate's own errors would have given it up after three
        with pytest.raises(OSError, match="No space"):
            run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    trials = reread(url)
    assert sorted(head for _, head, _ in candidates(trials)) == ["4-4", "8"]
    interrupted = [trial.user_attrs[ATTRIBUTE] for trial in trials if trial.state == TrialState.FAIL]
    assert len(interrupted) == 4
    assert all("No space" in record["interrupted"] for record in interrupted)


@pytest.mark.parametrize("together", [1, 2])
def test_a_result_that_the_storage_cannot_take_ends_the_run_with_the_reason(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, together: int
):
    write = optuna.storages.RDBStorage.set_trial_state_values

    def full(storage: Any, trial_id: int, state: TrialState, values: Any = None) -> bool:
        if state.is_finished():
            raise optuna.exceptions.StorageInternalError from sqlite3.OperationalError("database or disk is full")
        return write(storage, trial_id, state, values)

    settings = settings_in(tmp_path, ("8",), "[0.2, 0.1]")
    settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, together=together))
    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages.RDBStorage, "set_trial_state_values", full)
        with pytest.raises(InputError, match=r"study\.db.*disk is full"):
            run(settings, url)
    run(settings, url)
    assert sorted(candidates(reread(url))) == [(None, "8", 0.1), (None, "8", 0.2)]


def test_a_candidate_that_fails_once_is_completed_by_its_retry(tmp_path: Path, url: str):
    settings, failing = settings_in(tmp_path), Failing("8", 1, RuntimeError("no memory"))
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    trials = reread(url)
    assert sorted(candidates(trials)) == [(None, "4-4", 0.1), (None, "8", 0.1)]
    (retry,) = [trial for trial in trials if "retry_of" in trial.user_attrs]
    assert retry.user_attrs["retry_of"] == 0
    assert (retry.params["head"], retry.state) == ("8", TrialState.COMPLETE)


@pytest.mark.parametrize("error", first_on_push(KeyboardInterrupt(), ZeroDivisionError("of my own callback")))
def test_an_interrupted_run_continues_where_it_stopped(tmp_path: Path, url: str, error: BaseException):
    settings, failing = settings_in(tmp_path, ("8", "4-4", "4")), Failing("4-4", 1, error)
    with pytest.raises(type(error)):
        run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    trials = reread(url)
    assert Counter(candidates(trials)) == Counter({(None, head, 0.1): 1 for head in ("8", "4-4", "4")})
    assert trials[1].state == TrialState.FAIL
    assert [trial.number for trial in trials if trial.user_attrs.get("retry_of") == 1] == [3]


def test_a_candidate_that_is_interrupted_any_number_of_times_is_completed(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",), training=Recipe(epochs=3, batch_size=35))
    failing = Failing("8", 3, KeyboardInterrupt())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    states = [trial.state for trial in reread(url)]
    assert states == [TrialState.FAIL] * 3 + [TrialState.COMPLETE]
    assert [trial.user_attrs.get("retry_of") for trial in reread(url)] == [None, 0, 1, 2]


# Candidates of one head trained as one


def test_candidates_trained_together_get_the_results_of_each_trained_alone(tmp_path: Path, url: str):
    parts = {"seeds": (0, 1), "training": Recipe(epochs=2, batch_size=20), "codes": CodeSettings(kept_epochs=(2,))}
    alone = settings_in(tmp_path, ("8", "4-4"), "[0.1, 0.05]", **parts)
    search = dataclasses.replace(alone.search, together=4)
    study = run(alone, url)
    batched = run(dataclasses.replace(alone, search=search), url, "batched")
    assert sorted(candidates(batched.trials)) == sorted(candidates(study.trials))
    records = {tuple(t.params.items()): t.user_attrs[ATTRIBUTE] for t in study.trials}
    for trial in batched.trials:
        mine, other = trial.user_attrs[ATTRIBUTE], records[tuple(trial.params.items())]
        assert mine.keys() == other.keys()
        assert [point["loss"] for point in mine["curve"][1:]] == pytest.approx(
            [point["loss"] for point in other["curve"][1:]], abs=1e-4
        )
        assert mine["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-4)
        assert mine["joint"]["cell_count"] == pytest.approx(other["joint"]["cell_count"], abs=3)  # bits near 0 may flip
        assert (tmp_path / "batched" / "codes" / mine["codes"]["2"]).is_file()
    assert [trial.params["head"] for trial in batched.trials] == sorted(
        trial.params["head"] for trial in batched.trials
    )


def test_a_diverging_or_complete_candidate_does_not_stop_those_trained_with_it(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",), "[1e22, 0.1]", training=Recipe(epochs=2, batch_size=20))
    settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, together=5))
    study = run(settings, url)
    assert candidates(study.trials) == [(None, "8", 0.1)]
    (pruned,) = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert "finite" in pruned.user_attrs[ATTRIBUTE]["pruned"]
    study.enqueue_trial({"head": "8", "learning_rate": 0.1})
    run(settings, url)
    assert [trial.state for trial in reread(url)[2:]] == [TrialState.PRUNED]


def test_a_group_that_fails_is_retried_twice_and_then_given_up(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr("nas_relucode.study.attempts.train_together", fail)
    settings = settings_in(tmp_path, ("8",), "[0.2, 0.1]")
    numbers: list[int] = []
    run(
        dataclasses.replace(settings, search=dataclasses.replace(settings.search, together=2)),
        url,
        on_trial=lambda study, trial: numbers.append(trial.number),
    )
    assert [trial.state for trial in reread(url)] == [TrialState.FAIL] * 6
    assert numbers == list(range(6))
    assert all("no memory" in trial.user_attrs[ATTRIBUTE]["failed"] for trial in reread(url))


def test_a_candidate_whose_outputs_overflow_does_not_end_the_study(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",), "[1e22, 0.1]", training=Recipe(epochs=1, batch_size=100))
    run(settings, url)
    assert candidates(reread(url)) == [(None, "8", 0.1)]
    assert candidates(reread(url), TrialState.PRUNED) == [(None, "8", 1e22)]


def test_a_trial_left_running_by_a_dead_process_is_failed_and_retried(tmp_path: Path, url: str):
    settings = settings_in(tmp_path)
    study = run(settings, url)
    dead = study.ask()
    dead.suggest_categorical("head", ["8", "4-4"])
    run(settings, url)
    assert reread(url)[dead.number].state == TrialState.FAIL
    assert len(candidates(reread(url))) == 2

    fresh = settings_in(tmp_path, seeds=(1, 2))
    failing = Failing("8", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(fresh, url, "other", on_start=failing.start, on_epoch=failing.epoch)
    study = optuna.load_study(study_name="other", storage=url)
    dead = study.ask()  # takes the waiting 4-4 with seed 1, like a process that then dies
    candidate = load_search_space(fresh.search.space).suggest(dead, [1, 2])
    run(fresh, url, "other")
    trials = reread(url, "other")
    assert trials[dead.number].state == TrialState.FAIL
    (retry,) = [trial for trial in trials if trial.user_attrs.get("retry_of") == dead.number]
    assert (
        retry.params == {**candidate.params, "seed": candidate.seed} == {**candidate.params, "head": "4-4", "seed": 1}
    )
    assert Counter(candidates(trials)) == Counter({(s, head, 0.1): 1 for s in (1, 2) for head in ("8", "4-4")})


def test_a_study_whose_creation_was_killed_is_completed(tmp_path: Path, url: str):
    optuna.create_study(storage=url, study_name="own", directions=["maximize", "minimize"])
    assert run(settings_in(tmp_path), url).user_attrs["settings"]["data"]["source"] == "digits"


def test_a_study_of_another_program_with_the_same_name_is_refused(tmp_path: Path, url: str):
    study = optuna.create_study(storage=url, study_name="own", directions=["maximize", "minimize"])
    study.add_trial(optuna.trial.create_trial(values=[0.5, 3]))
    with pytest.raises(InputError, match=r"'own'.*not created by nas-relucode.*--study-name"):
        run(settings_in(tmp_path), url)
    assert len(reread(url)) == 1


# Sampled search spaces


@pytest.mark.parametrize("sampler", first_on_push("tpe", "nsga2", "random"))
def test_each_draw_from_a_sampled_space_gets_every_seed(tmp_path: Path, url: str, sampler: str):
    settings = settings_in(tmp_path, rates=INTERVAL, seeds=(0, 1), trials=2, sampler=sampler)
    sizes: list[int] = []
    run(settings, url, on_start=lambda study, size: sizes.append(size))
    trials = reread(url)
    assert sizes == [4] == [len(trials)]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    draws = Counter((trial.params["head"], trial.params["learning_rate"]) for trial in trials)
    assert list(draws.values()) == [2, 2]
    assert len(set(candidates(trials))) == 4
    assert all(0.01 <= rate <= 0.1 for _, rate in draws)
    run(settings, url)
    assert reread(url) == trials


def test_a_sampled_space_with_one_seed_has_as_many_trials_as_asked_for(tmp_path: Path, url: str):
    run(settings_in(tmp_path, rates=INTERVAL, trials=3), url)
    assert len(candidates(reread(url))) == len(reread(url)) == 3


def test_an_interrupted_draw_is_completed_with_every_seed(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",), INTERVAL, seeds=(0, 1), trials=2)
    failing = Failing("8", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url)
    trials = reread(url)
    draws = Counter(trial.params["learning_rate"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert list(draws.values()) == [2, 2]
    assert [trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs] == [0]


def test_a_study_with_more_trials_than_candidates_ends(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, trials=6, sampler="random")
    run(settings, url)
    trials = reread(url)
    assert len(trials) == 6
    assert len(candidates(trials)) == len(set(candidates(trials))) <= 2
    complete = {trial.number: trial.params for trial in trials if trial.state == TrialState.COMPLETE}
    for trial in trials:
        if trial.number not in complete:
            assert trial.state == TrialState.PRUNED
            assert complete[trial.user_attrs["same_as"]] == trial.params
    run(settings, url)
    assert reread(url) == trials


def test_an_interval_needs_the_number_of_trials(tmp_path: Path, url: str):
    with pytest.raises(InputError, match=r"learning_rate.*interval.*trials"):
        run(settings_in(tmp_path, rates=INTERVAL), url)
    assert not (tmp_path / "study.db").exists()
