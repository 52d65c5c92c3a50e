"""nas-relucode select, from the outside: after a run, as a table and as JSON, and what is refused."""

import json
import random
import shutil
from pathlib import Path

import optuna
import pytest
from command_line import refused
from hand_made import hand_made, study_of

from nas_relucode.cli.main import main
from nas_relucode.cli.select import MOST_AHEAD, json_text, read_weights
from nas_relucode.errors import InputError
from nas_relucode.ranking.choices import RULES
from nas_relucode.ranking.selecting import select


@pytest.fixture
def ran(here: Path, trained: Path) -> optuna.Study:
    """The small study of two networks, run in the current folder."""
    shutil.copytree(trained / "runs", "runs")
    return optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")


@pytest.mark.parametrize("rule", RULES)
def test_the_command_prints_the_selection_of_the_function(ran, here, capsys, rule):
    assert main(["select", "own", "--rule", rule, "--margin", "0.01", "-f", "json"]) == 0
    selection = select(ran, rule=rule, margin=0.01)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(selection.as_dict()))
    assert selection.comparison["paired"][selection.compared].all()
    assert main(["select", "own.toml", "--rule", rule]) == 0
    printed = capsys.readouterr().out
    for network in selection.finalists["network"]:
        assert f"| {network}" in printed


def test_the_criteria_of_the_order_can_be_named(ran, capsys):
    arguments = ["--by", "cell_count:maximize", "head.1:cell_count", "--how", "weighted"]
    arguments += ["--order-weights", "cell_count=3"]
    assert main(["select", "own", "-f", "json", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["by"] == {"cell_count": "maximize", "head.1:cell_count": "minimize"}
    assert printed["weights"] == {"cell_count": 3}


def test_json_of_hundreds_of_equal_networks_has_a_line_each_and_the_pairs_of_the_first_hundred():
    generator = random.Random(0)
    trials = [
        hand_made("8", 0.001 * (1 + number), seed, cell_count=float(generator.randint(1, 9)))
        for number in range(MOST_AHEAD + 20)
        for seed in (0, 1)
    ]
    selection = select(study_of(trials))
    text = json_text(selection)
    printed, whole = json.loads(text, parse_constant=pytest.fail), selection.as_dict()
    assert [len(row) for row in printed["ahead"]] == [MOST_AHEAD] * MOST_AHEAD
    assert printed["ahead"] == [row[:MOST_AHEAD] for row in whole["ahead"][:MOST_AHEAD]]
    assert printed | {"ahead": whole["ahead"]} == json.loads(json.dumps(whole))
    assert len(printed["finalists"]) == MOST_AHEAD + 20
    assert all(network["ahead_of_next"] is not None for network in printed["finalists"][:-1])
    assert sum(line.startswith('    {"network": ') for line in text.splitlines()) == MOST_AHEAD + 20
    assert len(text) < 250_000


def test_the_help_says_what_the_json_holds(capsys):
    with pytest.raises(SystemExit):
        main(["select", "--help"])
    assert f"for the first {MOST_AHEAD} places" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--margin=-0.1"], "margin -0.1 is out of range"),
        (["--rule", "2se"], "unknown rule '2se'"),
        (["--by", "cells"], "unknown index 'cells'"),
        (["--by", "edge_count"], "no direction of its own"),
        (["--how", "best"], "unknown value 'best' for how"),
        (["--how", "weighted", "--order-weights", "cell_count"], "weight 'cell_count' cannot be read"),
        (["--how", "weighted", "--order-weights", "cell_count=1", "cell_count=2"], "cell_count is given twice"),
        (["--output", "page"], "--output"),
        (["--study-name", "other"], "there is no runs/other/study.db"),
    ],
)
def test_bad_input_is_refused(ran, capsys, arguments, message):
    assert message in refused(capsys, "select", "own", *arguments)


def test_a_weight_that_is_given_twice_is_refused():
    with pytest.raises(InputError, match="cell_count is given twice"):
        read_weights(["cell_count=1", "cell_count=2"])
