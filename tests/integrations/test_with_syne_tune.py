"""What Syne Tune's Reporter is told, epoch by epoch or at the end; read back by Syne Tune where it is installed."""

import json
from typing import Any

import pytest
from small_studies import PARAMS, SPACE, objective_on

from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.integrations.candidates import run_candidate
from nas_relucode.integrations.syne_tune import syne_tune_costs, syne_tune_report, syne_tune_space
from nas_relucode.study.search_space import Interval, SearchSpace
from nas_relucode.training.data import load_data


@pytest.fixture(scope="module")
def data():
    return load_data("digits", classes=(0, 1), train_samples=100, test_samples=20, validation=0.3)


class Keeping:
    """A reporter that keeps its reports."""

    def __init__(self):
        self.reports: list[dict[str, Any]] = []

    def __call__(self, **values):
        self.reports.append(values)


def test_one_report_of_the_end_has_everything_and_the_costs(data):
    reporter = Keeping()
    results = syne_tune_report(objective_on(data), PARAMS, reporter=reporter)
    (report,) = reporter.reports
    costs = {"cost:accuracy": -results["accuracy"], "cost:cell_count": results["cell_count"]}
    assert report == results | costs
    assert list(costs) == syne_tune_costs(["accuracy", "cell_count"])
    assert results | {"seconds": 0} == run_candidate(objective_on(data), PARAMS) | {"seconds": 0}
    json.dumps(report, allow_nan=False)


def test_a_report_for_each_epoch_is_the_resource(data):
    reporter = Keeping()
    results = syne_tune_report(objective_on(data), PARAMS, every_epoch=True, reporter=reporter)
    assert [report["epoch"] for report in reporter.reports] == [1, 2, 3]
    assert all(type(report["epoch"]) is int for report in reporter.reports)
    assert all(report["cost:accuracy"] == -report["accuracy"] for report in reporter.reports)
    assert reporter.reports[-1]["knn_accuracy"] == results["knn_accuracy"]


def test_directions_may_be_given(data):
    reporter = Keeping()
    objective = objective_on(data, objectives=["accuracy", "edge_count"])
    with pytest.raises(InputError, match=r"edge_count.* has no direction"):
        syne_tune_report(objective, PARAMS, reporter=reporter)
    assert not reporter.reports
    results = syne_tune_report(objective, PARAMS, directions=["maximize", "maximize"], reporter=reporter)
    assert reporter.reports[0]["cost:edge_count"] == -results["edge_count"]


def test_a_training_that_diverges_reports_nothing_and_raises(data):
    reporter = Keeping()
    objective = objective_on(data, SearchSpace(heads=("8",), learning_rates=(1e30,)))
    with pytest.raises(NonFiniteError, match="stopped being finite"):
        syne_tune_report(objective, {"head": "8", "learning_rate": 1e30}, reporter=reporter)
    assert not reporter.reports


@pytest.mark.slow
class TestReal:
    """With the real package. A whole run of it is in test_integrations.py."""

    @pytest.fixture(autouse=True)
    def spaces(self):
        return pytest.importorskip("syne_tune.config_space")

    def test_the_real_reporter_is_read_back_by_syne_tune(self, data, capsys):
        from syne_tune.report import retrieve

        results = syne_tune_report(objective_on(data), PARAMS)
        (read,) = retrieve(capsys.readouterr().out.splitlines())
        assert results.items() <= read.items()
        assert read["cost:accuracy"] == -results["accuracy"]

    def test_the_space_holds_the_values_and_no_others(self, spaces):
        space = syne_tune_space(SPACE, seeds=(0, 1))
        assert list(space) == ["head", "learning_rate", "seed"]
        assert set(space["head"].categories) == {"8", "4-4"}
        assert list(space["learning_rate"].categories) == [0.01, 0.1]
        assert set(space["seed"].categories) == {0, 1}
        drawn = syne_tune_space(SearchSpace(heads=("8",), learning_rates=Interval(0.01, 0.1)))["learning_rate"]
        assert (drawn.lower, drawn.upper) == (0.01, 0.1)
        assert spaces.is_log_space(drawn)
