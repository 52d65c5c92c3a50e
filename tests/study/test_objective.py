"""Objective: its values are recomputed from networks built, trained and scored by the functions below it."""

import dataclasses
import json
import math
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial, TrialState

from nas_relucode import (
    INDICES,
    ImageData,
    InputError,
    Objective,
    Recipe,
    SearchSpace,
    Split,
    build_network,
    load_data,
    score,
    train,
)
from nas_relucode.indices.registry import configured
from nas_relucode.study.predictions import correct_samples
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.search_space import Interval
from nas_relucode.study.settings import CodeSettings, NetworkSettings
from nas_relucode.training import Network
from nas_relucode.training.loop import accuracy

SPACE = SearchSpace(heads=("8", "4-4"), learning_rates=(0.1, 0.01))
RECIPE = Recipe(epochs=2, batch_size=32, momentum=0.9)

# Networks of a few neurons give more samples than codes: NASWOT's kernel is then singular.
DEFINED = [name for name in INDICES if name != "logdet_kernel"]


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", classes=[0, 1, 2], train_samples=200, test_samples=50, validation=0.25)


def make(data: ImageData, space: SearchSpace = SPACE, **settings: Any) -> Objective:
    return Objective(
        data, space, **({"network": NetworkSettings(backbone="none"), "recipe": RECIPE, "device": "cpu"} | settings)
    )


def fixed(head: str = "8", learning_rate: float = 0.1, **params: Any) -> FixedTrial:
    return FixedTrial({"head": head, "learning_rate": learning_rate} | params)


def retrained(data: ImageData, head: str, learning_rate: float, seed: int = 0) -> Network:
    network = build_network(head, data.image_shape, len(data.classes), backbone="none", seed=seed)
    train(network, data.train, learning_rate=learning_rate, recipe=RECIPE, seed=1234 + seed)
    return network


def run_once(objective: Objective, head: str = "8", learning_rate: float = 0.1, **params: Any) -> optuna.Study:
    study = optuna.create_study(directions=["maximize"] * len(objective.objectives))
    study.enqueue_trial({"head": head, "learning_rate": learning_rate} | params)
    study.optimize(objective, n_trials=1)
    return study


def test_a_fixed_trial_gets_the_values_in_the_order_asked_for(data: ImageData):
    names = ["edge_count", "accuracy", "cell_count", "head.3:cell_count"]
    space = SearchSpace(heads=("4-4",), learning_rates=(0.1,))
    values = make(data, space, objectives=names)(fixed("4-4"))
    network = retrained(data, "4-4", 0.1)
    expected = score(network, data, layers="head")
    assert values == (
        expected.joint["edge_count"],
        accuracy(network, data.validation),
        expected.joint["cell_count"],
        expected.layers["head.3"]["cell_count"],
    )
    assert all(type(value) is float for value in values)


@pytest.mark.parametrize(("head", "learning_rate"), [("8", 0.1), ("4-4", 0.01)])
def test_the_record_is_that_of_a_network_trained_again(data: ImageData, head: str, learning_rate: float):
    trial = fixed(head, learning_rate)
    make(data)(trial)
    record, network = trial.user_attrs[ATTRIBUTE], retrained(data, head, learning_rate)
    expected = score(network, data, layers="head").as_dict()
    assert {key: record[key] for key in ("joint", "layers", "saturated", "samples", "split")} == {
        key: expected[key] for key in ("joint", "layers", "saturated", "samples", "split")
    }
    assert record["accuracy"] == accuracy(network, data.validation)
    assert record["train_accuracy"] == accuracy(network, data.train)
    assert record["test_accuracy"] == accuracy(network, data.test)
    assert record["qualities"]["parameters"] == sum(parameter.numel() for parameter in network.parameters())


def test_codes_are_those_of_the_training_samples(data: ImageData):
    trial = fixed()
    make(data)(trial)
    assert trial.user_attrs[ATTRIBUTE]["split"] == "train"
    assert trial.user_attrs[ATTRIBUTE]["samples"] == len(data.train) == 150


