"""Studies: run, stopped, killed and gone on with; what is left is read back by Optuna from the storage."""

import dataclasses
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from nas_relucode import InputError, Objective, Recipe, StudySettings, load_search_space, load_settings, run_study
from nas_relucode.cli import main
from nas_relucode.objective import ATTRIBUTE
from nas_relucode.storage import only_process, redact
from nas_relucode.study import load_study_data
from nas_relucode.study_settings import CodeSettings, DataSettings, NetworkSettings, SearchSettings

INTERVAL = "{low = 0.01, high = 0.1}"


@pytest.fixture(autouse=True, scope="module")
def quiet_and_on_one_thread() -> Iterator[None]:
    """Tiny networks on several threads wait for each other; on a busy machine that takes a hundred times longer."""
    verbosity, threads = optuna.logging.get_verbosity(), torch.get_num_threads()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def settings_in(
    folder: Path,
    heads: tuple[str, ...] = ("8", "4-4"),
    rates: str = "[0.1]",
    *,
    seeds: tuple[int, ...] = (0,),
    trials: int | None = None,
    sampler: str = "tpe",
    **changes: Any,
) -> StudySettings:
    """The smallest study there is: one epoch on a few digits of two classes."""
    space = folder / "space.toml"
    space.write_text(f"heads = {json.dumps(heads)}\nlearning_rates = {rates}\n")
    parts: dict[str, Any] = {
        "data": DataSettings(source="digits", classes=(0, 1), train_samples=100, test_samples=20, validation=0.3),
        "network": NetworkSettings(backbone="none"),
        "training": Recipe(epochs=1, batch_size=35),
        "search": SearchSettings(space=str(space), seeds=seeds, trials=trials, sampler=sampler),
    }
    return StudySettings(**(parts | changes))


def run(settings: StudySettings, url: str, name: str = "own", **told: Any) -> optuna.Study:
    return run_study(name, settings, storage=url, device="cpu", **told)


def reread(url: str, name: str = "own") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=url).trials


def candidates(trials: list[FrozenTrial], state: TrialState = TrialState.COMPLETE) -> list[tuple[Any, ...]]:
    chosen = [trial for trial in trials if trial.state == state]
    return [(trial.params.get("seed"), trial.params["head"], trial.params["learning_rate"]) for trial in chosen]


class Failing:
    """A callback that raises in the first epoch of one head, as a network that finds no memory would."""

    def __init__(self, head: str, times: int, error: BaseException) -> None:
        self.head, self.left, self.error = head, times, error
        self.heads: dict[int, str] = {}

    def start(self, study: optuna.Study, size: int) -> None:
        self.study = study

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        if self.left and self.study.trials[number].params["head"] == self.head:
            self.left -= 1
            raise self.error


def test_each_candidate_is_run_once_with_each_seed_and_the_seeds_are_outermost(tmp_path: Path, url: str):
    run(settings_in(tmp_path, rates="[0.1, 0.01]", seeds=(0, 3)), url)
    trials = reread(url)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 8
    assert candidates(trials) == [
        (seed, head, rate) for seed in (0, 3) for head in ("8", "4-4") for rate in (0.1, 0.01)
    ]


def test_the_values_are_those_of_the_objective_alone(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, objectives={"cell_count": "minimize", "accuracy": "maximize"})
    study = run(settings, url)
    objective = Objective(
        load_study_data(settings.data),
        load_search_space(settings.search.space),
        objectives=["cell_count", "accuracy"],
        backbone="none",
        recipe=settings.training,
        device="cpu",
    )
    assert [tuple(trial.values) for trial in study.trials] == [objective(FixedTrial(t.params)) for t in study.trials]


def test_a_finished_study_is_returned_as_it_is_and_nothing_is_trained(tmp_path: Path, url: str):
    settings, epochs = settings_in(tmp_path), []
    run(settings, url)
    before = reread(url)
    study = run(settings, url, on_epoch=lambda *told: epochs.append(told))
    assert epochs == []
    assert reread(url) == before
    assert study.trials == before


def test_a_study_in_memory_runs_too(tmp_path: Path):
    assert candidates(run(settings_in(tmp_path), "sqlite://").trials) == [(None, "8", 0.1), (None, "4-4", 0.1)]


def test_without_a_storage_the_study_lies_in_runs_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run_study("mine", settings_in(tmp_path, ("8",)), device="cpu")
    assert len(reread("sqlite:///runs/mine/study.db", "mine")) == 1


