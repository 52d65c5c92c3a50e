"""Networks that come from anywhere are compared as those of a study are."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
import simulated_study
import torch
from simulated_study import LABELS, SAMPLES, Objective, network, searched
from torch import nn

import nas_relucode as rc
from nas_relucode.errors import InputError

pytestmark = pytest.mark.usefixtures("without_figure")

NUMBERS = torch.arange(SAMPLES)[:, None].float()
DATA = NUMBERS, torch.as_tensor(LABELS)
SEEDS = range(3)


def networks(names: str = "abcd") -> dict[str, dict[int, nn.Module]]:
    return {name: {seed: network(name, seed) for seed in SEEDS} for name in names}


def test_the_qualities_that_order_the_networks_are_measured():
    torch.manual_seed(0)
    images, labels = torch.rand(40, 1, 4, 4), torch.arange(40) % 2
    some = {name: nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2)) for name in "ab"}
    result = rc.compare(some, (images, labels), indices=["cell_count"], purpose="adversarial")
    assert result.by == {"pgd_accuracy": "maximize"}
    assert result.networks["pgd_accuracy"].notna().all()
    assert rc.compare(some, (images, labels), indices=["cell_count"], by="-disk_size").by == {"disk_size": "minimize"}
    with pytest.raises(InputError, match="unknown purpose 'speed'"):
        rc.compare(some, (images, labels), purpose="speed")


def test_normalised_images_with_their_pixel_range_are_compared_as_the_images_are():
    torch.manual_seed(0)
    images, labels = torch.rand(40, 1, 4, 4), torch.arange(40) % 2
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 2))
    linear = nn.Linear(16, 4)  # of images as 4 * image - 2
    with torch.no_grad():
        linear.weight[:], linear.bias[:] = plain[1].weight / 4, plain[1].bias + plain[1].weight.sum(1) / 2
    normalised = nn.Sequential(nn.Flatten(), linear, *plain[2:])
    expected = rc.compare({"a": plain}, (images, labels), qualities=["noise_accuracy", "parameters"])
    result = rc.compare(
        {"a": normalised}, (4 * images - 2, labels), qualities=["noise_accuracy", "parameters"], pixel_range=(-2, 2)
    )
    assert result.networks["noise_accuracy"].tolist() == expected.networks["noise_accuracy"].tolist()
    with pytest.raises(InputError, match="pixel_range"):
        rc.compare({"a": normalised}, (4 * images - 2, labels), qualities=["noise_accuracy"])


def test_without_an_objective_of_ones_own_fewer_parameters_and_flops_are_preferred():
    torch.manual_seed(0)
    data = torch.rand(40, 3), torch.arange(40) % 2
    result = rc.compare({"a": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))}, data)
    assert list(result.objectives) == ["accuracy"]
    assert "cell_count" not in result.by


def test_the_verdict_is_that_of_a_study_with_the_same_networks():
    objective = Objective()
    study = searched(optuna.create_study(direction="maximize"), objective)
    rc.reseed(study, objective, seeds=list(SEEDS), which="all")
    expected = rc.select(study, margin=0.02)
    result = rc.compare(
        networks(), DATA, train=NUMBERS[:50], objectives=["accuracy"], indices=["cell_count"], margin=0.02
    )
    assert list(result.networks["network"]) == list(expected.networks["params_name"])
    assert result.comparison["answer"].tolist() == expected.comparison["answer"].tolist()
    assert result.networks["accuracy"].tolist() == expected.networks["accuracy"].tolist()
    assert result.comparison["low"].tolist() == pytest.approx(expected.comparison["low"].tolist(), nan_ok=True)


def test_no_accuracy_is_too_low_to_be_compared():
    far = {"good": network("a", 0), "bad": simulated_study.Table(network("a", 0).scores.roll(2, dims=1))}
    result = rc.compare(far, DATA, objectives=["accuracy"], indices=["cell_count"])
    assert result.networks["accuracy"].tolist()[1] < 0.2
    assert result.compared.all()


def test_a_page_is_written_of_what_is_returned(tmp_path):
    result = rc.compare(networks("ab"), DATA, objectives=["accuracy"], indices=["cell_count"])
    files = rc.write_report(result, tmp_path)
    assert result.best["network"] in files["report.html"].read_text("utf-8")


def test_networks_may_be_functions_that_load_them_in_turn():
    loaded = []

    def loads(name, seed):
        def load():
            loaded.append((name, seed))
            return network(name, seed)

        return load

    lazy = {name: {seed: loads(name, seed) for seed in SEEDS} for name in "ab"}
    settings = {"objectives": ["accuracy"], "indices": ["cell_count"]}
    result, expected = rc.compare(lazy, DATA, **settings), rc.compare(networks("ab"), DATA, **settings)
    assert loaded == [(name, seed) for name in "ab" for seed in SEEDS]
    assert result.networks["accuracy"].tolist() == expected.networks["accuracy"].tolist()


@pytest.mark.parametrize("validation", [0.25, 0.0])
def test_of_image_data_accuracy_is_compared_on_what_is_held_out(validation):
    data = rc.load_data("digits", validation=validation)
    small = rc.build_network("4", data.image_shape, 10, backbone="none")
    result = rc.compare({"small": small}, data, objectives=["accuracy"], indices=["cell_count"])
    split = "validation" if validation else "test"
    assert result.networks["accuracy"].item() == rc.score(small, data, split=split, indices=["cell_count"]).accuracy
    assert result.networks["test_accuracy"].isna().item() is not bool(validation)
    assert f"Its {split} accuracy is" in result.verdict.text


def test_a_network_whose_outputs_are_not_finite_is_left_out_with_the_reason():
    broken = simulated_study.Table(torch.full((SAMPLES, 4), torch.nan))
    result = rc.compare({"a": network("a", 0), "broken": broken}, DATA, objectives=["accuracy"], indices=["cell_count"])
    assert result.networks["network"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "names"),
        ([nn.ReLU()], "names"),
        ({"a": 3}, "int"),
        ({"a": {}}, "seed"),
        ({"a": {"first": nn.ReLU()}}, "first"),
        ({0: nn.ReLU()}, "0"),
        ({"a": lambda: 3}, "int"),
        ({"a": {2**70: nn.ReLU()}}, str(2**70)),
        ({"a": {-1: nn.ReLU()}}, "-1"),
    ],
)
def test_what_is_no_network_is_refused(wrong, named):
    with pytest.raises(InputError, match=named):
        rc.compare(wrong, DATA)


def test_networks_with_different_numbers_of_classes_are_refused():
    five = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 5))
    with pytest.raises(InputError, match="5 classes"):
        rc.compare({"a": network("a", 0), "five": five}, DATA, objectives=["accuracy"], indices=["cell_count"])


def test_image_data_take_no_other_samples():
    with pytest.raises(InputError, match="train="):
        rc.compare({"a": nn.ReLU()}, rc.load_data("digits"), train=DATA)


def constant(name):
    return rc.qualities.Quality(name, "", "minimize", "x.", lambda network, inputs, forward=None: 7.0)


SMALL = {"objectives": ["accuracy"], "indices": ["cell_count"]}


@pytest.mark.parametrize(
    "name", ["cell_count", "accuracy", "seed", "place", "feasible", "seconds", "params_a", "a:b", ""]
)
def test_a_quality_of_ones_own_takes_no_name_that_something_else_has(name):
    with pytest.raises(InputError, match=f"'{name}'.*another name"):
        rc.compare({"a": nn.ReLU()}, DATA, qualities=[constant(name)])


def test_a_quality_of_ones_own_orders_networks_in_its_own_direction():
    result = rc.compare(networks("ab"), DATA, qualities=[constant("own")], by=["own"], **SMALL)
    assert result.by == {"own": "minimize"}


def test_names_may_be_single_and_seeds_may_be_those_of_numpy():
    seeds = {np.int64(seed): network("a", seed) for seed in SEEDS}
    result = rc.compare({"a": seeds}, DATA, qualities="parameters", objectives="accuracy", indices="cell_count")
    assert result.networks["seeds"].tolist() == [len(SEEDS)]
    assert result.objectives == {"accuracy": "maximize"}


def test_if_no_network_can_be_measured_the_reason_is_given_once():
    with pytest.raises(InputError, match="not finite") as error:
        rc.compare({"a": nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 4))}, (NUMBERS * torch.nan, DATA[1]))
    assert ".." not in str(error.value)
    assert "Train" not in str(error.value)


@pytest.mark.parametrize("option", ["foo", "layer", "margins"])
def test_an_unknown_option_is_named_with_the_closest(option):
    with pytest.raises(TypeError, match=f"'{option}'.*Known"):
        rc.compare({"a": nn.ReLU()}, DATA, **{option: 1})


WRONG_OPTIONS = [
    {"margin": "a"},
    {"resamples": "a"},
    {"resamples": 2.5},
    {"seed": -1},
    {"by": [3]},
    {"by": [("a", "b", "c")]},
    {"weights": [1], "how": "weighted"},
    {"weights": {"cell_count": "3"}, "how": "weighted", "by": ["cell_count"]},
    {"objectives": [3]},
    {"objectives": None},
    {"objectives": [("a", "b", "c")]},
    {"qualities": None},
    {"indices": 3},
]


@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=str)
def test_options_of_other_types_are_refused(wrong):
    with pytest.raises(InputError, match="Give"):
        rc.compare({"a": network("a", 0)}, DATA, **{**SMALL, **wrong})
