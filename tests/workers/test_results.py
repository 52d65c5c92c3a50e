"""A result written in one transaction equals what Optuna writes, is whole or absent, and is written once."""

import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from nas_relucode.study.candidates import Candidate
from nas_relucode.study.record import ATTRIBUTE, Outcome, write_outcome
from nas_relucode.workers.database import open_queue
from nas_relucode.workers.queue import Queue, finished_trial

CHOICE = optuna.distributions.CategoricalDistribution(["8"])


@pytest.fixture
def queue(queue_url: str):
    storage = open_queue(queue_url, 60, create=True)
    study = optuna.create_study(study_name="own", storage=storage, directions=["maximize", "minimize"])
    waiting = create_trial(
        state=TrialState.WAITING, params={"head": "8"}, distributions={"head": CHOICE}, user_attrs={"retry_of": 7}
    )
    queue = Queue(study, storage)
    queue.add(lambda: [waiting] * 3)
    yield queue
    queue.close_connections()


def outcome(values: tuple[float, ...] | None) -> Outcome:
    record = {"accuracy": 0.5, "objectives": ["accuracy", "cell_count"], "curve": [1, 2]}
    record |= {} if values else {"pruned": "diverged"}
    return Outcome(Candidate({"head": "8"}), record, values, {"floor": -0.25, "other": 1.0})


@pytest.mark.parametrize("values", [(0.5, 3.0), (0.1 + 0.2, math.inf), (-math.inf, 0.0), None])
def test_a_result_is_written_as_optuna_writes_it(queue: Queue, values: tuple[float, ...] | None):
    ours, theirs = queue.take(), queue.take()
    finished = finished_trial(ours, outcome(values))
    assert queue.write(finished)
    written = write_outcome(theirs, outcome(values))
    if values is None:
        queue.study.tell(theirs, state=TrialState.PRUNED)
    else:
        queue.study.tell(theirs, written)
    first, second, _ = queue.study.trials
    parts = ("state", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
    for part in parts:
        assert getattr(first, part) == getattr(second, part)
    for part in (*parts, "number", "datetime_start", "datetime_complete"):
        assert getattr(finished, part) == getattr(first, part)
    assert first.user_attrs["retry_of"] == 7
    assert 0 <= first.duration.total_seconds() < 60


def test_a_result_is_written_once_and_not_to_a_trial_that_was_given_to_another_worker(queue: Queue):
    one, other = queue.take(), queue.take()
    assert queue.write(finished_trial(one, outcome((0.5, 3.0))))
    assert queue.write(finished_trial(one, outcome((0.9, 9.0))))  # it has a result already
    queue.study.tell(other, state=TrialState.FAIL)
    assert not queue.write(finished_trial(other, outcome((0.5, 3.0))))
    assert [trial.state for trial in queue.study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    assert queue.study.trials[0].values == [0.5, 3.0]
    assert ATTRIBUTE not in queue.study.trials[1].user_attrs


def test_a_result_that_cannot_be_written_whole_is_not_written_at_all(queue: Queue):
    finished = finished_trial(queue.take(), outcome((0.5, 3.0)))
    finished.system_attrs["broken"] = object()
    with pytest.raises(TypeError, match="JSON"):
        queue.write(finished)
    trial = queue.study.trials[0]
    assert (trial.state, trial.values, ATTRIBUTE in trial.user_attrs) == (TrialState.RUNNING, None, False)


def test_the_highest_accuracy_so_far_is_read_without_the_trials(queue: Queue):
    assert queue.best_value(0) is None
    for values in ((0.5, 3.0), (0.75, 9.0), (0.25, 99.0)):
        assert queue.write(finished_trial(queue.take(), outcome(values)))
    assert (queue.best_value(0), queue.best_value(1)) == (0.75, 99.0)
