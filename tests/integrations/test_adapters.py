"""A candidate run for another framework: the objective's own numbers, flat; and packages that are not there."""

import sys

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial
from small_studies import PARAMS, SPACE, objective_on

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.integrations.ax import ax_parameters
from nas_relucode.integrations.candidates import directions_of, needed, run_candidate
from nas_relucode.integrations.epoch_indices import EpochIndices, lightning_callback
from nas_relucode.integrations.ray_tune import ray_search, ray_space, ray_trainable
from nas_relucode.integrations.syne_tune import syne_tune_report, syne_tune_space
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.search_space import Interval, SearchSpace
from nas_relucode.training.data import load_data
from nas_relucode.training.recipe import Recipe


@pytest.fixture(scope="module")
def data():
    return load_data("digits", classes=(0, 1), train_samples=100, test_samples=20, validation=0.3)


@pytest.mark.filterwarnings("ignore:the objective head.1.largest_component_share is 1")
def test_a_candidate_gives_the_objective_s_own_numbers(data):
    names = ["accuracy", "head.1:largest_component_share"]
    results = run_candidate(objective_on(data, objectives=names), PARAMS)
    trial = FixedTrial(PARAMS)
    assert objective_on(data, objectives=names)(trial) == tuple(results[name] for name in names)
    whole = trial.user_attrs[ATTRIBUTE]
    for name, value in whole["joint"].items():
        assert results.get(name) == value
    for name, value in whole["layers"]["head.3"].items():
        assert results.get(f"head.3:{name}") == value
    assert {type(value) for value in results.values()} == {float}
    assert {"validation_loss", "train_accuracy", "parameters", "seconds", "epoch", "loss"} <= set(results)


def test_the_accuracy_on_the_test_split_is_not_reported(data):
    trial = FixedTrial(PARAMS)
    objective_on(data)(trial)
    assert trial.user_attrs[ATTRIBUTE]["test_accuracy"] is not None
    reports = []
    assert not [name for name in run_candidate(objective_on(data), PARAMS, report=reports.append) if "test" in name]
    assert not [name for report in reports for name in report if "test" in name]


def test_there_are_as_many_reports_as_epochs_and_the_last_has_everything(data):
    reports = []
    results = run_candidate(objective_on(data), PARAMS, report=reports.append)
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert reports[-1] == results
    trial = FixedTrial(PARAMS)
    objective_on(data)(trial)
    for report, point in zip(reports[:-1], trial.user_attrs[ATTRIBUTE]["curve"][1:], strict=False):
        assert report["accuracy"] == point["accuracy"]
        assert report["loss"] == point["loss"]
        assert report["head.1:cell_count"] == point["layers"]["head.1"]["cell_count"]


def test_the_objectives_own_callback_is_called_too(data):
    epochs = []
    objective = objective_on(data, on_epoch=lambda number, epoch, point: epochs.append(epoch.number))
    run_candidate(objective, PARAMS, report=lambda values: None)
    run_candidate(objective, PARAMS)
    assert epochs == [0, 1, 2, 3, 0, 1, 2, 3]


def test_parameters_may_be_text_or_numpy_s(data):
    expected = run_candidate(objective_on(data), PARAMS)
    given = {"head": np.str_("4-4"), "learning_rate": np.float64(0.1), "seed": "0"}
    assert run_candidate(objective_on(data), given) | {"seconds": 0} == expected | {"seconds": 0}


