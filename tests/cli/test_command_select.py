"""nas-relucode select, from the outside: after a run, as a table and as JSON, and what is refused."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import optuna
import pytest
from command_line import refused
from hand_made import hand_made, study_of
from optuna.artifacts import get_all_artifact_meta

from nas_relucode.cli.main import main
from nas_relucode.cli.select import MOST_AHEAD, json_text
from nas_relucode.ranking.selection import select
from nas_relucode.study.objective import Objective
from nas_relucode.study.predictions import FILE, file_store, read_predictions
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.search_space import SearchSpace
from nas_relucode.study.settings import NetworkSettings
from nas_relucode.training.data import load_data
from nas_relucode.training.recipe import Recipe


@pytest.fixture
def ran(here: Path, trained: Path) -> optuna.Study:
    """The small study of two networks, run in the current folder."""
    shutil.copytree(trained / "runs", "runs")
    return optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")


@pytest.mark.parametrize("tolerance", ["1se", "mcnemar", "bootstrap", "1"])
def test_the_command_prints_the_selection_of_the_function(ran, here, capsys, tolerance):
    assert main(["select", "own", "--tolerance", tolerance, "-f", "json"]) == 0
    given = float(tolerance) if tolerance == "1" else tolerance
    selection = select(ran, tolerance=given, store=file_store(here / "runs" / "own"))
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(selection.as_dict()))
    assert selection.comparison["paired"].all() == (tolerance in ("mcnemar", "bootstrap"))
    assert main(["select", "own.toml", "--tolerance", tolerance]) == 0
    printed = capsys.readouterr().out
    assert f"{len(selection.equal)} of 2 networks of own." in printed
    for head in selection.equal["head"]:
        assert f"| {head} @ 0.1" in printed


def test_the_criteria_of_the_order_can_be_named(ran, capsys):
    arguments = ["--by", "cell_count:maximize", "head.1:cell_count", "--how", "weighted", "--weights", "cell_count=3"]
    assert main(["select", "own", "--tolerance", "1", "-f", "json", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["by"] == {"cell_count": "maximize", "head.1:cell_count": "minimize"}
    assert printed["weights"] == {"cell_count": 3}
    assert len(printed["equally_accurate"]) == 2


def test_json_of_hundreds_of_equal_networks_has_a_line_each_and_the_pairs_of_the_first_hundred():
    generator = random.Random(0)
    trials = [
        hand_made("8", 0.001 * (1 + number), seed, cell_count=float(generator.randint(1, 9)))
        for number in range(MOST_AHEAD + 20)
        for seed in (0, 1)
    ]
    selection = select(study_of(trials), tolerance=0.0)
    text = json_text(selection)
    printed, whole = json.loads(text, parse_constant=pytest.fail), selection.as_dict()
    assert [len(row) for row in printed["ahead"]] == [MOST_AHEAD] * MOST_AHEAD
    assert printed["ahead"] == [row[:MOST_AHEAD] for row in whole["ahead"][:MOST_AHEAD]]
    assert printed | {"ahead": whole["ahead"]} == json.loads(json.dumps(whole))
    assert len(printed["equally_accurate"]) == MOST_AHEAD + 20
    assert all(network["ahead_of_next"] is not None for network in printed["equally_accurate"][:-1])
    assert sum(line.startswith('    {"head": ') for line in text.splitlines()) == MOST_AHEAD + 20
    assert len(text) < 250_000


def test_the_help_says_what_the_json_holds(capsys):
    with pytest.raises(SystemExit):
        main(["select", "--help"])
    assert f"for the first {MOST_AHEAD} places" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tolerance", "-0.1"], "tolerance -0.1 is out of range"),
        (["--tolerance", "2se"], "unknown tolerance '2se'"),
        (["--by", "cells"], "unknown index 'cells'"),
        (["--by", "edge_count"], "no direction of its own"),
        (["--how", "best"], "unknown how 'best'"),
        (["--how", "weighted", "--weights", "cell_count"], "weight 'cell_count' cannot be read"),
        (["--study-name", "other"], "there is no runs/other/study.db"),
    ],
)
def test_bad_input_is_refused(ran, capsys, arguments, message):
    assert message in refused(capsys, "select", "own", *arguments)


def test_a_trial_of_an_objective_keeps_the_predictions_that_made_its_accuracy(tmp_path):
    data = load_data("digits", classes=[0, 1, 2], train_samples=60, test_samples=20, validation=0.3)
    space = SearchSpace(heads=("4",), learning_rates=(0.1,))
    chosen = {"network": NetworkSettings(backbone="none"), "recipe": Recipe(epochs=1), "device": "cpu"}
    objective = Objective(data, space, folder=tmp_path, **chosen)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(directions=["maximize", "minimize"], storage=storage)
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    record = trial.user_attrs[ATTRIBUTE]
    (meta,) = get_all_artifact_meta(trial, storage=storage)
    assert (meta.artifact_id, meta.filename) == (record["predictions"], FILE)
    predictions = read_predictions(record["predictions"], file_store(tmp_path), "trial 0")
    assert len(predictions) == record["validation_samples"]
    assert predictions.correct.mean() == pytest.approx(record["accuracy"], abs=1e-12)
    right = predictions.classes[predictions.correct]
    assert np.array_equal(right, data.validation.labels.numpy()[predictions.correct])

    objective(optuna.trial.FixedTrial({"head": "4", "learning_rate": 0.1}))  # has nowhere to keep them
    assert len(list((tmp_path / "artifacts").iterdir())) == 1
    without = optuna.create_study(directions=["maximize", "minimize"])
    without.optimize(Objective(data, space, **chosen), n_trials=1)
    assert "predictions" not in without.trials[0].user_attrs[ATTRIBUTE]
