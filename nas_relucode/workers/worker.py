"""A worker: takes candidates of a planned study until none is left, and loses nothing, whatever dies."""

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
from nas_relucode.study.artifact_stores import StoreAwayError, store_of
from nas_relucode.study.checkpoint_files import digest
from nas_relucode.study.objective import Objective
from nas_relucode.study.plan import RETRIED, Plan
from nas_relucode.study.record import Outcome, write_failed, write_interrupted
from nas_relucode.study.runner import check_settings, load_study_data, objective_of, settings_of
from nas_relucode.study.search_space import SAMPLERS, Candidate
from nas_relucode.study.settings import StudySettings
from nas_relucode.study.storage import storage_errors
from nas_relucode.workers.defaults import PATIENCE
from nas_relucode.workers.patience import Patience, StorageLostError, is_lost, lost_errors, reason
from nas_relucode.workers.planning import open_planned
from nas_relucode.workers.queue import Heartbeat, Queue
from nas_relucode.workers.results import SavedResults, ended
from nas_relucode.workers.stopping import Stop, StoppedError

IDLE, LONGEST_IDLE = 10, 60  # seconds, at most, between two looks at trials of others; see `idle_seconds`


class DeviceLostError(Exception):
    """The device answers no more in this process: CUDA remembers its error until the process ends."""


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
    say: Callable[[str], None] = lambda line: None,
    on_epoch: Callable[..., None] | None = None,
    on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None,
) -> int:
    """Works on the study that `plan_study` planned, in this process, until none of its candidates is left.

    Returns the number of trials that it brought to an end. Any number of workers may do so at once. A candidate whose
    worker dies is handed out again, and goes on from its last checkpoint; one that raises (out of memory, say) twice
    more. Trials of others that still run are waited for, since their workers may die, unless ``wait`` is False.

    ``settings`` are checked against the study's own; None takes them from the study. ``folder`` is for files, as in
    `run_study`, best on a file system that all workers share; where they share none, ``artifacts`` (one of Optuna's
    artifact stores, S3 for instance; None takes the one that was planned) holds the predictions and copies of the
    checkpoints. ``max_trials`` ends the worker after so many; ``stop`` may end it at any time: the trial that runs is
    then given back.

    Raises InputError if the data or the settings are other ones; StorageLostError if the database or the artifact
    store is away for more than ``patience`` seconds; DeviceLostError after an error of CUDA's that only a new process
    mends. A result that cannot be told is saved in ``folder`` and handed in by the next worker there.
    """
    if max_trials is not None and max_trials < 1:
        raise InputError(f"max_trials {max_trials} is too small. Give at least 1, or none.")
    stop = stop or Stop()
    waiting = Patience(patience, say, stop)

    def epoch(*told: Any) -> None:  # the checkpoint has been written
        if on_epoch is not None:
            on_epoch(*told)
        stop.check()

    folder = Path("runs", name) if folder is None else Path(folder)
    with storage_errors(storage), lost_errors():
        queue = waiting(lambda: open_planned(name, storage, optuna.samplers.RandomSampler()))
        try:
            if settings is not None:
                check_settings(queue.study, settings)
            settings = settings_of(queue.study)
            made = queue.study.user_attrs["settings"]
            if artifacts is None:
                artifacts = waiting(lambda: store_of(queue.study))
            queue.let_go()
            data = load_study_data(settings.data, data_root, download)
            if data.digest() != made["data"]["sha256"]:
                raise InputError(
                    f"the data here is not the data that study {name!r} was planned with (its SHA-256 differs). "
                    "Give a --data-root with the same files."
                )
            objective = objective_of(settings, data, device=device, folder=folder, artifacts=artifacts, on_epoch=epoch)
            results = SavedResults(folder, name, digest(made))
            worker = Worker(queue, settings, objective, results, waiting, stop, say, on_trial)
            return worker.run(max_trials, wait)
        finally:
            queue.let_go()