def test_the_thresholds_asked_for_are_those_of_the_indices(data: ImageData):
    trial = fixed()
    make(data, codes=CodeSettings(graph_theta=2, distance_theta=3))(trial)
    expected = score(
        retrained(data, "8", 0.1), data, layers="head", indices=configured(graph_theta=2, distance_theta=3)
    )
    assert trial.user_attrs[ATTRIBUTE]["joint"] == expected.as_dict()["joint"]


def test_the_attribute_is_json_and_complete(data: ImageData):
    study = run_once(make(data, objectives=["accuracy", "cell_count"]), "4-4")
    (trial,) = study.trials
    record = json.loads(json.dumps(trial.user_attrs, allow_nan=False))[ATTRIBUTE]
    assert ATTRIBUTE in trial.user_attrs
    assert record["objectives"] == ["accuracy", "cell_count"]
    assert (record["version"], record["params"], record["seed"]) == (2, {"head": "4-4", "learning_rate": 0.1}, 0)
    assert record["validation"]["samples"] == len(data.validation) == 50
    correct = correct_samples(record["validation"])
    assert correct is not None
    assert correct.mean() == record["accuracy"]
    assert correct_samples(record["test"]).mean() == record["test_accuracy"]
    assert record["classes"] == 3
    assert record["device"] == "cpu"
    assert record["qualities"]["seconds"] >= 0
    on_request = {name for name, index in INDICES.items() if index.on_request}
    assert set(record["joint"]) == set(INDICES) - on_request
    assert set(record["layers"]) == {"head.1", "head.3"}
    of_layers = {name for name, index in INDICES.items() if not index.joint}
    assert all(set(layer) == of_layers for layer in record["layers"].values())
    assert trial.values == [record["accuracy"], record["joint"]["cell_count"]]


def test_the_curve_has_a_point_before_the_training_and_one_after_each_epoch(data: ImageData):
    trial = fixed("4-4")
    make(data)(trial)
    record = trial.user_attrs[ATTRIBUTE]
    assert [point["epoch"] for point in record["curve"]] == [0, 1, 2]
    untrained = build_network("4-4", data.image_shape, 3, backbone="none", seed=0)
    expected = score(untrained, data, layers="head")
    first, last = record["curve"][0], record["curve"][-1]
    assert first["loss"] is None
    assert first["accuracy"] == accuracy(untrained, data.validation)
    for name in ("cell_count", "correct_cell_count"):
        assert first["joint"][name] == expected.joint[name]
        assert last["joint"][name] == record["joint"][name]
        assert last["layers"]["head.3"][name] == record["layers"]["head.3"][name]
    assert (last["accuracy"], last["train_accuracy"]) == (record["accuracy"], record["train_accuracy"])
    assert last["loss"] > 0


def test_the_callback_gets_the_trial_the_epoch_and_the_point(data: ImageData):
    calls: list[tuple[int, int, dict[str, Any]]] = []
    objective = make(data, on_epoch=lambda number, epoch, point: calls.append((number, epoch.number, dict(point))))
    study = run_once(objective)
    study.enqueue_trial({"head": "4-4", "learning_rate": 0.1})
    study.optimize(objective, n_trials=1)
    assert [(number, epoch) for number, epoch, _ in calls] == [(n, e) for n in (0, 1) for e in (0, 1, 2)]
    curves = [point for trial in study.trials for point in trial.user_attrs[ATTRIBUTE]["curve"]]
    assert [point for _, _, point in calls] == curves


@pytest.mark.filterwarnings("ignore:the objective")  # some are saturated on so few samples
def test_the_test_split_never_influences_the_values(data: ImageData):
    other = dataclasses.replace(data, test=Split(torch.rand(7, 1, 8, 8), torch.zeros(7, dtype=torch.int64)))
    one, two = fixed(), fixed()
    asked = {"objectives": ["accuracy", *DEFINED], "codes": CodeSettings(wanted_size=(1.0, 10.0))}
    assert make(data, **asked)(one) == make(other, **asked)(two)
    record, record_of_other = one.user_attrs[ATTRIBUTE], two.user_attrs[ATTRIBUTE]
    for changes in ("test_accuracy", "test", "qualities"):
        del record[changes], record_of_other[changes]
    assert record == record_of_other


