"""Training networks again with other seeds, until it can be told which of them are equally accurate."""

from __future__ import annotations

import inspect
import math
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_relucode.errors import InputError, finite_number, unknown, whole_number
from nas_relucode.processes import TOKEN, is_alive, machine
from nas_relucode.ranking.choices import LEVEL
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import Selection
from nas_relucode.ranking.trials import NothingCompleteError, read_trials
from nas_relucode.ranking.verdict import not_compared
from nas_relucode.study.candidates import SEED, Candidate
from nas_relucode.study.record import ATTRIBUTE, candidate_of, record_of, write_failed
from nas_relucode.texts import listed

EQUAL, ALL = "equal", "all"
CLAIM = "reseed"  # user attribute of a trial that trains a network again: which network, which seed, which process
FEWEST = 3  # networks that are trained again before anything is known about the effect of a seed
UNTOLD = "cannot be told"
PAUSE = 1.0  # seconds between two looks at what other processes run

FIRM, SPENT, ENOUGH, ELSEWHERE = "firm", "seeds spent", "budget spent", "running elsewhere"
REASONS = {
    FIRM: "the verdict is firm: every network that was compared is equal to the best one or worse",
    SPENT: "each network in question has every seed",
    ENOUGH: "the budget is spent",
    ELSEWHERE: "what is left runs elsewhere",
}


@dataclass(frozen=True, eq=False)
class Reseeding:
    """How a `reseed` ended, and what it trained."""

    reason: str  # "firm", "seeds spent", "budget spent" or "running elsewhere"
    selection: Selection = field(repr=False)  # of the study as it is now
    trained: list[int]  # numbers of the trials that this call completed
    pruned: list[int]  # of those that were pruned
    failed: list[int]  # of those whose objective raised an error that `catch` names
    elsewhere: list[int]  # of those that other machines run, or have left behind

    def __str__(self) -> str:
        reason = f"{REASONS[self.reason]}{f', in trial {listed(self.elsewhere)}' if self.elsewhere else ''}"
        others = {"pruned": self.pruned, "failed": self.failed}
        early = "".join(f" {len(numbers)} {how}." for how, numbers in others.items() if numbers)
        left_out = f" {left_out}" if (left_out := not_compared(self.selection)) else ""
        return f"{len(self.trained)} trained again, then {reason}{_untold(self.selection)}.{left_out}{early}"


def reseed(
    study: optuna.Study,
    objective: Callable[..., Any],
    *,
    seeds: Sequence[int],
    which: str | Sequence[str] = EQUAL,
    margin: float | None = None,
    rule: str = "1se",
    level: float = LEVEL,
    n_trials: int | None = None,
    timeout: float | None = None,
    catch: tuple[type[Exception], ...] = (),
) -> Reseeding:
    """Trains networks of a study again, each with further ``seeds``, until `select` can tell which are equal.

    A training is a new trial of the study with the parameters of the network, run by ``objective(trial, seed=seed)``.
    ``which`` says what is trained:

    - ``"equal"``: the networks in question, those that can't be told from the best one, and the best one itself;
      first those within one standard error of it. It ends when every network is equal or worse (``margin``, ``rule``
      and ``level`` are those of `select`: by default the study's own margin), or has every seed.
    - ``"all"``: every network that can be chosen, with every seed;
    - a list of networks, by their names in `Selection.networks`: these, with every seed.

    At most ``n_trials`` are trained by this call, and none is begun after ``timeout`` seconds. An error of the
    objective fails its trial and is raised, unless ``catch`` names it; the next call trains that seed again. A network
    of which a seed is pruned drops out.

    Several processes may reseed a study at once: what one of them trains, or has trained, no other repeats. A trial
    that a dead process of this machine left behind is failed and trained again. What another machine runs is not waited
    for; if it has died, fail its trial yourself: ``study.tell(number, state=optuna.trial.TrialState.FAIL)``.

    Raises InputError for a study that cannot be ranked, an objective that takes no ``seed``, and arguments out of
    range.
    """
    seeds, n_trials = _checked(objective, seeds, which, n_trials, timeout)
    options = {"margin": margin, "rule": rule, "level": level}
    reseeder = _Reseeder(study, objective, seeds, which, options, n_trials, timeout, catch)
    sampler, study.sampler = study.sampler, optuna.samplers.RandomSampler()  # GridSampler would stop the study
    try:
        return reseeder.run()
    finally:
        study.sampler = sampler


