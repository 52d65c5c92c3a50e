"""Networks of one's own in an Objective: any parameters, conditional ones too, one's own training, safe defaults."""

from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial, TrialState
from torch import nn

from nas_relucode import Candidate, ImageData, InputError, Objective, Recipe, SearchSpace, load_data, select
from nas_relucode.study.predictions import correct_samples
from nas_relucode.study.record import ATTRIBUTE, RELATIVE_FLOOR
from nas_relucode.study.settings import CodeSettings
from nas_relucode.training.loop import accuracy

SETTINGS: dict[str, Any] = {"recipe": Recipe(epochs=1, batch_size=32), "device": "cpu"}
PIXELS = 64


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", classes=[0, 1, 2], train_samples=150, test_samples=30, validation=0.3)


def build(trial: Any) -> nn.Module:
    """A perceptron with six parameters of every type, of which one is there for deep ones only."""
    depth = trial.suggest_int("depth", 1, 2)
    widths = [trial.suggest_categorical("width", [4, 8])]
    if depth == 2:
        widths.append(trial.suggest_int("second_width", 2, 6, step=2))
    trial.suggest_float("learning_rate", 0.01, 0.2, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.3)
    bias = trial.suggest_categorical("bias", [True, False, None])
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in zip([PIXELS, *widths], widths, strict=False):
        layers += [nn.Linear(inputs, outputs, bias=bool(bias)), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 3))


def perceptron(width: int, *, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, classes))


WIDTHS = SearchSpace(parameters={"width": [4, 8], "learning_rate": [0.1]})


def record_by(objective: Objective, seed: int | None = None, **params: Any) -> dict[str, Any]:
    trial = FixedTrial(params)
    objective(trial, seed)
    record: dict[str, Any] = trial.user_attrs[ATTRIBUTE]
    return record


@pytest.mark.parametrize("sampler", [optuna.samplers.NSGAIISampler, optuna.samplers.TPESampler])
def test_a_sampler_drives_six_parameters_of_which_one_is_conditional(data: ImageData, sampler: Any):
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler(seed=0))
    study.optimize(Objective(data, build=build, **SETTINGS), n_trials=8)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 8
    for trial in study.trials:
        record = trial.user_attrs[ATTRIBUTE]
        assert record["params"] == trial.params
        assert ("second_width" in record["params"]) == (record["params"]["depth"] == 2)
        assert len(record["layers"]) == record["params"]["depth"]
    assert {trial.params["depth"] for trial in study.trials} == {1, 2}
    assert len(select(study).networks) == 8


def test_the_record_is_that_of_the_network_built_and_trained_again(data: ImageData):
    objective = Objective(data, build=build, **SETTINGS)
    params = {"depth": 2, "width": 8, "second_width": 4, "learning_rate": 0.1, "dropout": 0.2, "bias": None}
    records = [record_by(objective, seed, **params) for seed in (None, 3, 3)]
    assert [record["seed"] for record in records] == [0, 3, 3]
    assert records[0]["validation_loss"] != records[1]["validation_loss"] == records[2]["validation_loss"]
    network = objective.trained(Candidate(params, seed=3))  # dropout is drawn anew from the seed
    assert accuracy(network, data.validation) == records[1]["accuracy"]
    correct = correct_samples(records[1]["validation"])
    assert correct is not None
    with torch.no_grad():
        expected = network.eval()(data.validation.inputs).argmax(dim=1) == data.validation.labels
    assert correct.tolist() == expected.tolist()


def test_a_factory_gets_the_parameters_and_what_else_it_names(data: ImageData):
    calls: list[dict[str, Any]] = []

    def factory(width: int, image_shape: Any, classes: int, seed: int) -> nn.Module:
        calls.append({"width": width, "image_shape": image_shape, "classes": classes, "seed": seed})
        return perceptron(width, image_shape=image_shape, classes=classes)

    record = record_by(Objective(data, WIDTHS, factory=factory, **SETTINGS), 5, width=8, learning_rate=0.1)
    assert calls[-1] == {"width": 8, "image_shape": (1, 8, 8), "classes": 3, "seed": 5}
    assert record["params"] == {"width": 8, "learning_rate": 0.1}
    assert record["layers"].keys() == {"2"}  # the fully connected layer
    again = record_by(Objective(data, WIDTHS, factory=perceptron, **SETTINGS), 5, width=8, learning_rate=0.1)
    assert again["joint"] == record["joint"]  # its weights are drawn from the seed, whatever torch's own state is


