"""The folder for OptunaHub's registry: complete, loaded by the real optunahub, a problem that Optuna can optimise."""

import ast
import importlib.util
from pathlib import Path

import optuna
import pytest

import nas_relucode as rc
from nas_relucode.study.record import ATTRIBUTE

ROOT = Path(__file__).parents[1] / "optunahub"
FOLDER = ROOT / "benchmarks" / "relu_code_space"


def test_the_folder_has_what_the_registry_asks_for():
    assert {path.name for path in FOLDER.iterdir()} >= {"__init__.py", "README.md", "LICENSE", "example.py"}
    assert (FOLDER / "LICENSE").read_text() == (ROOT.parent / "LICENSE").read_text()
    head, text = (FOLDER / "README.md").read_text().removeprefix("---\n").split("\n---\n")
    keys = [line.split(":")[0] for line in head.splitlines()]
    assert keys == ["author", "title", "description", "tags", "optuna_versions", "license"]
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Abstract", "## APIs", "## Installation", "## Example"]
    ast.parse((FOLDER / "example.py").read_text())


@pytest.fixture
def package():
    spec = importlib.util.find_spec("optunahub")
    if spec is None or spec.origin is None:
        pytest.skip("optunahub is not installed")
    import optunahub

    return optunahub.load_local_module("benchmarks/relu_code_space", registry_root=str(ROOT))


@pytest.fixture
def small():
    return {
        "data": rc.load_data("digits", classes=(0, 1), train_samples=100, test_samples=20, validation=0.3),
        "space": rc.SearchSpace(heads=("8", "4-4"), learning_rates=(0.1, 0.03)),
        "network": rc.NetworkSettings(backbone="none"),
        "recipe": rc.Recipe(epochs=1, batch_size=35),
        "device": "cpu",
    }


@pytest.mark.slow
def test_the_problem_is_optimised_and_ranked(package, small):
    problem = package.Problem(**small, seeds=(0, 1), accuracy_floor=2 / 3)
    assert [way.name for way in problem.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert list(problem.search_space) == ["head", "learning_rate", "seed"]
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=3)
    for trial in study.trials:
        assert trial.distributions == problem.search_space
        assert problem.evaluate(trial.params) == tuple(trial.values)
        assert trial.constraints == {"accuracy_floor": pytest.approx(2 / 3 - trial.values[0])}
        assert ATTRIBUTE in trial.user_attrs
    assert len(rc.ranking.select(study).networks) >= 1


@pytest.mark.slow
def test_learning_rates_may_be_an_interval_and_objectives_others(package, small):
    space = {"space": rc.study.load_search_space("digits")}
    names = ["accuracy", "head.1:edge_count"]
    problem = package.Problem(**(small | space), objectives=names, directions=["maximize", "minimize"])
    assert problem.metric_names == names
    assert set(problem.search_space["head"].choices) == set(space["space"].parameters["head"].choices)


@pytest.mark.slow
def test_the_default_problem_needs_nothing(package):
    problem = package.Problem()
    study = optuna.create_study(directions=problem.directions)
    study.optimize(problem, n_trials=1)
    assert 0 < study.trials[0].values[0] < 1