def next_trainings(
    selection: Selection, seeds: Sequence[int], *, which: str | Sequence[str] = EQUAL
) -> list[Candidate]:
    """What `reseed` would train next, the most useful first: the seeds that the networks in question lack.

    Empty if the verdict is firm, or if every network in question has every seed.
    """
    close = _close_networks(selection)
    candidates = []
    for place, name in enumerate(_in_question(selection, which)):
        have = set(selection.seeds_of(name))
        for number, seed in enumerate(seed for seed in seeds if seed not in have):
            candidate = Candidate(selection.source.params[name], seed)
            candidates.append(((name not in close, len(have) + number, place), candidate))
    return [candidate for _, candidate in sorted(candidates, key=lambda pair: pair[0])]


def further_trainings(study: optuna.Study, seeds: Sequence[int], *, margin: float | None = None) -> list[Candidate]:
    """`next_trainings` of a study as it is now, for `run_study` and `work`; empty if nothing is complete.

    Raises InputError for a study that cannot be ranked, for example because of a damaged record.
    """
    try:
        return next_trainings(select(study, margin=margin), seeds)
    except NothingCompleteError:  # every candidate was pruned or given up, which the report says
        return []


def rounds_ended(selection: Selection, seeds: Sequence[int]) -> str:
    """Why no network of a study with ``finalist_seeds`` is trained again, in a sentence; empty if one would be."""
    if next_trainings(selection, seeds):
        return ""
    reason = f"No network is trained again: {REASONS[FIRM if is_firm(selection) else SPENT]}{_untold(selection)}."
    return f"{reason} {not_compared(selection)}".rstrip()


def _untold(selection: Selection) -> str:
    """The networks that cannot be told from the best one, as the end of a sentence; empty if there are none."""
    networks = list(selection.networks["network"][selection.comparison["answer"] == UNTOLD])
    remain = "remains" if len(networks) == 1 else "remain"
    return f"; {listed(networks)} {remain} undecided" if networks else ""


def _in_question(selection: Selection, which: str | Sequence[str]) -> list[str]:
    """The names of the networks to train again, the most accurate first."""
    if which not in (EQUAL, ALL):
        return [which] if isinstance(which, str) else list(which)
    networks = selection.networks[selection.compared].sort_values("accuracy", ascending=False, kind="stable")
    if which == EQUAL:
        answers = selection.comparison.loc[networks.index, "answer"]
        networks = networks[answers.isin([] if is_firm(selection) else ["best", UNTOLD])]
    return list(networks["network"])


def _close_networks(selection: Selection) -> set[str]:
    """The networks that are trained first: those within one standard error of the best, at least 3."""
    networks = selection.networks[selection.compared].sort_values("accuracy", ascending=False, kind="stable")
    close = networks["network"][networks["accuracy"] >= selection.one_error_below]
    return {*close, *networks["network"].head(FEWEST)}


def is_firm(selection: Selection) -> bool:
    """Whether every network that was compared with the best one is equal to it or worse."""
    return not (selection.comparison["answer"] == UNTOLD).any()