def test_data_without_a_test_split_have_no_test_accuracy(data: ImageData):
    trial = fixed()
    make(dataclasses.replace(data, test=Split(data.test.inputs[:0], data.test.labels[:0])))(trial)
    assert trial.user_attrs[ATTRIBUTE]["test_accuracy"] is None


def test_it_runs_in_anyones_study_with_their_directions_and_sampler(data: ImageData):
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=1))
    objective = make(data, objectives=["cell_count", "accuracy"])
    study.optimize(objective, n_trials=3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    for trial in study.trials:
        record = trial.user_attrs[ATTRIBUTE]
        assert trial.values == [record["joint"]["cell_count"], record["accuracy"]]
        assert trial.params == record["params"]


def test_a_study_of_one_objective_is_optunas_single_objective_study(data: ImageData):
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"head": "8", "learning_rate": 0.1})
    study.optimize(make(data, objectives=["accuracy"]), n_trials=1)
    assert study.best_value == accuracy(retrained(data, "8", 0.1), data.validation)


def test_a_candidate_gives_the_same_values_after_any_other_training(data: ImageData):
    objective = make(data)
    first = objective(fixed("8", 0.1))
    objective(fixed("4-4", 0.01))
    torch.rand(5)
    assert objective(fixed("8", 0.1)) == first


def test_the_accuracy_floor_is_a_constraint_that_best_trials_respect(data: ImageData):
    def run(floor: float | None) -> optuna.Study:
        study = optuna.create_study(directions=["maximize", "minimize"])
        for head in SPACE.parameters["head"].choices:
            study.enqueue_trial({"head": head, "learning_rate": 0.01})
        study.optimize(make(data, accuracy_floor=floor), n_trials=2)
        return study

    free = run(None)
    accuracies = [trial.values[0] for trial in free.trials]
    assert len(set(accuracies)) == 2  # else this test says nothing
    floor = sum(accuracies) / 2
    study = run(floor)
    assert [trial.values for trial in study.trials] == [trial.values for trial in free.trials]
    assert [trial.constraints for trial in study.trials] == [
        {"accuracy_floor": pytest.approx(floor - accuracy)} for accuracy in accuracies
    ]
    better = accuracies.index(max(accuracies))
    assert [trial.number for trial in study.best_trials] == [better]


def test_a_network_exactly_on_the_floor_is_feasible(data: ImageData):
    trial = fixed()
    (reached, _) = make(data)(trial)
    again = fixed()
    make(data, accuracy_floor=reached)(again)
    assert again.constraints == {"accuracy_floor": 0.0}


def test_a_study_of_another_number_of_directions_is_refused_before_the_training(data: ImageData):
    epochs: list[int] = []
    objective = make(data, on_epoch=lambda number, epoch, point: epochs.append(epoch.number))
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    with pytest.raises(InputError, match=r"3 directions.*2 values \(accuracy, cell_count\)"):
        study.optimize(objective, n_trials=1)
    assert epochs == []


def test_a_loss_that_stops_being_finite_prunes_the_trial_and_keeps_the_reason(data: ImageData):
    recipe = Recipe(epochs=3, batch_size=15, weight_decay=1.0)  # each of ten steps multiplies the weights by a million
    space = SearchSpace(heads=("8",), learning_rates=(1e6,))
    study = run_once(make(data, space, recipe=recipe), "8", 1e6)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    record = json.loads(json.dumps(trial.user_attrs[ATTRIBUTE], allow_nan=False))
    assert "finite" in record["pruned"]
    assert "1e+06" in record["pruned"]
    assert (record["params"], record["seed"]) == ({"head": "8", "learning_rate": 1e6}, 0)
    assert [point["epoch"] for point in record["curve"]] == [0]


def test_a_fixed_trial_whose_loss_stops_being_finite_raises_optunas_pruned(data: ImageData):
    space = SearchSpace(heads=("8",), learning_rates=(1e36,))
    trial = fixed("8", 1e36)
    with pytest.raises(optuna.TrialPruned, match="finite"):
        make(data, space)(trial)
    assert "finite" in trial.user_attrs[ATTRIBUTE]["pruned"]


