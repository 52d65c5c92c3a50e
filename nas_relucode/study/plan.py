"""The trials that a study still needs, computed from those it has, so that each candidate is completed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_relucode.study.candidates import SEED, Candidate, network_key
from nas_relucode.study.record import record_of
from nas_relucode.study.search_space import LEARNING_RATE, SearchSettings, SearchSpace

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


Further = Callable[[optuna.Study, list[int]], list[Candidate]]  # study, seeds -> what to train next with other seeds


class Plan:
    """The trials that a study still needs.

    ``further`` decides, once all candidates are done, which networks are still in question and with which seed each is
    trained next; it is asked again after each training. None: no network is.
    """

    def __init__(
        self, study: optuna.Study, search: SearchSettings, space: SearchSpace, further: Further | None = None
    ) -> None:
        self.study, self.search, self.space = study, search, space
        self.seeds = list(search.seeds)
        self.further = None if search.finalist_seeds is None else further

    @property
    def size(self) -> int:
        """The number of trials in the whole study, without retries."""
        if self.search.trials is not None:
            return self.search.trials * len(self.seeds)
        self.space.check_countable()
        return (self.space.size or 0) * len(self.seeds)

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
            missing.sort(key=lambda item: structure(item.candidate))
        if not missing and self.search.trials is not None and self._draws(trials) < self.search.trials:
            self.study.enqueue_trial({SEED: self.seeds[0]})  # the sampler chooses the rest
            return 1
        missing = missing or self._untried(self.wanted_further(), trials)
        for item in missing:
            self.study.enqueue_trial(self._params(item.candidate), user_attrs=self._attributes(item) or None)
        return len(missing)

    def missing_trials(self) -> list[FrozenTrial]:
        """The waiting trials to add to the queue of many workers; no other process may add any meanwhile.

        They have their parameters from the start, so that every process sees which candidate waits.
        """
        trials = self.study.get_trials(deepcopy=False)
        waiting = [self._waiting(item) for item in self._missing(trials) if not item.given_up]
        if self.search.trials is not None:
            undrawn = [t for t in trials if not t.state.is_finished() and self.candidate_of(t) is None]
            draws = max(0, self.search.trials - self._draws(trials) - len(undrawn))
            fixed = {"fixed_params": {SEED: self.seeds[0]}}  # as Study.enqueue_trial stores it
            waiting += [create_trial(state=TrialState.WAITING, system_attrs=fixed) for _ in range(draws)]
        return waiting

    def wanted_further(self) -> list[Candidate]:
        """The candidates with further seeds that are worth training at this point, the most useful first."""
        return [] if self.further is None else self.further(self.study, self.search.all_seeds)

    def further_trials(self, wanted: list[Candidate]) -> list[FrozenTrial]:
        """The first of the ``wanted`` candidates that no trial has, as a waiting trial for a queue."""
        return [self._waiting(item) for item in self._untried(wanted, self.study.get_trials(deepcopy=False))]

    def _untried(self, wanted: list[Candidate], trials: list[FrozenTrial]) -> list[Missing]:
        tried = {self.candidate_of(trial) for trial in trials}
        return [Missing(candidate, None, 0, 0) for candidate in wanted if candidate not in tried][:1]

    def finalists(self, trials: list[FrozenTrial]) -> int:
        """The number of candidates with further seeds."""
        candidates = {self.candidate_of(trial) for trial in trials} - {None}
        return sum(candidate is not None and candidate.seed not in self.seeds for candidate in candidates)

    def is_duplicate(self, trial: optuna.Trial) -> bool:
        """Whether another trial is complete with this one's candidate, or runs and has a smaller number.

        If so, that trial's number is stored in this one, as ``same_as``.
        """
        candidate = self.suggest(trial)
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
            drawn[candidate] = None
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
            candidates = [Candidate(first.params, seed) for first in drawn for seed in self.seeds]
        candidates = list(dict.fromkeys([*candidates, *drawn]))
        return [Missing(c, last_failed.get(c), raised[c], lost[c]) for c in candidates if c not in done]

    def _draws(self, trials: list[FrozenTrial]) -> int:
        """How often the sampler has drawn; repeated candidates count, so that a study in a small space ends."""
        drawn = [trial for trial in trials if "retry_of" not in trial.user_attrs]
        return len([c for c in map(self.candidate_of, drawn) if c is not None and c.seed == self.seeds[0]])

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """The candidate that a trial suggests, with the seed that it was enqueued with."""
        return self.space.suggest(trial, self.seeds, trial.user_attrs.get(SEED))

    def candidate_of(self, trial: FrozenTrial) -> Candidate | None:
        """The candidate of a trial; None if the trial ended before one was drawn."""
        if not self.space.parameters.keys() <= trial.params.keys():
            return None
        return Candidate.of_trial(trial.params, trial.user_attrs.get(SEED, self.seeds[0]))

    def _params(self, candidate: Candidate) -> dict[str, Any]:
        """The parameters of a candidate's trial; its seed is one of them if the study has several."""
        is_parameter = len(self.seeds) > 1 and candidate.seed in self.seeds
        return dict(candidate.params) | ({SEED: candidate.seed} if is_parameter else {})

    def _attributes(self, item: Missing) -> dict[str, int]:
        """The user attributes of a candidate's next trial: its seed if no parameter holds it, and what it repeats."""
        seed = {} if item.candidate.seed in self.seeds else {SEED: item.candidate.seed}
        return seed | item.retry_attributes

    def _waiting(self, item: Missing) -> FrozenTrial:
        params, distributions = self._params(item.candidate), self.space.distributions(self.seeds)
        return create_trial(
            state=TrialState.WAITING,
            params=params,
            distributions={name: distributions[name] for name in params},
            user_attrs=self._attributes(item),
        )


def structure(candidate: Candidate) -> str:
    """What candidates have in common that can be trained as one batched network: all but learning rate and seed."""
    return network_key({name: value for name, value in candidate.params.items() if name != LEARNING_RATE})
