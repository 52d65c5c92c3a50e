"""Networks that come from anywhere are compared as those of a study are."""

from __future__ import annotations

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
