"""A purpose has an order only where two bodies of evidence support it; what is refused says why and what to do."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from torch import nn

import nas_relucode as rc
from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.ranking import purposes
from nas_relucode.ranking.choices import PURPOSES
from nas_relucode.ranking.purposes import Result, order_for, results


def result(body: str, *, supported: bool, quality: str = "noise_accuracy", column: str = "code_stability") -> Result:
    return Result(body, "held-out", 60, column, "maximize", quality, 0.6, 0.4, 0.8, 0.3, None, supported)


def test_two_bodies_that_agree_give_an_order_with_what_it_was_worth() -> None:
    known = [result("mnist", supported=True), result("cifar10", supported=True)]
    order = order_for("noise", ["code_stability"], known)
    assert order.by == {"code_stability": "maximize"}
    assert "mnist" in order.text
    assert "cifar10" in order.text


def test_a_quality_that_was_recorded_needs_no_index() -> None:
    assert order_for("calibration", ["calibration_error"], []).by == {"calibration_error": "minimize"}


@pytest.mark.parametrize("second", [False, None])
def test_one_body_is_not_enough(second: bool | None) -> None:
    known = [result("mnist", supported=True)]
    if second is not None:
        known.append(result("cifar10", supported=second))
    with pytest.raises(InputError, match="noise_accuracy"):
        order_for("noise", ["code_stability"], known)


def test_a_purpose_that_nobody_measured_and_an_unknown_one_are_refused() -> None:
    with pytest.raises(InputError, match="calibration_error"):
        order_for("calibration", [], [result("mnist", supported=True)])
    with pytest.raises(InputError, match="noise"):
        order_for("nois", [], [])


def test_the_results_that_come_with_the_package_are_whole() -> None:
    for one in results():
        assert one.low <= one.high
        assert one.worst <= one.gain <= 1
        assert one.direction in ("minimize", "maximize")
        assert one.networks >= 10


@pytest.mark.parametrize(
    ("low", "high", "p", "said"), [(0.1, 0.9, 0.01, "better for"), (-0.9, -0.1, 0.01, "worse for")]
)
def test_what_is_known_is_said_only_of_effects_beyond_chance(
    monkeypatch: pytest.MonkeyPatch, low: float, high: float, p: float, said: str
) -> None:
    def known(p: float) -> str:
        one = Result("MNIST", "all", 60, "cell_count", "minimize", "pgd_accuracy", 0.0, low, high, -1.0, p, False)
        monkeypatch.setattr(purposes, "results", lambda: (one,))
        return purposes.known_of({"cell_count": "minimize"})

    assert said in known(p)
    assert said not in known(0.5)


class Sized(nn.Module):
    """A network that classifies by the sign of its only input, of any width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.layers[0].weight.fill_(1)
            self.layers[2].weight[1] = 1 / width
            self.layers[2].bias[0] = 0.25

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(inputs)
        return scores


def study(indices: list[str] | None = None) -> optuna.Study:
    """Three networks of one accuracy and of different size."""
    inputs = torch.linspace(-1, 1, 64)[:, None]
    labels = (inputs[:, 0] > 0.25).long()
    record = rc.Recorder(
        train=(inputs, labels), validation=(inputs, labels), objectives=["accuracy"], indices=indices or ["cell_count"]
    )
    study = optuna.create_study(directions=record.directions)
    study.optimize(
        lambda trial: record(trial, Sized(trial.suggest_categorical("width", [8, 2, 4]))),
        n_trials=3,
    )
    return study


def grid(study_of: optuna.Study) -> list[int]:
    return [trial.params["width"] for trial in study_of.trials]


def test_a_study_with_accuracy_alone_is_ordered_by_cost() -> None:
    sampled = study()
    chosen = rc.select(sampled)
    assert chosen.best["params"]["width"] == min(grid(sampled))
    assert list(chosen.by) == ["parameters"]