def test_two_studies_share_a_file(tmp_path: Path, url: str):
    run(settings_in(tmp_path, ("8",)), url, "one")
    run(settings_in(tmp_path, ("4",)), url, "two")
    assert candidates(reread(url, "one")) == [(None, "8", 0.1)]
    assert candidates(reread(url, "two")) == [(None, "4", 0.1)]


def test_the_callbacks_are_told_the_size_each_epoch_and_each_trial(tmp_path: Path, url: str):
    told: list[Any] = []
    run(
        settings_in(tmp_path, seeds=(0, 1)),
        url,
        on_start=lambda study, size: told.append((study.study_name, size)),
        on_epoch=lambda number, epoch, point: told.append((number, epoch.number)),
        on_trial=lambda study, trial: told.append(trial.number),
    )
    assert told[0] == ("own", 4)
    assert told[1:] == [event for number in range(4) for event in ((number, 0), (number, 1), number)]


def test_settings_versions_and_metric_names_are_stored(tmp_path: Path, url: str):
    objectives = {"accuracy": "maximize", "cell_count": "minimize", "edge_count": "maximize"}
    settings = settings_in(tmp_path, objectives=objectives)
    run(settings, url)
    study = optuna.load_study(study_name="own", storage=url)
    assert study.metric_names == list(objectives)
    assert [direction.name.lower() for direction in study.directions] == list(objectives.values())
    stored = study.user_attrs["settings"]
    assert set(stored) == {field.name for field in dataclasses.fields(StudySettings)}
    assert stored["data"]["train_samples"] == 100
    assert stored["training"]["epochs"] == 1
    assert stored["search"]["space"] == {"heads": ["8", "4-4"], "learning_rates": [0.1]}  # not a name, which may change
    assert study.user_attrs["versions"] == {
        "python": sys.version.split()[0],
        **{package: version(package) for package in ("nas-relucode", "torch", "optuna", "numpy")},
    }


def test_the_accuracy_floor_decides_what_optuna_calls_best(tmp_path: Path, url: str):
    study = run(settings_in(tmp_path, rates="[1e-9]", accuracy_floor=0.99), url)  # which nobody reaches untrained
    assert study.best_trials == []
    assert all(trial.constraints["accuracy_floor"] > 0 for trial in study.trials)


# Failed, interrupted, killed


@pytest.mark.parametrize("error", [RuntimeError("no memory"), MemoryError("none left")])
def test_a_candidate_that_fails_is_retried_twice_and_then_given_up(tmp_path: Path, url: str, error: Exception):
    settings, failing = settings_in(tmp_path, ("8", "4-4", "4")), Failing("4-4", 99, error)
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


def test_a_candidate_that_fails_once_is_complete_in_the_end(tmp_path: Path, url: str):
    settings, failing = settings_in(tmp_path), Failing("8", 1, RuntimeError("no memory"))
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    trials = reread(url)
    assert sorted(candidates(trials)) == [(None, "4-4", 0.1), (None, "8", 0.1)]
    (retry,) = [trial for trial in trials if "retry_of" in trial.user_attrs]
    assert retry.user_attrs["retry_of"] == 0
    assert (retry.params["head"], retry.state) == ("8", TrialState.COMPLETE)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("of my own callback")])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, url: str, error: BaseException):
    settings, failing = settings_in(tmp_path, ("8", "4-4", "4")), Failing("4-4", 1, error)
    with pytest.raises(type(error)):
        run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    trials = reread(url)
    assert Counter(candidates(trials)) == Counter({(None, head, 0.1): 1 for head in ("8", "4-4", "4")})
    assert trials[1].state == TrialState.FAIL
    assert [trial.number for trial in trials if trial.user_attrs.get("retry_of") == 1] == [3]


def test_a_candidate_that_was_interrupted_again_and_again_is_complete_in_the_end(tmp_path: Path, url: str):
    settings, failing = settings_in(tmp_path, ("8",)), Failing("8", 3, KeyboardInterrupt())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    states = [trial.state for trial in reread(url)]
    assert states == [TrialState.FAIL] * 3 + [TrialState.COMPLETE]
    assert [trial.user_attrs.get("retry_of") for trial in reread(url)] == [None, 0, 1, 2]


