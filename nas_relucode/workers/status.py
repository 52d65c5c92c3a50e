"""The status of a study: how many trials are done, running and failed, how many workers live, the time to go."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.study.plan import Plan
from nas_relucode.study.search_space import stored_search
from nas_relucode.study.storage import all_trials, open_storage
from nas_relucode.texts import duration
from nas_relucode.workers.database import ENGINE, GRACE, briefly_opened, has_tables, is_queue
from nas_relucode.workers.defaults import BEAT


@dataclass(frozen=True)
class Status:
    """How far a study has come, in trials; a candidate is the parameters of a network and a seed."""

    study: str
    size: int  # candidates in the whole study, with the further seeds of finalists so far
    done: int  # complete and pruned trials
    pruned: int  # those of them that have no values
    waiting: int
    running: int  # trials whose worker is alive; also the number of living workers
    silent: int  # running trials whose worker has missed its heartbeats
    failed: int  # trials that failed or were interrupted; each is tried again unless its candidate is given up
    retried: int  # trials that repeat a failed one
    given_up: int  # candidates that failed too often to be tried again
    seconds_a_trial: float | None  # the mean of the complete trials
    seconds_to_go: float | None  # with the living workers; None without a worker or a complete trial

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The status as lines of text."""
        lines = [
            f"study {self.study}: {self.done} of {self.size} trials done"
            + (f", {self.pruned} of them pruned" if self.pruned else ""),
            f"waiting {self.waiting}, running {self.running}, failed {self.failed}, retried {self.retried}",
        ]
        if self.silent:
            lines.append(f"{self.silent} running trials miss their heartbeats; a worker will repeat them")
        if self.given_up:
            lines.append(f"{self.given_up} candidates are given up: their trials failed too often")
        lines.append(f"workers alive: {self.running}")
        if self.seconds_a_trial is not None:
            lines.append(f"a trial takes {duration(self.seconds_a_trial)} on average")
        if self.seconds_to_go is not None:
            lines.append(f"time to go: {duration(self.seconds_to_go)}")
        return lines


def study_status(name: str, storage: str) -> Status:
    """The status of the study ``name`` in any storage.

    Raises KeyError if the storage has no such study, InputError if nas-relucode did not create it.
    """
    if is_queue(storage):
        if not has_tables(storage):
            raise KeyError(name)
        with briefly_opened(storage, engine=ENGINE) as engine:  # keeps its one connection
            study = optuna.load_study(study_name=name, storage=engine)
            heartbeat = study.user_attrs.get(BEAT)
            return status_of(study, silent=_count_silent(study, engine, heartbeat) if heartbeat else 0)
    return status_of(optuna.load_study(study_name=name, storage=open_storage(storage)))


def _count_silent(study: optuna.Study, storage: RDBStorage, heartbeat: int) -> int:
    """The number of running trials whose worker misses its heartbeats."""
    from nas_relucode.workers.queue import Queue  # takes a tenth of a second to import

    # Only now is the interval known; to open the storage again with it would take longer than all the rest.
    storage.heartbeat_interval, storage.grace_period = heartbeat, GRACE * heartbeat
    return len(Queue(study, storage).stale_trial_ids())


def status_of(study: optuna.Study, silent: int = 0) -> Status:
    """The status of a study, of whose running trials ``silent`` have a worker that misses its heartbeats."""
    search = stored_search(study)
    plan = Plan(study, search, search.search_space)
    trials = all_trials(study)
    states = Counter(trial.state for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    own_pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and "same_as" not in trial.user_attrs]
    done, running = len(complete) + len(own_pruned), states[TrialState.RUNNING] - silent
    given_up = len(plan.given_up(trials))
    mean = sum(map(_seconds, complete)) / len(complete) if complete else None
    size = plan.size + plan.finalists(trials)
    left = size - done - given_up
    return Status(
        study=study.study_name,
        size=size,
        done=done,
        pruned=len(own_pruned),
        waiting=states[TrialState.WAITING],
        running=running,
        silent=silent,
        failed=states[TrialState.FAIL],
        retried=sum("retry_of" in trial.user_attrs for trial in trials),
        given_up=given_up,
        seconds_a_trial=mean,
        seconds_to_go=0.0 if left <= 0 else mean * left / running if mean is not None and running else None,
    )


def _seconds(trial: FrozenTrial) -> float:
    return (trial.duration or timedelta()).total_seconds()