class _Reseeder:
    """One call of `reseed`."""

    def __init__(
        self,
        study: optuna.Study,
        objective: Callable[..., Any],
        seeds: list[int],
        which: str | Sequence[str],
        options: dict[str, Any],
        n_trials: int | None,
        timeout: float | None,
        catch: tuple[type[Exception], ...],
    ) -> None:
        self.study, self.objective, self.seeds, self.which = study, objective, seeds, which
        self.options, self.n_trials, self.catch = options, n_trials, catch
        self.end = None if timeout is None else time.monotonic() + timeout
        self.trained: list[int] = []
        self.pruned: list[int] = []
        self.failed: list[int] = []
        self.skipped: set[tuple[str, int]] = set()  # trainings that failed in this call
        self.has_warned = False

    def run(self) -> Reseeding:
        """Trains until there is a reason to end."""
        keys = self._keys()
        while True:
            selection = select(self.study, **self.options)
            selection.require_feasible()
            names = selection.source.names  # they may change while other trials are added
            which = self.which if keys is None else [names[key] for key in keys]
            fail_abandoned(self.study)
            trials = self.study.get_trials(deepcopy=False)
            wanted = next_trainings(selection, self.seeds, which=which)
            taken = _taken(trials) | self.skipped
            free = [candidate for candidate in wanted if (candidate.network, candidate.seed) not in taken]
            running = [trial for trial in trials if _claim(trial) and trial.state == TrialState.RUNNING]
            if not wanted:
                return self._ended(FIRM if self.which == EQUAL and is_firm(selection) else SPENT, selection)
            if self._is_enough():
                return self._ended(ENOUGH, selection)
            if free:
                self._train(free[0], trials)
            elif any(_is_here(trial) for trial in running):
                time.sleep(PAUSE)
            else:
                elsewhere = [trial.number for trial in running]
                return self._ended(ELSEWHERE if elsewhere else SPENT, selection, elsewhere)

    def _keys(self) -> list[str] | None:
        """What identifies the networks that were named; None if they are to be those in question, or all."""
        if self.which in (EQUAL, ALL):
            return None
        named = [self.which] if isinstance(self.which, str) else list(self.which)
        keys = {name: key for key, name in read_trials(self.study).names.items()}
        for name in named:
            if name not in keys:
                raise unknown("network", name, [*keys, EQUAL, ALL])
        return [keys[name] for name in named]

    def _ended(self, reason: str, selection: Selection, elsewhere: Sequence[int] = ()) -> Reseeding:
        return Reseeding(reason, selection, self.trained, self.pruned, self.failed, list(elsewhere))

    def _is_enough(self) -> bool:
        many = self.n_trials is not None and len(self.trained) + len(self.pruned) + len(self.failed) >= self.n_trials
        return many or (self.end is not None and time.monotonic() >= self.end)

    def _train(self, candidate: Candidate, trials: Sequence[FrozenTrial]) -> None:
        """Runs the objective on a new trial, unless another process has begun the same training before."""
        trial, first = self._begin(candidate, trials)
        if first != trial.number:
            trial.set_user_attr("same_as", first)
            self.study.tell(trial, state=TrialState.FAIL)
            return
        try:
            self._tell(trial, self.objective(trial, seed=candidate.seed), candidate)
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            self.pruned.append(trial.number)
            return
        except BaseException as error:
            if ATTRIBUTE not in trial.user_attrs:
                write_failed(trial, error)
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            if not isinstance(error, self.catch):
                raise
            self.failed.append(trial.number)
            self.skipped.add((candidate.network, candidate.seed))
            return
        self.trained.append(trial.number)
        self._warn_same(trial.number, candidate)

    def _begin(self, candidate: Candidate, trials: Sequence[FrozenTrial]) -> tuple[optuna.Trial, int]:
        """A running trial with the candidate's parameters, and the number of the first trial that is this training.

        It never waits, as a trial does that `enqueue_trial` adds: any other process might take that, without its seed.
        """
        params = dict(candidate.params)
        if any(SEED in trial.params for trial in trials):  # the study suggests the seed itself
            params[SEED] = candidate.seed
        claim = {
            "network": candidate.network,
            "seed": candidate.seed,
            "process": {"machine": machine(), "id": os.getpid(), "token": TOKEN},
        }
        claim["id"] = uuid.uuid4().hex
        attributes = {SEED: candidate.seed, CLAIM: claim}
        running = create_trial(state=TrialState.RUNNING, system_attrs={"fixed_params": params}, user_attrs=attributes)
        self.study.add_trial(running)
        same = [t for t in self.study.get_trials(deepcopy=False) if _training(t) == (candidate.network, candidate.seed)]
        (own,) = (trial for trial in same if _claim(trial).get("id") == claim["id"])
        first = min(trial.number for trial in same if trial.state != TrialState.FAIL)
        return optuna.Trial(self.study, own._trial_id), first

    def _tell(self, trial: optuna.Trial, values: Any, candidate: Candidate) -> None:
        """Completes the trial. Raises InputError if it is not the training that was wanted, or has no values."""
        record = record_of(trial)
        if "params" not in record:
            raise InputError(f"trial {trial.number} has no record. Call a Recorder at the end of the objective.")
        recorded = candidate_of(record)
        if recorded != candidate:
            raise InputError(
                f"trial {trial.number} was to train {candidate.network} with seed {candidate.seed}, but its record is "
                f"that of {recorded.network} with seed {recorded.seed}. Let the objective suggest the same parameters "
                "for every seed, and hand its argument on: record(trial, network, seed=seed)."
            )
        numbers = values if isinstance(values, tuple | list) else [values]
        wanted = len(self.study.directions)
        if len(numbers) != wanted or not all(isinstance(n, Real) and not math.isnan(n) for n in numbers):
            raise InputError(
                f"the objective returned {values!r}. Return numbers, {wanted} of them, as the recorder does."
            )
        self.study.tell(trial, values)

    def _warn_same(self, number: int, candidate: Candidate) -> None:
        """Warns once if a training gave the very network that another seed gave."""
        trials = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        results = {t.number: _result(record_of(t)) for t in trials if _training(t)[0] == candidate.network}
        same = [other for other, result in results.items() if other != number and result == results.get(number)]
        if same and results[number] is not None and not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"trial {number}, with seed {candidate.seed}, gave the same predictions and loss as trial {same[0]}. "
                "Let the objective draw the weights and the order of the samples from its argument seed.",
                stacklevel=5,
            )


