"""The recorder at the end of a user's own objective."""

from __future__ import annotations

import warnings

import optuna
import pytest
import torch
from optuna.trial import FixedTrial, TrialState
from torch import nn

import nas_relucode as rc
from nas_relucode.errors import InputError
from nas_relucode.study.record import RELATIVE_FLOOR, checked_record, complete_records

FEATURES, CLASSES = 4, 3
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def samples(count: int = 60, seed: int = 0, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, FEATURES, generator=generator)
    return inputs, inputs[:, :classes].argmax(dim=1)


def build(width: int, seed: int = 0, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, classes))


def recorder(**changes) -> rc.Recorder:
    settings = {"train": samples(), "validation": samples(40, 1), "test": samples(30, 2), "indices": ["cell_count"]}
    return rc.Recorder(**(settings | changes))


def run(record: rc.Recorder, network, trials: int = 1, study: optuna.Study | None = None) -> optuna.Study:
    """A study whose objective records what ``network(trial)`` returns."""
    study = study or optuna.create_study(directions=record.directions)
    study.optimize(lambda trial: record(trial, network(trial)), n_trials=trials)
    return study


def test_a_trial_has_the_values_and_the_record_that_score_and_sklearn_give():
    record = recorder(objectives=["accuracy", "cell_count", "0:cell_count", "flops"])
    network = build(5)

    def suggest(trial):
        trial.suggest_int("width", 5, 5)
        trial.suggest_categorical("skip", [None])
        return network

    record = recorder(objectives=["accuracy", "cell_count", "1:cell_count", "flops"])
    trial = run(record, suggest).trials[0]
    inputs, labels = samples(40, 1)
    right = int((network(inputs).argmax(dim=1) == labels).sum())
    cells = rc.score(network, samples()[0]).joint["cell_count"]
    assert trial.values == [right / 40, cells, cells, 2 * (FEATURES * 5 + 5 * CLASSES)]
    stored = checked_record(trial, "test")
    assert stored["params"] == {"width": 5, "skip": None}
    assert (stored["accuracy"], stored["classes"]) == (right / 40, CLASSES)
    assert stored["test_accuracy"] == rc.score(network, samples(30, 2)).accuracy
    assert stored["qualities"]["seconds"] >= 0


def test_optuna_dashboard_finds_plain_values_beside_the_record():
    record = recorder()
    trial = run(record, lambda trial: build(trial.suggest_int("width", 5, 5))).trials[0]
    shown = {name: value for name, value in trial.user_attrs.items() if name != "relucode"}
    assert shown == {"network": "width=5", "seed": 0, "accuracy": trial.values[0], "cell_count": trial.values[1]}


def test_one_objective_gives_a_number_and_several_a_tuple():
    assert isinstance(recorder(objectives=["accuracy"])(FixedTrial({}), build(3)), float)
    assert isinstance(recorder()(FixedTrial({}), build(3)), tuple)


def test_directions_are_the_objectives_own_unless_they_are_given():
    names = ["accuracy", "validation_loss", "cell_count", "parameters", ("edge_count", "maximize")]
    expected = ["maximize", "minimize", "minimize", "minimize", "maximize"]
    assert recorder(objectives=names).directions == expected


@pytest.mark.parametrize(
    ("objectives", "named"),
    [
        ([], "accuracy"),
        (["edge_count"], r"\('edge_count', 'minimize'\)"),
        (["accuracy", "accuracy"], "accuracy"),
        (["acuracy"], "accuracy"),
        ([("cell_count", "down")], "minimize"),
        ([":cell_count"], ":cell_count"),
        (["head:parameter_count"], "head:parameter_count"),
    ],
)
def test_objectives_that_cannot_be_used_are_refused_before_training(objectives, named):
    with pytest.raises(InputError, match=named):
        recorder(objectives=objectives)