def test_a_supported_purpose_orders_the_finalists(monkeypatch: pytest.MonkeyPatch) -> None:
    known = tuple(result(body, supported=True, column="cell_count") for body in ("mnist", "cifar10"))
    monkeypatch.setattr(purposes, "results", lambda: known)
    chosen = rc.select(study(), purpose="noise")
    assert chosen.by == {"cell_count": "maximize"}


def test_a_study_that_lacks_the_index_is_told_what_to_record(monkeypatch: pytest.MonkeyPatch) -> None:
    known = tuple(result(body, supported=True) for body in ("mnist", "cifar10"))
    monkeypatch.setattr(purposes, "results", lambda: known)
    with pytest.raises(InputError, match=r"Recorder\(indices="):
        rc.select(study(), purpose="noise")


def test_a_purpose_and_an_order_together_are_refused() -> None:
    with pytest.raises(InputError, match="by and purpose"):
        rc.select(study(), purpose="noise", by=["cell_count"])


def test_every_purpose_is_known_to_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["select", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in PURPOSES)


def test_bad_calls_of_evidence_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evidence"]) == 2
    assert main(["evidence", "digits", "--body", "digits"]) == 2
    assert main(["evidence", "--weights", "a.pt"]) == 2
    errors = capsys.readouterr().err
    assert errors.count("error") == 3
    assert all(word in errors for word in ("STUDY, --weights or --body", "STUDY and --body", "--model and --data"))


def test_a_study_without_qualities_is_told_to_record_some() -> None:
    from nas_relucode.evidence.studies import networks_of

    with pytest.raises(InputError, match="Record what you want"):
        networks_of(rc.select(study()))


def test_findings_of_a_study_of_one_s_own_name_what_goes_with_its_quality() -> None:
    from nas_relucode.evidence.examining import examine
    from nas_relucode.evidence.report import sentences
    from nas_relucode.evidence.studies import networks_of

    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(80, 4))).float()
    labels = (inputs.sum(dim=1) > 0).long()
    noise = rc.qualities.QUALITIES["noise_accuracy"].with_settings("noise_accuracy", pixel_range=(-5.0, 5.0))
    record = rc.Recorder(
        train=(inputs, labels),
        validation=(inputs, labels),
        objectives=["accuracy", "cell_count"],
        qualities=["parameters", noise],
    )
    own = optuna.create_study(directions=record.directions)

    def objective(trial: optuna.Trial) -> object:
        torch.manual_seed(trial.number)
        width = trial.suggest_int("width", 2, 30)
        network = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
        with torch.no_grad():
            network[0].weight[0], network[0].weight[1] = 1.0, -1.0
            network[0].bias.mul_(0.1)
            network[2].weight.zero_()
            network[2].weight[1, 0], network[2].weight[0, 1] = 1.0, 1.0
            network[2].bias.fill_(0.0)
            network[2].bias[0] = 0.01 * trial.number  # moves the border, and with it the accuracy under noise
        return record(trial, network)

    own.optimize(objective, n_trials=12)
    networks = networks_of(rc.select(own))
    findings = examine(networks, draws=50, permutations=50)
    assert set(findings.pairs["quality"]) == {"noise_accuracy"}
    assert {"cell_count", "parameters"} <= set(findings.pairs["column"])
    assert any("noise_accuracy" in sentence for sentence in sentences(findings))


def test_the_change_of_an_index_is_that_per_epoch_over_the_last_three_averaged_over_seeds() -> None:
    from nas_relucode.evidence.studies import _changes

    def record(*counts: float) -> dict[str, object]:
        return {"curve": [{"joint": {"cell_count": count, "correct_cell_count": None}} for count in counts]}

    records = [record(1, 100, 200, 260, 290), record(0, 50, 80), {}]
    selection = SimpleNamespace(source=SimpleNamespace(networks=["a", "a", "b"], records=records))
    changes = _changes(selection)  # type: ignore[arg-type]
    assert list(changes.index) == ["a"]
    assert changes.loc["a", "cell_count_change"] == pytest.approx(((290 - 100) / 3 + (80 - 0) / 2) / 2)
    assert np.isnan(changes.loc["a", "correct_cell_count_change"])