def test_finite_weights_with_outputs_that_overflow_prune_the_trial_too(data: ImageData):
    # One step from a finite loss: the weights are finite still, products of theirs are not.
    space = SearchSpace(heads=("8",), learning_rates=(1e22,))
    recipe = Recipe(epochs=1, batch_size=len(data.train))
    network = build_network("8", data.image_shape, 3, backbone="none")
    train(network, data.train, learning_rate=1e22, recipe=recipe)
    assert all(bool(parameter.isfinite().all()) for parameter in network.parameters())
    with torch.no_grad():
        assert not bool(network(data.train.inputs).isfinite().all())
    study = run_once(make(data, space, recipe=recipe), "8", 1e22)
    assert study.trials[0].state == TrialState.PRUNED
    assert "finite" in study.trials[0].user_attrs[ATTRIBUTE]["pruned"]


def test_an_objective_that_is_undefined_for_a_candidate_prunes_the_trial(data: ImageData):
    one_of_each = torch.tensor([int((data.train.labels == label).nonzero()[0]) for label in range(3)])
    few = dataclasses.replace(data, train=Split(data.train.inputs[one_of_each], data.train.labels[one_of_each]))
    study = run_once(make(few, objectives=["accuracy", "within_class_distance"]))  # no two samples of one class
    assert study.trials[0].state == TrialState.PRUNED
    record = json.loads(json.dumps(study.trials[0].user_attrs[ATTRIBUTE], allow_nan=False))
    assert "within_class_distance is undefined" in record["pruned"]
    assert record["joint"]["within_class_distance"] is None


def test_several_seeds_add_the_parameter_seed_and_change_the_weights(data: ImageData):
    objective = make(data, seeds=(0, 5))
    study = optuna.create_study(directions=["maximize", "minimize"])
    for seed in (0, 5):
        study.enqueue_trial({"head": "8", "learning_rate": 0.1, "seed": seed})
    study.optimize(objective, n_trials=2)
    assert [trial.params["seed"] for trial in study.trials] == [0, 5]
    for trial in study.trials:
        seed = trial.params["seed"]
        expected = score(retrained(data, "8", 0.1, seed), data, layers="head")
        assert trial.user_attrs[ATTRIBUTE]["joint"] == expected.as_dict()["joint"]
        assert trial.user_attrs[ATTRIBUTE]["seed"] == seed
    curves = [trial.user_attrs[ATTRIBUTE]["curve"] for trial in study.trials]
    assert curves[0][0] != curves[1][0]


def test_one_seed_is_no_parameter(data: ImageData):
    study = run_once(make(data, seeds=(7,)))
    assert set(study.trials[0].params) == {"head", "learning_rate"}
    assert study.trials[0].user_attrs[ATTRIBUTE]["seed"] == 7
    expected = score(retrained(data, "8", 0.1, 7), data, layers="head")
    assert study.trials[0].user_attrs[ATTRIBUTE]["joint"] == expected.as_dict()["joint"]


def test_an_interval_of_learning_rates_is_sampled(data: ImageData):
    space = SearchSpace(heads=("8",), learning_rates=Interval(0.01, 0.1))
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(make(data, space), n_trials=2)
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert len(set(rates)) == 2
    assert all(0.01 <= rate <= 0.1 for rate in rates)


@pytest.mark.filterwarnings("ignore:the objective")  # saturated on few samples
def test_layers_of_the_backbone_may_be_chosen(data: ImageData):
    trial = fixed("4-4")
    make(
        data,
        network=NetworkSettings(backbone="small_conv"),
        codes=CodeSettings(layers=("backbone", "head.1")),
        objectives=["backbone.1:cell_count"],
    )(trial)
    assert set(trial.user_attrs[ATTRIBUTE]["layers"]) == {"backbone.1", "backbone.3", "head.1"}


