"""Ax is told means and standard errors over the seeds; three trials of its real client."""

import math
import warnings

import numpy as np
import pytest
from small_studies import PARAMS, SPACE, objective_on

from nas_relucode.errors import InputError
from nas_relucode.integrations.ax import ax_data, ax_goal, ax_parameters, complete_ax_trial
from nas_relucode.integrations.candidates import run_candidate
from nas_relucode.study.search_space import Interval, SearchSpace
from nas_relucode.training.data import load_data
from nas_relucode.training.recipe import Recipe

pytestmark = pytest.mark.slow  # Ax takes seconds to import

NAMES = ["accuracy", "cell_count", "head.1:largest_component_share"]


@pytest.fixture(scope="module")
def data():
    return load_data("digits", classes=(0, 1, 2), train_samples=100, test_samples=20, validation=0.3)


def small(data, space=SPACE, **settings):
    return objective_on(data, space, **({"recipe": Recipe(epochs=1, batch_size=35), "objectives": NAMES} | settings))


@pytest.fixture
def client():
    """A real client, whose import and logs are not our concern."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api = pytest.importorskip("ax.api.client")
    return api.Client(random_seed=0)


@pytest.mark.filterwarnings("ignore:the objective")  # saturated on few samples
def test_the_data_are_means_over_the_seeds_with_standard_errors(data):
    objective = small(data, seeds=(0, 1, 2))
    runs = [run_candidate(objective, PARAMS | {"seed": seed}) for seed in (0, 1, 2)]
    means = ax_data(objective, PARAMS)
    assert list(means) == NAMES
    for name, (mean, error) in means.items():
        values = np.array([run[name] for run in runs])
        assert mean == pytest.approx(values.mean())
        assert error == pytest.approx(values.std(ddof=1) / math.sqrt(3))


@pytest.mark.filterwarnings("ignore:the objective")  # saturated on few samples
def test_of_one_seed_the_standard_error_is_left_to_ax(data):
    objective = small(data)
    assert ax_data(objective, PARAMS) == {name: run_candidate(objective, PARAMS)[name] for name in NAMES}


def test_what_has_one_value_is_no_parameter_of_ax(data):
    objective = small(data, SearchSpace(heads=("8",), learning_rates=(0.1, 0.01)), objectives=NAMES[:2])
    assert ax_data(objective, {"learning_rate": 0.01}) == ax_data(objective, {"head": "8", "learning_rate": 0.01})


def test_the_goal_says_what_is_minimised():
    assert ax_goal(NAMES) == "accuracy, -cell_count, head.1:largest_component_share"
    assert ax_goal(["edge_count"], ["minimize"]) == "-edge_count"


class RecordingClient:
    def __init__(self):
        self.failed = {}

    def mark_trial_failed(self, trial_index, failed_reason=None):
        self.failed[trial_index] = failed_reason


def test_a_trial_that_diverges_with_some_seed_is_marked_as_failed(data):
    objective = small(data, SearchSpace(heads=("8",), learning_rates=(1e30, 0.1)), seeds=(0, 1), objectives=NAMES[:2])
    client = RecordingClient()
    assert complete_ax_trial(client, 4, {"learning_rate": 1e30}, objective) is None
    assert "stopped being finite in epoch 1" in client.failed[4]


# The real client: it takes seconds to import.


@pytest.mark.slow
def test_a_space_of_one_candidate_is_refused(client):
    with pytest.raises(InputError, match="one candidate"):
        ax_parameters(SearchSpace(heads=("8",), learning_rates=(0.1,)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_three_trials_of_the_real_client(client, data):
    objective = small(data, SearchSpace(heads=("8", "4-4"), learning_rates=Interval(0.01, 0.5)), seeds=(0, 1))
    client.configure_experiment(parameters=ax_parameters(objective.space))
    client.configure_optimization(objective=ax_goal(NAMES), outcome_constraints=["accuracy >= 0.1"])
    data_of = {}
    for _ in range(3):
        for index, parameters in client.get_next_trials(max_trials=1).items():
            data_of[index] = complete_ax_trial(client, index, parameters, objective)
    assert client.summarize()["trial_status"].tolist() == ["COMPLETED"] * 3
    stored = client._experiment.lookup_data().df
    assert len(stored) == 9
    for row in stored.itertuples():
        assert data_of[row.trial_index][row.metric_name] == pytest.approx((row.mean, row.sem))
    lower = {name: metric.lower_is_better for name, metric in client._experiment.metrics.items()}
    assert lower == {"accuracy": False, "cell_count": True, "head.1:largest_component_share": False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_failed_trial_is_failed_for_the_real_client_too(client, data):
    objective = small(data, SearchSpace(heads=("8",), learning_rates=(1e30, 1e31)), objectives=NAMES[:2])
    client.configure_experiment(parameters=ax_parameters(objective.space))
    client.configure_optimization(objective=ax_goal(NAMES[:2]))
    for index, parameters in client.get_next_trials(max_trials=1).items():
        assert complete_ax_trial(client, index, parameters, objective) is None
    assert client.summarize()["trial_status"].tolist() == ["FAILED"]