class Worker:
    """What a worker holds from one trial to the next; see `work`."""

    def __init__(
        self,
        queue: Queue,
        settings: StudySettings,
        objective: Objective,
        results: SavedResults,
        patience: Patience,
        stop: Stop,
        say: Callable[[str], None],
        on_trial: Callable[[optuna.Study, FrozenTrial], None] | None,
    ) -> None:
        self.queue, self.study, self.objective, self.results = queue, queue.study, objective, results
        self.patience, self.stop, self.say, self.on_trial = patience, stop, say, on_trial
        self.plan = Plan(self.study, settings.search, settings.search_space)
        if settings.search.trials is not None:
            self.study.sampler = SAMPLERS[settings.search.sampler](secrets.randbits(32))

    def run(self, max_trials: int | None, wait: bool) -> int:
        """See `work`."""
        done, looks = self._hand_in_saved(), 0
        while self.stop.reason is None and (max_trials is None or done < max_trials):
            trial = self.patience(self.queue.take)
            if trial is not None:
                done, looks = done + self._bring_to_an_end(trial), 0
            elif not self.patience(self._fill):
                if not wait or not self.patience(self.queue.unfinished):
                    break
                self._pause(looks)
                looks += 1
        return done

    def _fill(self) -> int:
        """Enqueues again what failed, also the trials of the workers that died; the number of trials."""
        self.queue.fail_stale()
        return self.queue.add(self.plan.waiting_trials, after_failures=self.plan.search.trials is None)

    def _pause(self, looks: int) -> None:
        """Waits, after so many looks in vain, for what the trials of others come to, without a connection."""
        self.queue.let_go()
        seconds = idle_seconds(looks, self.queue.storage.get_heartbeat_interval() or IDLE)
        try:
            with self.stop.interruptible():
                threading.Event().wait(seconds * random.uniform(0.5, 1.0))
        except StoppedError:
            pass  # the loop sees the reason

    def _bring_to_an_end(self, trial: optuna.Trial) -> bool:
        """Trains the candidate of a trial and tells it; whether it came to an end, so that nobody else need."""
        candidate = self.patience(lambda: self._candidate(trial))
        if candidate is None:
            return False
        with Heartbeat(self.queue, trial._trial_id, ignore=is_lost):
            try:
                outcome = self.results.of(candidate) or self._train(trial, candidate)
            except StoppedError as stopped:
                self._give_back(trial, str(stopped))
                return False
            except StoreAwayError as error:  # that of the checkpoints
                self._give_back(trial, f"the artifact store is away ({reason(error)})")
                raise StorageLostError(f"the artifact store is away ({reason(error)})") from error
            except RETRIED as error:
                self._fail(trial, error)
                if _is_broken(error):
                    raise DeviceLostError(f"trial {trial.number}: {error}".splitlines()[0]) from error
                return False
            except Exception as error:  # what would end every worker ends this one, and counts
                self._fail(trial, error)
                raise
            return self._tell(trial, outcome)

    def _candidate(self, trial: optuna.Trial) -> Candidate | None:
        """The candidate of a trial, drawn by the sampler if need be; None if another trial has it already."""
        candidate = self.plan.space.suggest(trial, self.plan.seeds)
        if self.plan.search.trials is not None and self.plan.is_complete(trial):
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            return None
        return candidate

    def _train(self, trial: optuna.Trial, candidate: Candidate) -> Outcome:
        self.queue.let_go()
        with self.stop.interruptible():
            return self.objective.outcome(FixedTrial(dict(trial.params), number=trial.number))

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> bool:
        try:
            end = self.patience(lambda: ended(trial, outcome, self.objective.store))
            told = self.patience(lambda: self.queue.tell(end))
        except Exception:  # a full disk of the artifacts, say, is no reason to lose it
            path = self.results.save(trial.number, outcome)
            self.say(f"trial {trial.number}: its result is saved in {path}, and is handed in by the next worker there")
            raise
        self.results.remove(outcome.candidate)
        if not told:
            self.say(f"trial {trial.number}: given to another worker meanwhile, having been silent for too long")
            return False
        self.objective.forget(outcome.candidate)
        if self.on_trial:
            self.on_trial(self.study, end)
        return True

    def _give_back(self, trial: optuna.Trial, reason: str) -> None:
        """Fails a trial that was stopped, in a way that makes its candidate wait again."""

        def fail() -> None:
            write_interrupted(trial, reason)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

        self._quietly(fail)
        self._report(trial)

    def _fail(self, trial: optuna.Trial, error: Exception) -> None:
        def fail() -> None:
            write_failed(trial, error)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

        self._quietly(fail)
        self._report(trial)
        if torch.cuda.is_available() and not _is_broken(error):
            torch.cuda.empty_cache()

    def _quietly(self, action: Callable[[], None]) -> None:
        """Does what may be left undone: a trial that is silent is failed by others."""
        try:
            self.patience(action)
        except (StorageLostError, optuna.exceptions.UpdateFinishedTrialError) as error:
            self.say(f"a trial could not be told ({error}); it is handed out again when it has been silent for long")

    def _report(self, trial: optuna.Trial) -> None:
        if self.on_trial:
            self.on_trial(self.study, self.queue.storage.get_trial(trial._trial_id))

    def _hand_in_saved(self) -> int:
        """Tells the results that an earlier worker saved here when it lost the storage; how many."""
        done = 0
        for number, outcome in self.results.all().items():
            self.patience(self._fill)
            trial = self.patience(partial(self._trial_for, number, outcome.candidate))
            done += trial is not None and self._tell(trial, outcome)
        return done

    def _trial_for(self, number: int, candidate: Candidate) -> optuna.Trial | None:
        """The trial that a saved result belongs to now: its own, or one that waits; None if somebody else has it."""
        trials = self.study.get_trials(deepcopy=False)
        same = [trial for trial in trials if self.plan.candidate_of(trial) == candidate]
        if any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in same):
            self.results.remove(candidate)
            self.objective.forget(candidate)
            return None
        for trial in same:
            if trial.number == number and trial.state == TrialState.RUNNING:
                return optuna.Trial(self.study, trial._trial_id)
        for trial in same:
            if trial.state == TrialState.WAITING:
                return self.queue.take_waiting(trial)
        return None


def idle_seconds(looks: int, heartbeat: int) -> int:
    """The longest pause after so many looks in vain: doubled each time, at most a heartbeat or a minute."""
    return min(IDLE * 2 ** min(looks, 8), heartbeat, LONGEST_IDLE)


def _is_broken(error: Exception) -> bool:
    """Whether an error leaves CUDA unusable in this process; running out of memory does not."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
