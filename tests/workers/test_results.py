"""A trial told in one transaction is as Optuna would have told it, all or none, and once."""

import math

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from optuna.trial import TrialState, create_trial

from nas_relucode.study.predictions import Predictions, find_predictions
from nas_relucode.study.record import ATTRIBUTE, Outcome, write_outcome
from nas_relucode.study.search_space import Candidate
from nas_relucode.workers.database import open_queue
from nas_relucode.workers.queue import Queue
from nas_relucode.workers.results import ended

CHOICE = optuna.distributions.CategoricalDistribution(["8"])
PREDICTIONS = Predictions.of([0, 1, 1], [0, 1, 0])


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
    queue.let_go()


def outcome(values: tuple[float, ...] | None, predictions: Predictions | None = None) -> Outcome:
    found = {"accuracy": 0.5, "curve": [1, 2]} | ({} if values else {"pruned": "diverged"})
    return Outcome(Candidate("8", 0.1, 0), found, values, {"floor": -0.25, "other": 1.0}, predictions)


@pytest.mark.parametrize("values", [(0.5, 3.0), (0.1 + 0.2, math.inf), (-math.inf, 0.0), None])
def test_a_trial_is_told_as_optuna_tells_it(queue: Queue, values: tuple[float, ...] | None):
    ours, theirs = queue.take(), queue.take()
    end = ended(ours, outcome(values), None)
    assert queue.tell(end)
    told = write_outcome(theirs, outcome(values), None)
    if values is None:
        queue.study.tell(theirs, state=TrialState.PRUNED)
    else:
        queue.study.tell(theirs, told)
    first, second, _ = queue.study.trials
    parts = ("state", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values")
    for part in parts:
        assert getattr(first, part) == getattr(second, part)
    for part in (*parts, "number", "datetime_start", "datetime_complete"):
        assert getattr(end, part) == getattr(first, part)
    assert first.user_attrs["retry_of"] == 7
    assert 0 <= first.duration.total_seconds() < 60


def test_the_predictions_lie_in_the_store_and_belong_to_the_trial(queue: Queue, tmp_path):
    store, trial = FileSystemArtifactStore(tmp_path), queue.take()
    queue.tell(ended(trial, outcome((0.5, 3.0), PREDICTIONS), store))
    told = queue.study.trials[0]
    (artifact,) = get_all_artifact_meta(told, storage=queue.storage)
    assert told.user_attrs[ATTRIBUTE]["predictions"] == artifact.artifact_id
    found = find_predictions(artifact.artifact_id, store, "the trial")
    assert found.correct.tolist() == [True, True, False]


def test_a_trial_is_told_once_and_not_when_it_was_taken_away(queue: Queue):
    one, other = queue.take(), queue.take()
    assert queue.tell(ended(one, outcome((0.5, 3.0)), None))
    assert queue.tell(ended(one, outcome((0.9, 9.0)), None))  # known to be there
    queue.study.tell(other, state=TrialState.FAIL)
    assert not queue.tell(ended(other, outcome((0.5, 3.0)), None))
    assert [trial.state for trial in queue.study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    assert queue.study.trials[0].values == [0.5, 3.0]
    assert ATTRIBUTE not in queue.study.trials[1].user_attrs


def test_what_cannot_be_written_whole_is_not_written_at_all(queue: Queue):
    end = ended(queue.take(), outcome((0.5, 3.0)), None)
    end.system_attrs["broken"] = object()
    with pytest.raises(TypeError, match="JSON"):
        queue.tell(end)
    trial = queue.study.trials[0]
    assert (trial.state, trial.values, ATTRIBUTE in trial.user_attrs) == (TrialState.RUNNING, None, False)