def test_a_candidate_whose_outputs_overflow_does_not_stop_the_others(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",), "[1e22, 0.1]", training=Recipe(epochs=1, batch_size=100))
    run(settings, url)
    assert candidates(reread(url)) == [(None, "8", 0.1)]
    assert candidates(reread(url), TrialState.PRUNED) == [(None, "8", 1e22)]


def test_a_trial_that_a_dead_process_left_running_is_failed_and_retried(tmp_path: Path, url: str):
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
    dead = study.ask()  # takes the waiting 4-4 with seed 1, as a process would, and is heard of no more
    params = load_search_space(fresh.search.space).suggest(dead, [1, 2])
    run(fresh, url, "other")
    trials = reread(url, "other")
    assert trials[dead.number].state == TrialState.FAIL
    (retry,) = [trial for trial in trials if trial.user_attrs.get("retry_of") == dead.number]
    assert (retry.params["head"], retry.params["seed"]) == (params.head, params.seed) == ("4-4", 1)
    assert Counter(candidates(trials)) == Counter({(s, head, 0.1): 1 for s in (1, 2) for head in ("8", "4-4")})


@dataclass
class Killed:
    """What was seen when a run was killed in its third trial and the same command was given again."""

    while_running: str  # what a second process was told meanwhile
    at_death: list[FrozenTrial]
    trials: list[FrozenTrial]  # in the end
    report: str
    exit_code: int


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "space.toml").write_text('heads = ["8", "4-4"]\nlearning_rates = [0.1, 0.01]\n')
    (folder / "own.toml").write_text(
        '[data]\nsource = "digits"\nclasses = [0, 1]\ntrain_samples = 60\nvalidation = 0.3\n'
        '[network]\nbackbone = "none"\n[training]\nepochs = 100\n[search]\nspace = "space.toml"\n'
    )
    command = ["run", "own.toml", "-v", "--device", "cpu"]
    environment = {key: value for key, value in os.environ.items() if key != "OPTUNA_STORAGE"} | {
        "OMP_NUM_THREADS": "1"
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "nas_relucode", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    assert process.stderr is not None
    with process, process.stderr:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("trial 2, epoch 1:"):
                break
        else:
            pytest.fail(f"the run never came to its third trial: {''.join(lines)}")
        process.send_signal(signal.SIGSTOP)  # it stays where it is, and keeps its lock
        with chdir(folder), pytest.MonkeyPatch.context() as patch:
            patch.delenv("OPTUNA_STORAGE", raising=False)
            with pytest.raises(InputError) as refused:
                run_study("own", load_settings("own.toml"), device="cpu")
            process.kill()
            assert process.wait() == -signal.SIGKILL
            guard.cancel()
            at_death = reread("sqlite:///runs/own/study.db")
            exit_code = main([*command[:2], "-q", *command[3:]])
            return Killed(
                str(refused.value),
                at_death,
                reread("sqlite:///runs/own/study.db"),
                (folder / "runs" / "own" / "report.md").read_text("utf-8"),
                exit_code,
            )


def test_a_killed_run_leaves_its_third_trial_running(killed: Killed):
    assert [trial.state for trial in killed.at_death[:3]] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.RUNNING,
    ]


def test_a_killed_run_finishes_every_candidate_once(killed: Killed):
    assert killed.exit_code == 0
    expected = [(None, head, rate) for head in ("8", "4-4") for rate in (0.1, 0.01)]
    assert Counter(candidates(killed.trials)) == Counter(expected)
    assert [trial.state for trial in killed.trials].count(TrialState.COMPLETE) == len(killed.trials) - 1
    assert killed.trials[:2] == killed.at_death[:2]


def test_the_trial_that_was_killed_is_failed_and_its_retry_names_it(killed: Killed):
    assert killed.trials[2].state == TrialState.FAIL
    (retry,) = [trial for trial in killed.trials if trial.user_attrs.get("retry_of") == 2]
    assert retry.params == killed.trials[2].params
    assert retry.state == TrialState.COMPLETE


def test_the_report_names_the_retry_of_the_trial_that_was_killed(killed: Killed):
    (retry,) = [trial.number for trial in killed.trials if "retry_of" in trial.user_attrs]
    sentence = rf"rial 2 \(4-4 @ 0\.1(, seed 0)?\) was interrupted and was retried as trial {retry}\."
    assert re.search(sentence, killed.report)


def test_a_second_process_is_refused_while_the_first_one_runs(killed: Killed):
    assert "another process" in killed.while_running
    assert "study.db" in killed.while_running
    assert "--storage" in killed.while_running


# Spaces that are sampled


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_a_sampled_space_is_drawn_from_and_each_draw_gets_every_seed(tmp_path: Path, url: str, sampler: str):
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