def fail_abandoned(study: optuna.Study) -> None:
    """Fails the trials of `reseed` that dead processes of this machine left running."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        process = _claim(trial).get("process", {})
        if _is_here(trial) and not is_alive(process["id"], process["token"]):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _checked(
    objective: Callable[..., Any], seeds: Any, which: Any, n_trials: int | None, timeout: float | None
) -> tuple[list[int], int | None]:
    """The seeds and the number of trials. Raises InputError for arguments that cannot be used."""
    parameters = inspect.signature(objective).parameters
    if SEED not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise InputError("the objective takes no seed. Give a function objective(trial, seed=0) that trains with it.")
    given = list(seeds) if isinstance(seeds, Iterable) else []
    try:
        numbers = [whole_number("a seed", seed) for seed in given]
    except InputError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        shown = given if isinstance(seeds, Iterable) else seeds
        raise InputError(f"seeds are {shown!r}. Give whole numbers from 0, each once, for example [1, 2, 3, 4].")
    if not isinstance(which, str | Iterable):
        raise InputError(f"which is {which!r}. Give 'equal', 'all' or a list of networks.")
    if timeout is not None and timeout != math.inf:
        finite_number("timeout", timeout)
    return numbers, None if n_trials is None else whole_number("n_trials", n_trials, least=1)


def _taken(trials: Sequence[FrozenTrial]) -> set[tuple[str | None, int | None]]:
    """The trainings that are complete, pruned or under way."""
    return {_training(trial) for trial in trials if trial.state != TrialState.FAIL}


def _training(trial: FrozenTrial) -> tuple[str | None, int | None]:
    """The key of a trial's network and its seed: of its record, or of the training that it stands for; else None."""
    record, claim = record_of(trial), _claim(trial)
    if "params" in record and SEED in record:
        candidate = candidate_of(record)
        return candidate.network, candidate.seed
    return claim.get("network"), claim.get("seed")


def _claim(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial of `reseed` trains, and in which process; empty for other trials, whatever is called like it."""
    claim = trial.user_attrs.get(CLAIM)
    if not isinstance(claim, dict) or not isinstance(claim.get("process"), dict):
        return {}
    types = [(claim, {"network": str, SEED: int}), (claim["process"], {"machine": str, "id": int, "token": str})]
    valid = all(isinstance(table.get(name), needed) for table, names in types for name, needed in names.items())
    return claim if valid else {}


def _result(record: dict[str, Any]) -> tuple[Any, ...] | None:
    """What two different networks do not share; None if it was not kept."""
    correct = record.get("validation", {}).get("correct")
    return None if correct is None else (correct, record.get("validation_loss"))


def _is_here(trial: FrozenTrial) -> bool:
    """Whether a trial of `reseed` runs on this machine."""
    claim = _claim(trial)
    return bool(claim) and bool(claim["process"]["machine"] == machine())
