"""The trials that a study still needs, computed from those it has, so that each candidate is completed once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_relucode.study.record import record_of
from nas_relucode.study.search_space import Candidate, SearchSettings, SearchSpace

RETRIED = (RuntimeError, MemoryError)  # errors of a training after which its candidate is trained again
MAX_RETRIES = 2  # of a candidate whose training raised such an error
MAX_LOST = 10  # workers that may die without a reason while training one candidate; one more, and it is given up


@dataclass(frozen=True)
class Missing:
    """A candidate that has no result and no trial that waits or runs."""

    candidate: Candidate
    last_failed: int | None  # the number of its last failed trial
    raised: int  # its trials that raised an error
    lost: int  # its trials whose process died

    @property
    def raised_too_often(self) -> bool:
        return self.raised > MAX_RETRIES

    @property
    def given_up(self) -> bool:
        return self.raised_too_often or self.lost > MAX_LOST

    @property
    def retry_attributes(self) -> dict[str, int]:
        """The user attributes of its next trial."""
        return {} if self.last_failed is None else {"retry_of": self.last_failed}


class Plan:
    """The trials that a study still needs."""

    def __init__(self, study: optuna.Study, search: SearchSettings, space: SearchSpace) -> None:
        self.study, self.search, self.space = study, search, space
        self.seeds = list(search.seeds)

    @property
    def size(self) -> int:
        """The number of trials in the whole study, without retries."""
        if self.search.trials is not None:
            return self.search.trials * len(self.seeds)
        return len(self.space.candidates(self.seeds))

    def enqueue_missing(self) -> int:
        """Enqueues the next trials of a single process and returns how many wait; 0 when the study is complete.

        A sampler draws one candidate at a time, so that it knows the results of all earlier ones. In a single process a
        trial whose process died is repeated any number of times: the user started the study again each time.
        """
        waiting = len(self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]))
        if waiting:  # left over from a run that was interrupted
            return waiting
        trials = self.study.get_trials(deepcopy=False)
        missing = [item for item in self._missing(trials) if not item.raised_too_often]
        if self.search.together > 1:
            missing.sort(key=lambda item: item.candidate.head)
        for item in missing:
            self.study.enqueue_trial(item.candidate.params, user_attrs=item.retry_attributes or None)
        if not missing and self.search.trials is not None and self._draws(trials) < self.search.trials:
            self.study.enqueue_trial({"seed": self.seeds[0]})  # the sampler chooses the rest
            return 1
        return len(missing)

    def missing_trials(self) -> list[FrozenTrial]:
        """The waiting trials to add to the queue of many workers; no other process may add any meanwhile.

        They have their parameters from the start, so that every process sees which candidate waits.
        """
        trials = self.study.get_trials(deepcopy=False)
        distributions = self.space.distributions(self.seeds)
        waiting = [
            create_trial(
                state=TrialState.WAITING,
                params={name: item.candidate.params[name] for name in distributions},
                distributions=distributions,
                user_attrs=item.retry_attributes,
            )
            for item in self._missing(trials)
            if not item.given_up
        ]
        if self.search.trials is not None:
            undrawn = [t for t in trials if not t.state.is_finished() and self.candidate_of(t) is None]
            draws = max(0, self.search.trials - self._draws(trials) - len(undrawn))
            fixed = {"fixed_params": {"seed": self.seeds[0]}}  # as Study.enqueue_trial stores it
            waiting += [create_trial(state=TrialState.WAITING, system_attrs=fixed) for _ in range(draws)]
        return waiting

    def is_duplicate(self, trial: optuna.Trial) -> bool:
        """Whether another trial is complete with this one's candidate, or runs and has a smaller number.

        If so, that trial's number is stored in this one, as ``same_as``.
        """
        candidate = self.space.suggest(trial, self.seeds)
        for other in self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.RUNNING]):
            first = other.state == TrialState.COMPLETE or other.number < trial.number
            if first and self.candidate_of(other) == candidate:
                trial.set_user_attr("same_as", other.number)
                return True
        return False

    def given_up(self, trials: list[FrozenTrial]) -> list[Candidate]:
        """The candidates that failed too often to be tried again."""
        return [item.candidate for item in self._missing(trials) if item.given_up]

    def missing_candidates(self) -> list[Candidate]:
        """The candidates without a result; after a run, those that were given up."""
        return [item.candidate for item in self._missing(self.study.get_trials(deepcopy=False))]

    def _missing(self, trials: list[FrozenTrial]) -> list[Missing]:
        done: set[Candidate] = set()
        last_failed: dict[Candidate, int] = {}
        raised: Counter[Candidate] = Counter()
        lost: Counter[Candidate] = Counter()
        drawn: dict[Candidate, None] = {}
        for trial in trials:
            candidate = self.candidate_of(trial)
            if candidate is None:
                continue
            drawn[Candidate(candidate.head, candidate.learning_rate, self.seeds[0])] = None
            if trial.state == TrialState.FAIL:
                last_failed[candidate] = trial.number
                record = record_of(trial)
                raised[candidate] += "failed" in record
                lost[candidate] += "failed" not in record and "interrupted" not in record
            else:
                done.add(candidate)
        if self.search.trials is None:
            candidates = self.space.candidates(self.seeds)
        else:
            candidates = [Candidate(c.head, c.learning_rate, seed) for c in drawn for seed in self.seeds]
        return [Missing(c, last_failed.get(c), raised[c], lost[c]) for c in candidates if c not in done]

    def _draws(self, trials: list[FrozenTrial]) -> int:
        """How often the sampler has drawn; repeated candidates count, so that a study in a small space ends."""
        firsts = [t for t in trials if t.params.get("seed", self.seeds[0]) == self.seeds[0]]
        return len([t for t in firsts if "retry_of" not in t.user_attrs and "head" in t.params])

    def candidate_of(self, trial: FrozenTrial) -> Candidate | None:
        """The candidate of a trial; None if the trial ended before one was drawn."""
        if "head" not in trial.params or "learning_rate" not in trial.params:
            return None
        return Candidate(trial.params["head"], trial.params["learning_rate"], trial.params.get("seed", self.seeds[0]))