def test_the_learning_rate_may_be_the_same_for_all(data: ImageData):
    space = SearchSpace(parameters={"width": [4, 8]})
    alone = record_by(Objective(data, space, factory=perceptron, learning_rate=0.1, **SETTINGS), width=8)
    searched = record_by(Objective(data, WIDTHS, factory=perceptron, **SETTINGS), width=8, learning_rate=0.1)
    assert alone["joint"] == searched["joint"]
    assert alone["params"] == {"width": 8}


def test_fit_trains_the_network_in_the_place_of_the_recipe_and_may_suggest_parameters(data: ImageData):
    def fit(network: nn.Module, images: ImageData, *, trial: Any, seed: int) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=trial.suggest_float("rate", 1e-3, 1e-1))
        for _ in range(trial.suggest_int("steps", 5, 20)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images.train.inputs), images.train.labels).backward()
            optimizer.step()

    def own(trial: Any) -> nn.Module:
        return perceptron(trial.suggest_int("width", 4, 8), image_shape=(1, 8, 8), classes=3)

    study = optuna.create_study(directions=["maximize", "minimize"])
    study.optimize(Objective(data, build=own, fit=fit, device="cpu"), n_trials=2)
    for trial in study.trials:
        record = trial.user_attrs[ATTRIBUTE]
        assert record["params"] == trial.params
        assert record["params"].keys() == {"width", "rate", "steps"}
        assert record["curve"] == []
        assert trial.user_attrs["network"] == Candidate(trial.params).label
        torch.manual_seed(0)
        network = own(FixedTrial(trial.params))
        torch.manual_seed(0)
        fit(network, data, trial=FixedTrial(trial.params), seed=0)
        assert record["accuracy"] == accuracy(network, data.validation)


def test_a_network_far_below_the_best_so_far_is_infeasible(data: ImageData):
    """... so that no sampler spends its trials on networks that collapsed into one cell."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for width, rate in ((8, 0.1), (8, 1e-9)):
        study.enqueue_trial({"width": width, "learning_rate": rate})
    space = SearchSpace(parameters={"width": [8], "learning_rate": {"low": 1e-9, "high": 0.1, "log": True}})
    recipe = Recipe(epochs=10, batch_size=16)
    study.optimize(Objective(data, space, factory=perceptron, recipe=recipe, margin=0.01, device="cpu"), n_trials=2)
    good, bad = (trial.values[0] for trial in study.trials)
    assert good - bad > 0.1  # else this test says nothing
    assert [trial.constraints[RELATIVE_FLOOR] for trial in study.trials] == pytest.approx([-0.1, good - 0.1 - bad])
    assert [trial.number for trial in study.best_trials] == [0]


def convolutions(channels: int, *, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(image_shape[0], channels, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


def test_without_a_fully_connected_layer_the_maps_are_read_with_a_warning(data: ImageData):
    space = SearchSpace(parameters={"channels": [4]})
    with pytest.warns(UserWarning, match=r"maps.*layers="):
        objective = Objective(data, space, factory=convolutions, learning_rate=0.1, **SETTINGS)
    with pytest.warns(UserWarning, match=r"cell_count.*at an end of its range.*maps='channel'"):
        record = record_by(objective, channels=4)
    assert record["layers"].keys() == {"1"}
    quiet = Objective(
        data,
        space,
        factory=convolutions,
        learning_rate=0.1,
        codes=CodeSettings(layers=("all",), maps="channel"),
        **SETTINGS,
    )
    assert record_by(quiet, channels=4)["layers"].keys() == {"1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "search space or from build"),
        ({"space": WIDTHS, "build": build}, "search space or from build"),
        ({"space": WIDTHS}, r"width.*factory"),
        ({"space": SearchSpace(parameters={"width": [4]}), "factory": perceptron}, r"no learning_rate"),
        ({"space": WIDTHS, "factory": lambda depth: nn.Identity()}, r"cannot be called with width"),
        ({"space": WIDTHS, "factory": lambda width: "text"}, r"returns a str.*torch\.nn\.Module"),
        ({"build": build, "fit": print, "codes": CodeSettings(kept_epochs=(1,)), "folder": "."}, "kept_epochs"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_trial(data: ImageData, arguments: Any, message: str):
    with pytest.raises(InputError, match=message):
        Objective(data, **(SETTINGS | arguments))


def test_a_build_without_a_learning_rate_says_where_to_give_one(data: ImageData):
    objective = Objective(
        data, build=lambda trial: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU()), **SETTINGS
    )
    with pytest.raises(InputError, match=r"learning_rate.*argument"):
        objective(FixedTrial({}))
