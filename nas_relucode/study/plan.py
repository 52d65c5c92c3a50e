"""Which trials a study still needs, read from the trials it has: every candidate comes to an end once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_relucode.study.objective import Objective
from nas_relucode.study.record import record_of, write_failed
from nas_relucode.study.search_space import Candidate, SearchSettings, SearchSpace

RETRIED = (RuntimeError, MemoryError)  # what a candidate may raise and be tried again
MAX_RETRIES = 2  # of a candidate whose trial raised an error
MAX_LOST = 10  # of a candidate's workers that may die without a word before it is taken to be what kills them


@dataclass(frozen=True)
class Missing:
    """A candidate without a result."""

    candidate: Candidate
    failed: int | None  # the trial that failed on it last
    raised: int  # trials that raised an error
    lost: int  # trials whose process died

    @property
    def given_up(self) -> bool:
        return self.raised > MAX_RETRIES


class Plan:
    """Which trials a study still needs, read from the trials it has."""

    def __init__(self, study: optuna.Study, search: SearchSettings, space: SearchSpace) -> None:
        self.study, self.search, self.space = study, search, space
        self.seeds = list(search.seeds)

    @property
    def size(self) -> int:
        """Trials in the whole study, without retries."""
        if self.search.trials is not None:
            return self.search.trials * len(self.seeds)
        return len(self.space.candidates(self.seeds))

    def next(self) -> int:
        """Enqueues what is missing and returns how many trials wait; 0 when the study is complete."""
        waiting = len(self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]))
        if waiting:  # left over from a run that was stopped
            return waiting
        trials = self.study.get_trials(deepcopy=False)
        missing = [(item.candidate.params, item.failed) for item in self._missing(trials) if not item.given_up]
        todo = sorted(missing, key=lambda item: item[0]["head"]) if self.search.together > 1 else missing
        if not todo and self.search.trials is not None and self._draws(trials) < self.search.trials:
            todo = [({"seed": self.seeds[0]}, None)]  # the sampler chooses the rest
        for params, retry in todo:
            attributes = None if retry is None else {"retry_of": retry}
            self.study.enqueue_trial(params, user_attrs=attributes)
        return len(todo)

    def waiting_trials(self) -> list[FrozenTrial]:
        """What is missing, for a queue of many workers: trials to add, in one go, while nobody else adds any.

        They have their parameters from the start, so that whoever looks sees which candidate waits.
        """
        trials = self.study.get_trials(deepcopy=False)
        distributions = self.space.distributions(self.seeds)
        todo = []
        for item in self._missing(trials):
            if not item.given_up and item.lost <= MAX_LOST:
                values = {name: item.candidate.params[name] for name in distributions}
                retry = {} if item.failed is None else {"retry_of": item.failed}
                todo.append(
                    create_trial(state=TrialState.WAITING, params=values, distributions=distributions, user_attrs=retry)
                )
        if self.search.trials is not None:
            undrawn = [t for t in trials if not t.state.is_finished() and self.candidate_of(t) is None]
            draws = max(0, self.search.trials - self._draws(trials) - len(undrawn))
            fixed = {"fixed_params": {"seed": self.seeds[0]}}  # as Study.enqueue_trial has it
            todo += [create_trial(state=TrialState.WAITING, system_attrs=fixed) for _ in range(draws)]
        return todo

    def once(self, objective: Objective) -> Callable[[optuna.Trial], tuple[float, ...]]:
        """``objective``, but a candidate that is complete already is pruned, and the reason of a failure is kept."""

        def call(trial: optuna.Trial) -> tuple[float, ...]:
            if self.is_complete(trial):
                raise optuna.TrialPruned("a candidate that was complete already")
            try:
                return objective(trial)
            except RETRIED as error:
                write_failed(trial, error)
                raise

        return call

    def run_together(
        self, objective: Objective, count: int, on_trial: Callable[[optuna.Study, FrozenTrial], None] | None
    ) -> None:
        """Takes ``count`` waiting trials and trains those of one head as one batched network."""
        by_head: dict[str, list[optuna.Trial]] = {}
        trials = [self.study.ask() for _ in range(count)]
        for trial in trials:
            if self.is_complete(trial):
                self.study.tell(trial, state=TrialState.PRUNED)
            else:
                by_head.setdefault(trial.params["head"], []).append(trial)
        for group in by_head.values():
            try:
                for trial, outcome in zip(group, objective.together(group), strict=True):
                    if isinstance(outcome, optuna.TrialPruned):
                        self.study.tell(trial, state=TrialState.PRUNED)
                    else:
                        self.study.tell(trial, outcome)
            except RETRIED as error:
                for trial in group:
                    write_failed(trial, error)
                    self.study.tell(trial, state=TrialState.FAIL)
        for trial in trials if on_trial else []:
            on_trial(self.study, self.study.trials[trial.number])  # type: ignore[misc]

    def is_complete(self, trial: optuna.Trial) -> bool:
        """Whether another trial has the result of this one's candidate, or will before; the trial then says which."""
        candidate = self.space.suggest(trial, self.seeds)
        for other in self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.RUNNING]):
            first = other.state == TrialState.COMPLETE or other.number < trial.number
            if first and self.candidate_of(other) == candidate:
                trial.set_user_attr("same_as", other.number)
                return True
        return False

    def given_up(self, trials: list[FrozenTrial]) -> list[Candidate]:
        """The candidates that failed too often to be tried again."""
        return [item.candidate for item in self._missing(trials) if item.given_up or item.lost > MAX_LOST]

    def missing(self) -> list[Candidate]:
        """The candidates without a result; after a run, those that were given up."""
        return [item.candidate for item in self._missing(self.study.get_trials(deepcopy=False))]

    def _missing(self, trials: list[FrozenTrial]) -> list[Missing]:
        """The candidates that have no result, and no trial that waits or runs.

        A trial that was interrupted is tried again however often; one that raised, MAX_RETRIES times; in a queue, one
        whose worker died, MAX_LOST times.
        """
        done: set[Candidate] = set()
        failed: dict[Candidate, int] = {}
        raised: Counter[Candidate] = Counter()
        lost: Counter[Candidate] = Counter()
        drawn: dict[Candidate, None] = {}
        for trial in trials:
            candidate = self.candidate_of(trial)
            if candidate is None:
                continue
            drawn[Candidate(candidate.head, candidate.learning_rate, self.seeds[0])] = None
            if trial.state == TrialState.FAIL:
                failed[candidate] = trial.number
                found = record_of(trial)
                raised[candidate] += "failed" in found
                lost[candidate] += "failed" not in found and "interrupted" not in found
            else:
                done.add(candidate)
        if self.search.trials is None:
            wanted = self.space.candidates(self.seeds)
        else:
            wanted = [Candidate(c.head, c.learning_rate, seed) for c in drawn for seed in self.seeds]
        return [Missing(c, failed.get(c), raised[c], lost[c]) for c in wanted if c not in done]

    def _draws(self, trials: list[FrozenTrial]) -> int:
        """How often the sampler was asked: repeated candidates count, so that a small space comes to an end."""
        firsts = [t for t in trials if t.params.get("seed", self.seeds[0]) == self.seeds[0]]
        return len([t for t in firsts if "retry_of" not in t.user_attrs and "head" in t.params])

    def candidate_of(self, trial: FrozenTrial) -> Candidate | None:
        """The candidate of a trial; None if it was stopped before it had one."""
        if "head" not in trial.params or "learning_rate" not in trial.params:
            return None
        return Candidate(trial.params["head"], trial.params["learning_rate"], trial.params.get("seed", self.seeds[0]))
