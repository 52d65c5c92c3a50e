"""How far a study has come: what is done, running, failed and tried again, who is alive, and how long it will take."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.study.plan import Plan
from nas_relucode.study.runner import stored_settings
from nas_relucode.study.storage import open_storage
from nas_relucode.workers.database import briefly_opened, has_tables, is_queue
from nas_relucode.workers.defaults import BEAT
from nas_relucode.workers.queue import Queue


@dataclass(frozen=True)
class Status:
    """Counts of trials; a candidate is a head, a learning rate and a seed."""

    study: str
    size: int  # candidates in the whole study
    done: int  # trials that came to an end, the pruned ones too
    pruned: int  # of these, those without values
    waiting: int
    running: int  # trials whose worker is alive: as many workers are
    silent: int  # running trials whose worker has sent no heartbeat for long
    failed: int  # trials that failed or were given back, each tried again unless it is given up
    retried: int  # trials that try again what failed
    given_up: int  # candidates that failed too often
    seconds_a_trial: float | None  # mean, of the complete ones
    seconds_to_go: float | None  # at the speed of the workers that are alive; None if it can't be told

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        told = [
            f"study {self.study}: {self.done} of {self.size} trials done"
            + (f", {self.pruned} of them pruned" if self.pruned else ""),
            f"waiting {self.waiting}, running {self.running}, failed {self.failed}, retried {self.retried}",
        ]
        if self.silent:
            told.append(f"{self.silent} running trials are silent; a worker will hand them out again")
        if self.given_up:
            told.append(f"{self.given_up} candidates are given up: their trials failed too often")
        told.append(f"workers alive: {self.running}")
        if self.seconds_a_trial is not None:
            told.append(f"a trial takes {_duration(self.seconds_a_trial)} on average")
        if self.seconds_to_go is not None:
            told.append(f"time to go: {_duration(self.seconds_to_go)}")
        return told


def study_status(name: str, storage: str) -> Status:
    """The status of a study in any storage. Raises KeyError if there is none, InputError if it is not one of ours."""
    if is_queue(storage):
        if not has_tables(storage):
            raise KeyError(name)
        with briefly_opened(storage) as engine:
            heartbeat = optuna.load_study(study_name=name, storage=engine).user_attrs.get(BEAT)
        with briefly_opened(storage, heartbeat) as engine:
            study = optuna.load_study(study_name=name, storage=engine)
            return status_of(study, silent=len(Queue(study, engine).stale_trial_ids()) if heartbeat else 0)
    return status_of(optuna.load_study(study_name=name, storage=open_storage(storage)))


def status_of(study: optuna.Study, silent: int = 0) -> Status:
    """The status of a study whose workers are ``silent`` in so many running trials."""
    settings = stored_settings(study)
    plan = Plan(study, settings.search, settings.search_space)
    trials = study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    own_pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and "same_as" not in trial.user_attrs]
    done, running = len(complete) + len(own_pruned), states[TrialState.RUNNING] - silent
    given_up = len(plan.given_up(trials))
    mean = sum(map(_seconds, complete)) / len(complete) if complete else None
    left = plan.size - done - given_up
    return Status(
        study=study.study_name,
        size=plan.size,
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


def _duration(seconds: float) -> str:
    """
    >>> _duration(93784.2), _duration(3.21)
    ('1 day, 2:03:04', '3.2 s')
    """
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=int(seconds)))