@pytest.mark.parametrize("settings", [{"margin": 0}, {"margin": 5}, {"accuracy_floor": 90}, {"batch_size": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError):
        recorder(**settings)


def test_an_empty_validation_set_is_refused_when_the_recorder_is_made():
    with pytest.raises(InputError, match="validation"):
        recorder(validation=samples(0))


def test_an_index_and_a_quality_of_the_users_own_may_be_objectives():
    class MeanCellSize(rc.indices.Index):
        """Samples / occupied cells."""

        direction = "maximize"

        def compute(self, inputs):
            return inputs.samples / len(inputs.cells)

    layers = rc.qualities.Quality("layers", "", "minimize", "Modules.", lambda network: len(network), False)
    record = recorder(objectives=["mean_cell_size", "layers"], indices=[MeanCellSize()], qualities=[layers])
    assert record.directions == ["maximize", "minimize"]
    size, count = record(FixedTrial({}), build(3))
    assert size == 60 / rc.score(build(3), samples()[0]).joint["cell_count"]
    assert count == 3


def test_an_objective_is_computed_also_where_the_indices_do_not_name_it():
    record = recorder(indices=["dead_neuron_fraction"], objectives=["accuracy", "1:cell_count"])
    study = run(record, lambda trial: build(3))
    (_, stored), *_ = complete_records(study)
    assert set(stored["joint"]) == {"dead_neuron_fraction", "cell_count"}


def test_outputs_that_are_nan_prune_the_trial_and_keep_the_reason():
    network = build(3)
    network[2].bias.data.fill_(torch.nan)
    trial = run(recorder(), lambda trial: network).trials[0]
    assert trial.state == TrialState.PRUNED
    assert "finite" in trial.user_attrs["relucode"]["pruned"]


def test_an_undefined_objective_prunes_the_trial_and_names_it():
    record = recorder(objectives=[("class_distance_ratio", "minimize")], train=(samples()[0][:1], samples()[1][:1]))
    trial = run(record, lambda trial: build(3)).trials[0]
    assert trial.state == TrialState.PRUNED
    assert "class_distance_ratio" in trial.user_attrs["relucode"]["pruned"]


def test_networks_with_different_numbers_of_classes_are_refused_with_the_trials():
    record = recorder()
    with pytest.raises(InputError, match=r"trial 1 has 7 classes.*trial 0\s+has 3"):
        run(record, lambda trial: build(3, classes=[3, 7][trial.number]), trials=2)


def test_other_validation_samples_than_those_of_the_study_are_a_warning_that_names_the_trials():
    study = run(recorder(), lambda trial: build(3))
    with pytest.warns(UserWarning, match=r"trial 1 .* trial 0"):
        run(recorder(validation=samples(40, 5)), lambda trial: build(3), study=study)


def test_a_study_with_another_number_of_directions_is_refused():
    study = optuna.create_study(directions=["maximize"])
    with pytest.raises(InputError, match=r"record\.directions"):
        run(recorder(), lambda trial: build(3), study=study)


def test_a_study_that_minimizes_what_the_recorder_maximizes_is_refused_at_the_first_trial():
    built = []
    record = recorder(objectives=["accuracy"])
    with pytest.raises(InputError, match=r"minimize accuracy.*directions=record\.directions"):
        run(record, lambda trial: built.append(trial) or build(3), trials=3, study=optuna.create_study())
    assert len(built) == 1
    with pytest.raises(InputError, match=r"maximize cell_count.*record\.directions"):
        run(recorder(), lambda trial: build(3), study=optuna.create_study(directions=["maximize", "maximize"]))
    run(recorder(objectives=[("accuracy", "minimize")]), lambda trial: build(3), study=optuna.create_study())


@pytest.mark.parametrize("seed", [1.5, -1, "a", True, 2**63])
def test_a_seed_that_is_none_is_refused_wherever_it_comes_from(seed):
    record = recorder(objectives=["accuracy"])
    with pytest.raises(InputError, match=r"seed .*whole number"):
        record(FixedTrial({}), build(3), seed=seed)
    trial = FixedTrial({"seed": seed})
    trial.suggest_categorical("seed", [seed])
    with pytest.raises(InputError, match=r"seed .*whole number"):
        record(trial, build(3))


def test_a_study_with_a_trial_whose_seed_was_refused_can_be_read():
    record = recorder(objectives=["accuracy"])
    study = run(record, lambda trial: build(3))

    def seeded(trial: optuna.Trial) -> float:
        trial.suggest_float("seed", 1.5, 1.5)
        return record(trial, build(3))

    study.optimize(seeded, n_trials=1, catch=(InputError,))
    assert rc.select(study).networks["seeds"].tolist() == [1]


@pytest.mark.parametrize("accuracy", ["x", -0.1, 93, float("nan"), True])
def test_an_accuracy_that_is_no_fraction_is_refused(accuracy):
    with pytest.raises(InputError, match=r"accuracy.* from 0 to 1"):
        recorder(objectives=["accuracy"])(FixedTrial({}), build(3), accuracy=accuracy)


def test_what_is_no_trial_is_refused():
    with pytest.raises(InputError, match=r"a Sequential.*record\(trial, network"):
        recorder(objectives=["accuracy"])(build(3), FixedTrial({}))


def test_a_misspelt_quality_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r"'robustness'.*list qualities"):
        recorder(qualities=["robustness"])


def test_a_saturated_objective_is_a_warning_in_the_first_trial_only():
    record = recorder(train=samples(8))
    with pytest.warns(UserWarning, match=r"cell_count is 8 .*layers") as warned:
        run(record, lambda trial: build(60), trials=3)
    assert len(warned) == 1


def test_layers_are_the_fully_connected_ones_and_convolutions_are_a_warning():
    images = torch.randn(20, 1, 6, 6), torch.arange(20) % CLASSES
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, CLASSES))
    both = nn.Sequential(*convolution[:3], nn.Linear(32, 2), nn.ReLU(), nn.Linear(2, CLASSES))
    record = recorder(train=images, validation=images, test=None, objectives=["accuracy"])
    study = run(record, lambda trial: both)
    assert list(study.trials[0].user_attrs["relucode"]["layers"]) == ["4"]
    with pytest.warns(UserWarning, match="maps='channel'"):
        run(recorder(train=images, validation=images, test=None, objectives=["accuracy"]), lambda trial: convolution)
    run(
        recorder(train=images, validation=images, test=None, objectives=["accuracy"], maps="channel", layers="all"),
        lambda trial: convolution,
    )