KNOWN = "accuracy, validation_loss, cell_count"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({"objectives": ["accuracy", name]}, KNOWN)
            for name in ("cells", "head.1:cells", "head.1:accuracy", ":", "")
        ),
        ({"objectives": ["accuracy", "head.3:cell_count"]}, r"head=8.*'head\.3'.*head\.1"),  # 4-4 has it, 8 has not
        ({"objectives": ["accuracy", "head.1:parameter_count"]}, "parameter_count"),  # they are the network's
        ({"objectives": []}, "objectives is empty"),
        ({"codes": CodeSettings(layers=("tail",))}, r"tail.*head\.1"),
        ({"network": NetworkSettings(backbone="vgg16")}, "8x8"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once_with_what_is_known(
    data: ImageData, settings: dict[str, Any], message: str
):
    with pytest.raises(InputError, match=message):
        make(data, **settings)


def test_an_empty_validation_split_is_refused(data: ImageData):
    with pytest.raises(InputError, match="validation"):
        make(dataclasses.replace(data, validation=Split(data.train.inputs[:0], data.train.labels[:0])))


@pytest.mark.filterwarnings("ignore:the objective")  # saturated on few samples
def test_values_are_finite_floats_for_every_objective_there_is(data: ImageData):
    values = make(data, objectives=["accuracy", *DEFINED], codes=CodeSettings(wanted_size=(1.0, 10.0)))(fixed("4-4"))
    assert len(values) == 1 + len(DEFINED)
    assert all(math.isfinite(value) for value in values)


def test_slices_are_drawn_for_the_first_seed_and_what_cannot_be_drawn_is_left_out(data: ImageData, tmp_path: Any):
    space = SearchSpace(heads=("8", "1"), learning_rates=(0.1,))
    objective = make(data, space, codes=CodeSettings(slices=True, geometry=True), folder=tmp_path, seeds=[3, 4])
    study = run_once(objective, "8", seed=3)
    record = study.trials[0].user_attrs[ATTRIBUTE]
    assert record["slices"] == ["trial_0.png", "trial_0_near.png"]
    assert sorted(path.name for path in (tmp_path / "slices").iterdir()) == record["slices"]
    assert "slices" not in run_once(objective, "8", seed=4).trials[0].user_attrs[ATTRIBUTE]
    alone = run_once(objective, "1", seed=3).trials[0].user_attrs[ATTRIBUTE]["slices"]
    assert "trial_0_near.png" not in alone  # one neuron, one direction
    assert record["joint"]["margin_mean_correct"] > 0
    json.dumps(record, allow_nan=True)


def test_the_report_shows_the_slices_that_were_drawn(data: ImageData, tmp_path: Any):
    from nas_relucode import write_report

    space = SearchSpace(heads=("8",), learning_rates=(0.1,))
    study = run_once(make(data, space, codes=CodeSettings(slices=True), folder=tmp_path), "8")
    write_report(study, tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('<img alt="The cells of') == 2
    (tmp_path / "slices" / "trial_0.png").unlink()
    write_report(study, tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8").count('<img alt="The cells of') == 1


def test_a_study_that_minimizes_accuracy_is_refused_before_the_training(data: ImageData):
    objective = make(data, objectives=["accuracy", "cell_count"])
    with pytest.raises(InputError, match=r"minimize accuracy.*\['maximize', 'maximize'\]"):
        optuna.create_study(directions=["minimize", "maximize"]).optimize(objective, n_trials=1)
    study = optuna.create_study(directions=["maximize", "maximize"])  # of an index either may be wanted
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.COMPLETE


@pytest.mark.parametrize("seeds", [3, "01", [], ["a"], [0, 0], [1.5], [-1], None])
def test_seeds_that_are_none_are_refused(data: ImageData, seeds: Any):
    with pytest.raises(InputError, match=r"seed.*whole number|each once"):
        make(data, seeds=seeds)


def test_what_is_no_data_no_space_and_no_list_of_objectives_is_named(data: ImageData):
    for arguments, settings, words in (
        (("digits",), {}, "a str.*load_data"),
        ((data, "table1"), {}, "a str.*SearchSpace"),
        ((data,), {"objectives": 3}, "objectives holds 3"),
    ):
        with pytest.raises(InputError, match=words):
            make(*arguments, **settings)
    assert make(data, objectives="accuracy").objectives == ["accuracy"]
