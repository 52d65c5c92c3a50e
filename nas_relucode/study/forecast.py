"""What a study would run, before it runs: its trials, the sizes of its networks, and about how long they take."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FixedTrial

from nas_relucode.study.candidates import Candidate
from nas_relucode.study.objective import Objective
from nas_relucode.study.plan import structure
from nas_relucode.study.runner import build_objective, check_search, load_study_data
from nas_relucode.study.search_space import LEARNING_RATE, SearchSpace
from nas_relucode.study.settings import StudySettings
from nas_relucode.study.storage import study_in_memory
from nas_relucode.training.networks import seeded

DRAWN = 20  # networks drawn from a space that is not searched completely, to see their sizes
TIMED = 3  # of which the time is measured: the smallest, one in the middle, the largest


@dataclass(frozen=True)
class Timing:
    """How long one candidate takes, from one epoch of its training."""

    candidate: Candidate
    parameters: int
    epoch: float  # seconds, with the codes that are read after it
    rest: float  # seconds of everything else: building, and the indices after the last epoch


@dataclass(frozen=True)
class Forecast:
    """What a study would run."""

    networks: int | None  # of the whole space; None: there is no end to them
    trials: int  # trainings, each a network and a seed, without further seeds of finalists
    parameters: dict[str, int]  # label of a network without its learning rate -> number of its parameters
    timings: tuple[Timing, ...]
    start: float  # seconds that the first trial takes longer than the same one again
    seconds: float  # the start, and all trials, one after the other, on this machine


def forecast(
    settings: StudySettings, *, data_root: str | Path = "data", download: bool = False, device: str | None = None
) -> Forecast:
    """What a study's settings would run: every network is built, and three are trained for one epoch.

    ``data_root``, ``download`` and ``device`` are those of `run_study`. Nothing is stored. The time is the mean of the
    timed candidates' for each trial; a smaller network that converges no sooner takes as many epochs.

    Raises InputError for everything that `run_study` would refuse before its first trial.
    """
    check_search(settings)
    space, search = settings.search_space, settings.search
    data = load_study_data(settings.data, data_root, download)
    short = dataclasses.replace(
        settings,
        training=dataclasses.replace(settings.training, epochs=min(1, settings.training.epochs)),
        codes=dataclasses.replace(settings.codes, kept_epochs=()),
        figure=None,
    )
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        objective = build_objective(
            short, data, device=device, folder=folder, on_epoch=lambda *_: times.append(time.perf_counter())
        )
        sizes = _sizes(objective, _structures(space, search.trials))
        order = sorted(sizes, key=lambda name: sizes[name][1])
        chosen = [order[place] for place in sorted({0, len(order) // 2, len(order) - 1})][:TIMED]
        first, *timings = (_time(objective, *sizes[name], times) for name in [chosen[0], *chosen])
    trials = (space.size or 0 if search.trials is None else search.trials) * len(search.seeds)
    each = sum(timing.rest + timing.epoch * settings.training.epochs for timing in timings) / len(timings)
    parameters = {name: sizes[name][1] for name in order}
    once = max(0.0, first.rest - timings[0].rest)  # loops are compiled
    return Forecast(space.size, trials, parameters, tuple(timings), once, once + trials * each)


def _structures(space: SearchSpace, trials: int | None) -> list[Candidate]:
    """The candidates that differ in more than their learning rate; of a space that is drawn from, some at random."""
    if trials is None:
        candidates = space.candidates([0])
    else:
        study = study_in_memory(sampler=optuna.samplers.RandomSampler(seed=0))
        candidates = [space.suggest(study.ask(), [0]) for _ in range(min(trials, DRAWN))]
    return list({structure(candidate): candidate for candidate in candidates}.values())


def _sizes(objective: Objective, candidates: list[Candidate]) -> dict[str, tuple[Candidate, int]]:
    """Each candidate and its number of parameters, by its label without the learning rate."""
    sizes: dict[str, tuple[Candidate, int]] = {}
    for candidate in candidates:
        structure: dict[str, Any] = {name: v for name, v in candidate.params.items() if name != LEARNING_RATE}
        with seeded(0):
            network = objective.networks.build(candidate)
        sizes[Candidate(structure).label] = (candidate, sum(parameter.numel() for parameter in network.parameters()))
    return sizes


def _time(objective: Objective, candidate: Candidate, parameters: int, times: list[float]) -> Timing:
    """Trains the candidate for one epoch; ``times`` gets the time after each epoch, of which the first is number 0."""
    times.clear()
    start = time.perf_counter()
    objective.outcome(FixedTrial(dict(candidate.params)), candidate.seed)
    end = time.perf_counter()
    objective.forget(candidate)  # whose checkpoint would spare the next timing its epoch
    epoch = times[-1] - times[0] if len(times) > 1 else 0.0
    return Timing(candidate, parameters, epoch, end - start - epoch)