def test_seeds_make_a_difference(data):
    objective = objective_on(data, seeds=(0, 1))
    assert run_candidate(objective, PARAMS | {"seed": 1})["loss"] != run_candidate(objective, PARAMS)["loss"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"head": "8"}, r"no parameter 'learning_rate' in \['head'\]"),
        ({"head": "16", "learning_rate": 0.1}, "head '16' is not in the objective's search space"),
        ({"head": "8", "learning_rate": 0.5}, "learning_rate 0.5 is not in the objective's search space"),
        ({"head": "8", "learning_rate": "fast"}, "learning_rate 'fast' is not in"),
        ({"head": "8", "learning_rate": 0.1, "seed": 7}, "seed 7 is not in"),
        ({"head": "8", "learning_rate": 0.1, "epochs": 3}, "unknown parameter 'epochs'"),
    ],
)
def test_parameters_that_the_objective_does_not_have_are_refused(data, params, message):
    with pytest.raises(InputError, match=message):
        run_candidate(objective_on(data), params)


def test_learning_rates_of_an_interval_are_those_from_end_to_end(data):
    space = SearchSpace(heads=("8",), learning_rates=Interval(0.01, 0.1))
    objective = objective_on(data, space, recipe=Recipe(epochs=0))
    for rate in (0.01, 0.05, 0.1):
        run_candidate(objective, {"head": "8", "learning_rate": rate})
    with pytest.raises(InputError, match=r"learning_rate 0\.2 is not in"):
        run_candidate(objective, {"head": "8", "learning_rate": 0.2})


def test_a_training_that_diverges_is_an_error_with_the_reason(data):
    space = SearchSpace(heads=("8",), learning_rates=(1e30,))
    with pytest.raises(NonFiniteError, match="stopped being finite in epoch 1") as raised:
        run_candidate(objective_on(data, space), {"head": "8", "learning_rate": 1e30})
    assert isinstance(raised.value.__cause__, optuna.TrialPruned)


def test_the_objective_is_unchanged(data):
    objective = objective_on(data)
    run_candidate(objective, PARAMS, report=lambda values: None)
    assert objective.on_epoch is None


def test_directions_are_those_of_the_indices_unless_they_are_given():
    names = ["accuracy", "validation_loss", "cell_purity", "head.1:cell_count"]
    assert directions_of(names) == ["maximize", "minimize", "maximize", "minimize"]
    assert directions_of(["edge_count"], ["maximize"]) == ["maximize"]
    with pytest.raises(InputError, match="edge_count' has no direction"):
        directions_of(["accuracy", "edge_count"])
    with pytest.raises(InputError, match="1 directions for 2 objectives"):
        directions_of(["accuracy", "cell_count"], ["maximize"])
    for name in ("acuracy", "head.1:acuracy", "sparsity:"):
        with pytest.raises(InputError, match=f"unknown objective '{name}'"):
            directions_of([name])
    with pytest.raises(InputError, match="unknown direction of accuracy 'max'"):
        directions_of(["accuracy"], ["max"])


def test_one_seed_is_no_parameter():
    assert list(SPACE.distributions([0])) == ["head", "learning_rate"]
    assert list(SPACE.distributions([1, 2])) == ["head", "learning_rate", "seed"]


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("ray", "ray", lambda objective: ray_space(SPACE)),
        ("ray", "ray", lambda objective: ray_trainable(objective)),
        ("ray", "ray", lambda objective: ray_search(["accuracy"])),
        ("ax", "ax", lambda objective: ax_parameters(SPACE)),
        ("syne_tune", "syne-tune", lambda objective: syne_tune_space(SPACE)),
        ("syne_tune", "syne-tune", lambda objective: syne_tune_report(objective, PARAMS)),
        ("lightning", "lightning", lambda objective: lightning_callback(EpochIndices(None, objective.data))),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(data, monkeypatch, package, extra, call):
    for name in [name for name in sys.modules if name.split(".")[0] in (package, "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    with pytest.raises(InputError, match=rf"{package}\S* is not installed. Do: pip install 'nas-relucode\[{extra}\]'"):
        call(objective_on(data))


def test_a_package_that_is_there_but_broken_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import what_it_lacks")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_lacks"):
        needed("broken_package", extra="any")


def test_the_second_of_two_packages_will_do():
    assert needed("no_such_package.part", "math", extra="any").pi > 3