def test_a_draw_that_was_stopped_is_completed_with_every_seed(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",), INTERVAL, seeds=(0, 1), trials=2)
    failing = Failing("8", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(settings, url, on_start=failing.start, on_epoch=failing.epoch)
    run(settings, url)
    trials = reread(url)
    draws = Counter(trial.params["learning_rate"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert list(draws.values()) == [2, 2]
    assert [trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs] == [0]


def test_a_small_space_with_more_trials_than_candidates_comes_to_an_end(tmp_path: Path, url: str):
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
    with pytest.raises(InputError, match=r"interval of learning rates.*trials"):
        run(settings_in(tmp_path, rates=INTERVAL), url)
    assert not (tmp_path / "study.db").exists()


# Settings


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("training.epochs was 1 and is 2", {"training": Recipe(epochs=2, batch_size=35)}),
        ("search.seeds was", {"seeds": (0, 1)}),
        ("search.space.heads was", {"heads": ("8", "4")}),
        ("search.space.learning_rates was", {"rates": "[0.2]"}),
        ("accuracy_floor was None and is 0.5", {"accuracy_floor": 0.5}),
        ("objectives.cell_count was 'minimize' and is None", {"objectives": {"accuracy": "maximize"}}),
        ("codes.graph_theta was 1 and is 2", {"codes": CodeSettings(graph_theta=2)}),
    ],
)
def test_a_study_with_other_settings_is_refused_and_nothing_is_changed(
    tmp_path: Path, finished: Path, key: str, changes: dict[str, Any]
):
    url = f"sqlite:///{finished}/study.db"
    before = (finished / "study.db").read_bytes()
    with pytest.raises(InputError, match="'own' was made with other settings") as refused:
        run(settings_in(tmp_path, **changes), url)
    assert key in str(refused.value)
    assert "--study-name" in str(refused.value)
    assert (finished / "study.db").read_bytes() == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("finished")
    run(settings_in(folder), f"sqlite:///{folder}/study.db")
    return folder


def test_another_description_is_no_other_study(tmp_path: Path, finished: Path):
    run(settings_in(tmp_path, description="said better"), f"sqlite:///{finished}/study.db")


def test_the_order_of_the_objectives_belongs_to_the_settings(tmp_path: Path, finished: Path):
    other_way_round = {"cell_count": "minimize", "accuracy": "maximize"}
    with pytest.raises(InputError, match="objectives"):
        run(settings_in(tmp_path, objectives=other_way_round), f"sqlite:///{finished}/study.db")


def test_a_study_of_others_with_the_same_name_is_refused(tmp_path: Path, url: str):
    study = optuna.create_study(storage=url, study_name="own", directions=["maximize", "minimize"])
    study.add_trial(optuna.trial.create_trial(values=[0.5, 3]))
    with pytest.raises(InputError, match=r"'own'.*not one of ours.*--study-name"):
        run(settings_in(tmp_path), url)
    assert len(reread(url)) == 1


def test_a_study_that_was_killed_while_it_was_made_is_made_whole(tmp_path: Path, url: str):
    optuna.create_study(storage=url, study_name="own", directions=["maximize", "minimize"])
    assert run(settings_in(tmp_path), url).user_attrs["settings"]["data"]["source"] == "digits"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "gp"}, r"unknown sampler 'gp'. Known: tpe, nsga2, random"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, r"seeds \[1, 1\]"),
        ({"seeds": (-1,)}, r"seeds \[-1\]"),
        ({"trials": 0}, "trials 0"),
        ({"accuracy_floor": 1.5}, "accuracy_floor 1.5"),
        ({"objectives": {"accuracy": "up"}}, "'up'. Known: maximize, minimize"),
        ({"objectives": {"cells": "minimize"}}, "unknown objective 'cells'. Known: accuracy, cell_count"),
        ({"objectives": {}}, "objectives is empty"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        settings_in(tmp_path, **changes)


# Storages


def test_the_lock_of_a_file_holds_off_a_run_and_is_given_back(tmp_path: Path, url: str):
    settings = settings_in(tmp_path, ("8",))
    with only_process(url), pytest.raises(InputError, match=r"another process.*study\.db.*--storage"):
        run(settings, url)
    run(settings, url)
    assert len(candidates(reread(url))) == 1


def test_a_run_that_raised_gives_the_lock_back_at_once(tmp_path: Path, url: str):
    run(settings_in(tmp_path, ("8",)), url)
    with pytest.raises(InputError, match="heads") as kept:  # a notebook keeps the last error, and its frames, too
        run(settings_in(tmp_path, ("4",)), url)
    run(settings_in(tmp_path, ("8",)), url)
    assert kept.value is not None


def test_storages_that_take_many_processes_need_no_lock():
    with only_process("postgresql+psycopg://me@host/db"), only_process("postgresql+psycopg://me@host/db"):
        pass
    with only_process("sqlite://"), only_process("sqlite://"):
        pass


def test_a_server_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path):
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1/x.*refused") as refused:
        run(settings_in(tmp_path), "postgresql+psycopg://u:secret@127.0.0.1:1/x")
    assert "secret" not in str(refused.value)
    assert "u:***@" in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    ["study.db", "://", "postgresql://u:secret@host:port/db", "nosuchdatabase://u:secret@host/db", "sqlite:/x.db"],
)
def test_what_is_no_storage_url_is_refused_and_told_how_one_looks(tmp_path: Path, wrong: str):
    with pytest.raises(InputError, match="storage") as refused:
        run(settings_in(tmp_path), wrong)
    assert "secret" not in str(refused.value)