def test_the_seed_is_that_given_or_a_parameter_of_the_trial_and_both_must_agree():
    record = recorder(objectives=["accuracy"])
    trial = FixedTrial({"seed": 3})
    trial.suggest_int("seed", 0, 9)
    record(trial, build(3))
    assert trial.user_attrs["relucode"]["seed"] == 3
    assert trial.user_attrs["relucode"]["params"] == {}
    with pytest.raises(InputError, match="seed=3"):
        record(trial, build(3), seed=4)
    other = FixedTrial({})
    record(other, build(3), seed=7)
    assert other.user_attrs["relucode"]["seed"] == 7


def test_the_users_own_accuracies_are_the_values():
    record = recorder(objectives=["accuracy"])
    trial = FixedTrial({})
    assert record(trial, build(3), accuracy=0.93, test_accuracy=0.9) == 0.93
    assert trial.user_attrs["relucode"]["test_accuracy"] == 0.9
    with pytest.raises(InputError, match=r"93.*0\.93"):
        record(trial, build(3), accuracy=93)


def test_a_network_is_feasible_if_it_lies_at_most_ten_margins_below_the_best_so_far():
    record = recorder(objectives=["accuracy"], margin=0.01)
    study = optuna.create_study(directions=record.directions)
    values = [0.5, 0.45, 0.9, 0.81, 0.79]
    study.optimize(lambda trial: record(trial, build(3), accuracy=values[trial.number]), n_trials=5)
    assert [trial.constraints[RELATIVE_FLOOR] <= 0 for trial in study.trials] == [True, True, True, True, False]
    assert study.trials[4].constraints[RELATIVE_FLOOR] == pytest.approx(0.9 - 0.1 - 0.79)


def test_a_named_floor_takes_the_place_of_the_relative_one():
    record = recorder(objectives=["accuracy"], accuracy_floor=0.7)
    study = optuna.create_study(directions=record.directions)
    study.optimize(lambda trial: record(trial, build(3), accuracy=[0.69, 0.71][trial.number]), n_trials=2)
    assert [trial.constraints["accuracy_floor"] <= 0 for trial in study.trials] == [False, True]


def test_codes_are_those_of_the_validation_samples_where_no_others_are_given():
    record = rc.Recorder(validation=samples(40, 1), objectives=["cell_count"])
    assert record(FixedTrial({}), build(3)) == rc.score(build(3), samples(40, 1)[0]).joint["cell_count"]
