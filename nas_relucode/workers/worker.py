"""A worker: trains candidates of a planned study until none is left; no result is lost when a process dies."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from nas_relucode.errors import InputError
from nas_relucode.study.artifact_stores import StoreUnavailableError, study_store
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.checkpoint_files import digest
from nas_relucode.study.objective import Objective
from nas_relucode.study.plan import RETRIED, Plan
from nas_relucode.study.record import Outcome, write_failed, write_interrupted
from nas_relucode.study.runner import build_objective, load_study_data
from nas_relucode.study.search_space import SAMPLERS
from nas_relucode.study.settings import StudySettings
from nas_relucode.study.storage import reason, storage_errors
from nas_relucode.study.stored_settings import check_settings, stored_settings
from nas_relucode.workers.defaults import PATIENCE
from nas_relucode.workers.planning import open_planned
from nas_relucode.workers.queue import Heartbeat, Queue, finished_trial
from nas_relucode.workers.results import SavedResults
from nas_relucode.workers.retrying import StorageRetry, StorageUnavailableError, is_unavailable, unavailable_errors
from nas_relucode.workers.stopping import Stop, StoppedError

IDLE, LONGEST_IDLE = 10, 60  # seconds between two queries while only trials of other workers run; see `idle_seconds`


class DeviceLostError(Exception):
    """The device cannot be used in this process any more: CUDA keeps its error until the process ends."""


def work(
    name: str,
    *,
    storage: str,
    settings: StudySettings | None = None,
    data_root: str | Path = "data",
    download: bool = False,
    device: str | None = None,
    folder: str | Path | None = None,
    artifacts: Any = None,
    max_trials: int | None = None,
    wait: bool = True,
    patience: float = PATIENCE,
    stop: Stop | None = None,
    further: Callable[..., list[Candidate]] | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_epoch: Callable[..., None] | None = None,
    on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None,
) -> int:
    """Works on the study ``name``, which `plan_study` planned, in this process, until none of its candidates is left.

    Returns the number of trials that it completed or pruned. Any number of workers may run at once. A candidate whose
    worker dies is handed out again and continues from its last checkpoint; one that raises (out of memory, say) is
    tried twice more. A worker waits for the running trials of others, since those workers may die, unless ``wait`` is
    False.

    ``settings`` are compared with the study's own; None takes those. ``folder`` is for files, as in `run_study`, best
    on a file system that all workers share; otherwise ``artifacts`` (an artifact store of Optuna's, S3 for instance;
    by default the planned one) keeps copies of the checkpoints. ``max_trials`` ends the worker after this many trials.
    ``stop`` may be requested at any time: the running trial is then given back. ``on_epoch`` is called as by
    `Objective`, ``on_trial`` is a callback of Optuna's, and ``say`` is called with lines about retries. ``further`` is
    as in `run_study`; when no candidate is left, each worker trains the next of what it returns that no other trains.

    Raises InputError for other data or settings; StorageUnavailableError if the database or the artifact store is
    unavailable for more than ``patience`` seconds; DeviceLostError after a CUDA error that only a new process clears.
    A result that could not be written to the database is saved in ``folder``, and the next worker there writes it.
    """
    if max_trials is not None and max_trials < 1:
        raise InputError(f"max_trials is {max_trials}. Give at least 1, or leave it out.")
    stop = stop or Stop()
    retry = StorageRetry(patience, say, stop)

    def after_epoch(*arguments: Any) -> None:  # the epoch's checkpoint has been written
        if on_epoch is not None:
            on_epoch(*arguments)
        stop.check()

    folder = Path("runs", name) if folder is None else Path(folder)
    with storage_errors(storage), unavailable_errors():
        queue = retry(lambda: open_planned(name, storage, optuna.samplers.RandomSampler()))
        try:
            if settings is not None:
                check_settings(queue.study, settings)
            settings = settings or stored_settings(queue.study)  # the given ones have the folder of a factory's module
            stored = queue.study.user_attrs["settings"]
            if artifacts is None:
                artifacts = retry(lambda: study_store(queue.study))
            queue.close_connections()
            data = load_study_data(settings.data, data_root, download)
            if data.digest() != stored["data"]["sha256"]:
                raise InputError(
                    f"the data here is not the data that study {name!r} was planned with (its SHA-256 differs). "
                    "Give a --data-root with the same files."
                )
            objective = build_objective(
                settings, data, device=device, folder=folder, artifacts=artifacts, on_epoch=after_epoch
            )
            results = SavedResults(folder, name, digest(stored))
            worker = Worker(queue, settings, objective, results, retry, stop, say, on_trial, further)
            return worker.run(max_trials, wait)
        finally:
            queue.close_connections()


class Worker:
    """A worker's state between its trials, and its loop; see `work`."""

    def __init__(
        self,
        queue: Queue,
        settings: StudySettings,
        objective: Objective,
        results: SavedResults,
        retry: StorageRetry,
        stop: Stop,
        say: Callable[[str], None],
        on_trial: Callable[[optuna.Study, FrozenTrial], None] | None,
        further: Callable[..., list[Candidate]] | None = None,
    ) -> None:
        self.queue, self.study, self.objective, self.results = queue, queue.study, objective, results
        self.retry, self.stop, self.say, self.on_trial = retry, stop, say, on_trial
        further = further and partial(further, margin=settings.margin)
        self.plan = Plan(self.study, settings.search, settings.search_space, further)
        if settings.search.trials is not None:
            self.study.sampler = SAMPLERS[settings.search.sampler](secrets.randbits(32))

    def run(self, max_trials: int | None, wait: bool) -> int:
        """Works until no trial is left, ``max_trials`` are finished or a stop is requested; the finished trials."""
        finished, idle_queries = self._write_saved_results(), 0
        while self.stop.reason is None and (max_trials is None or finished < max_trials):
            trial = self.retry(self.queue.take)
            if trial is not None:
                finished, idle_queries = finished + self._process(trial), 0
            elif not self.retry(self._enqueue_missing) and not self.retry(self._enqueue_further):
                if not wait or not self.retry(self.queue.unfinished):
                    break
                self._pause(idle_queries)
                idle_queries += 1
        return finished

    def _enqueue_missing(self) -> int:
        """Enqueues retries of failed trials, also of those whose workers died; returns their number."""
        self.queue.fail_stale_trials()
        return self.queue.add(self.plan.missing_trials, after_failures=self.plan.search.trials is None)

    def _enqueue_further(self) -> int:
        """Enqueues a finalist with a further seed when all candidates are done; returns the number of such trials."""
        if self.plan.further is None or self._candidates_left():
            return 0
        wanted = self.plan.wanted_further()  # takes seconds: not within the queue's lock
        return self.queue.add(lambda: self.plan.further_trials(wanted)) if wanted else 0

    def _candidates_left(self) -> bool:
        """Whether trials wait or run that are not those of finalists with further seeds."""
        states = [TrialState.WAITING, TrialState.RUNNING]
        candidates = map(self.plan.candidate_of, self.study.get_trials(deepcopy=False, states=states))
        return any(candidate is None or candidate.seed in self.plan.seeds for candidate in candidates)

    def _pause(self, idle_queries: int) -> None:
        """Waits, without a connection, for other workers' trials to end."""
        self.queue.close_connections()
        seconds = idle_seconds(idle_queries, self.queue.storage.get_heartbeat_interval() or IDLE)
        try:
            with self.stop.interruptible():
                threading.Event().wait(seconds * random.uniform(0.5, 1.0))
        except StoppedError:
            pass  # `run` checks the reason

    def _process(self, trial: optuna.Trial) -> bool:
        """Trains the trial's candidate and writes the result; whether this worker completed or pruned the trial.

        A trial that is interrupted is given back: it fails without counting as a failure of its candidate.
        """
        candidate = self.retry(lambda: self._candidate(trial))
        if candidate is None:
            return False
        with Heartbeat(self.queue, trial, ignore=is_unavailable, stop=self.stop):
            try:
                outcome = self.results.find(candidate) or self._train(trial, candidate)
            except StoppedError as stopped:
                self._fail(trial, partial(write_interrupted, trial, str(stopped)))
                return False
            except StoreUnavailableError as error:  # while a checkpoint is read
                message = f"the artifact store is unavailable ({reason(error)})"
                self._fail(trial, partial(write_interrupted, trial, message))
                raise StorageUnavailableError(message) from error
            except Exception as error:
                if self.stop.reason:  # libraries turn an interruption into errors of their own, for instance numba
                    self._fail(trial, partial(write_interrupted, trial, self.stop.reason))
                    return False
                self._fail(trial, partial(write_failed, trial, error))
                if not isinstance(error, RETRIED):  # a failure of the candidate, too, so that it can't end all workers
                    raise
                if _is_device_lost(error):
                    raise DeviceLostError(f"trial {trial.number}: {error}".splitlines()[0]) from error
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                return False
            return self._write(trial, outcome)

    def _candidate(self, trial: optuna.Trial) -> Candidate | None:
        """The trial's candidate, drawn by the sampler if it has none yet; None, and pruned, if it is a duplicate."""
        if self.plan.search.trials is not None:
            self.study.get_trials(deepcopy=False)  # Optuna sets parameters of trials only that it has read
        candidate = self.plan.suggest(trial)
        if self.plan.search.trials is not None and self.plan.is_duplicate(trial):
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return None
        return candidate

    def _train(self, trial: optuna.Trial, candidate: Candidate) -> Outcome:
        self.queue.close_connections()
        with self.stop.interruptible():
            return self.objective.outcome(FixedTrial(dict(trial.params), number=trial.number), candidate.seed)

    def _write(self, trial: optuna.Trial, outcome: Outcome) -> bool:
        """Writes the result to the database; where that fails, saves it in a file."""
        try:
            best = self.retry(self._best_accuracy)
            finished = self.retry(lambda: finished_trial(trial, self.objective.constrained(outcome, best)))
            written = self.retry(lambda: self.queue.write(finished))
        except Exception:
            path = self.results.save(trial.number, outcome)
            self.say(f"trial {trial.number}: its result is saved in {path}; the next worker there writes it")
            raise
        self.results.remove(outcome.candidate)
        if not written:
            self.say(f"trial {trial.number} was silent for too long, and was given to another worker")
            return False
        self.objective.forget(outcome.candidate)
        if self.on_trial:
            self.on_trial(self.study, finished)
        return True

    def _best_accuracy(self) -> float | None:
        objectives = self.objective.objectives
        return self.queue.best_value(objectives.index("accuracy")) if "accuracy" in objectives else None

    def _fail(self, trial: optuna.Trial, write_reason: Callable[[], None]) -> None:
        """Fails a trial with its reason. If that can't be written, others fail it when its heartbeats are missing."""

        def fail() -> None:
            write_reason()
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

        try:
            self.retry(fail)
        except (StorageUnavailableError, optuna.exceptions.UpdateFinishedTrialError) as error:
            self.say(
                f"the failure of trial {trial.number} could not be written to the database ({error}); its candidate is "
                "handed out again when its heartbeats are missing"
            )
        if self.on_trial:
            self.on_trial(self.study, self.queue.stored(trial))

    def _write_saved_results(self) -> int:
        """Writes the results that earlier workers saved in this folder to the database; returns their number."""
        written = 0
        for number, outcome in self.results.all().items():
            self.retry(self._enqueue_missing)
            trial = self.retry(partial(self._trial_for, number, outcome.candidate))
            written += trial is not None and self._write(trial, outcome)
        return written

    def _trial_for(self, number: int, candidate: Candidate) -> optuna.Trial | None:
        """The trial to which a saved result is written: its own or a waiting one; None if another worker has it."""
        trials = self.study.get_trials(deepcopy=False)
        same = [trial for trial in trials if self.plan.candidate_of(trial) == candidate]
        if any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in same):
            self.results.remove(candidate)
            self.objective.forget(candidate)
            return None
        for trial in same:
            if trial.number == number and trial.state == TrialState.RUNNING:
                return self.queue.running(trial)
        for trial in same:
            if trial.state == TrialState.WAITING:
                return self.queue.take_waiting(trial)
        return None


def idle_seconds(idle_queries: int, heartbeat: int) -> int:
    """The longest pause after a number of queries without a trial: doubled each time, at most a heartbeat or 60 s."""
    return min(IDLE * 2 ** min(idle_queries, 8), heartbeat, LONGEST_IDLE)


def _is_device_lost(error: Exception) -> bool:
    """Whether an error leaves CUDA unusable in this process; running out of memory does not."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