def test_a_storage_whose_driver_is_not_installed_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"oracle.*(No module named|import)") as refused:
        run(settings_in(tmp_path), "oracle+oracledb://u:secret@host/db")
    assert "secret" not in str(refused.value)


def test_the_folder_of_a_new_file_is_made(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/not/there/yet.db"
    run(settings_in(tmp_path, ("8",)), url)
    assert len(reread(url)) == 1


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, url: str):
    (tmp_path / "study.db").write_text("a letter to my aunt, longer than the header of a database " * 10)
    with pytest.raises(InputError, match=r"study\.db.*not a database"):
        run(settings_in(tmp_path), url)
    assert (tmp_path / "study.db").read_text().startswith("a letter to my aunt")


def test_a_folder_is_no_database(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be used"):
        run(settings_in(tmp_path), f"sqlite:///{tmp_path}")


def test_a_file_locked_by_another_program_is_told_as_such(tmp_path: Path, finished: Path):
    other = sqlite3.connect(finished / "study.db", isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"study\.db.*database is locked"):
            run(settings_in(tmp_path), f"sqlite:///{finished}/study.db?timeout=0.2")  # the default is 5 seconds
    finally:
        other.close()
    run(settings_in(tmp_path), f"sqlite:///{finished}/study.db")


def test_a_disk_that_runs_full_during_a_study_is_told_and_the_study_goes_on_later(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    filler = disk / "filler"

    def fill(study: optuna.Study, trial: FrozenTrial) -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 512):
                    pass
            except OSError:
                return

    try:
        settings, url = settings_in(tmp_path), f"sqlite:///{disk}/study.db"
        with pytest.raises(InputError, match=r"study\.db.*full"):
            run(settings, url, on_trial=fill)
        filler.unlink()
        run(settings, url)
        assert Counter(candidates(reread(url))) == Counter([(None, "8", 0.1), (None, "4-4", 0.1)])
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_an_error_of_ones_own_callback_is_not_blamed_on_the_storage(tmp_path: Path, url: str):
    failing = Failing("8", 1, ImportError("No module named 'mine'"))
    with pytest.raises(ImportError, match="mine"):
        run(settings_in(tmp_path), url, on_start=failing.start, on_epoch=failing.epoch)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("mysql+pymysql://me:secret@host/db?charset=utf8", "mysql+pymysql://me:***@host/db?charset=utf8"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("sqlite:///runs/digits/study.db", "sqlite:///runs/digits/study.db"),
        ("sqlite:////tmp/study.db", "sqlite:////tmp/study.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str):
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s%2Fecr%40et@host/db",
        "postgresql://me:se@cret@host/db",
        "postgresql://me:sec/ret@host/db",
        "postgresql://host/db?password=secret",
        "postgresql://host/db?user=me&password=secret&sslmode=require",
        "postgresql://me:secret@host/db?password=secret",
        "postgresql://host/db?sslpassword=secret",
        "mysql+pymysql://host/db?passwd=secret",
        "postgresql://me:secret@host:port/db",
        "postgresql//me:secret@host/db",
        "me:secret@host",
    ],
)
def test_no_part_of_a_password_is_ever_shown(url: str):
    shown = redact(url)
    assert not any(part in shown for part in ("secret", "ecr", "cret", "ret@", "sec/"))
