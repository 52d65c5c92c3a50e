"""The training of a trial's network: by the recipe, with checkpoints and a curve, or by the user; alone or together."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import BaseTrial
from torch import nn

from nas_relucode.cells.code_spaces import save_code_space
from nas_relucode.codes.reading import Reading
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.scoring.code_curves import CodeCurve
from nas_relucode.study.candidates import SEED, Candidate
from nas_relucode.study.checkpoint_files import CheckpointFiles, digest
from nas_relucode.study.record import Outcome
from nas_relucode.study.search_space import LEARNING_RATE
from nas_relucode.study.settings import CodeSettings
from nas_relucode.training.data import ImageData
from nas_relucode.training.loop import Epoch, train
from nas_relucode.training.networks import seeded
from nas_relucode.training.recipe import Recipe
from nas_relucode.training.together import train_together

PAPER_SEED = 1234  # of the order of the samples (section B.1); a candidate's seed is added to it
Fit = Callable[..., Any]
OnEpoch = Callable[[int, Epoch, dict[str, Any]], None]  # the trial's number, the epoch, the curve's point after it


@dataclass(frozen=True)
class Attempt:
    """A trial with its candidate, the network that is trained for it, and its record so far."""

    trial: BaseTrial
    candidate: Candidate
    network: nn.Module
    codes: CodeSettings
    curve: CodeCurve
    record: dict[str, Any] = field(repr=False)  # see study/record

    @property
    def number(self) -> int:
        """The trial's number; 0 for a FixedTrial."""
        return getattr(self.trial, "number", 0)

    @property
    def suggested(self) -> Candidate:
        """The candidate with everything that the trial has suggested, also while it was trained."""
        later = {name: value for name, value in self.trial.params.items() if name != SEED}
        return Candidate(later | dict(self.candidate.params), self.candidate.seed)

    def pruned(self, reason: str) -> Outcome:
        """The outcome without values, for this reason."""
        return Outcome(self.suggested, self.record | {"pruned": reason}, None)


@dataclass(frozen=True)
class Trainer:
    """How the networks of an objective are trained; the arguments are those of `Objective`."""

    data: ImageData  # on the device of the networks
    recipe: Recipe
    codes: CodeSettings
    fit: Fit | None
    learning_rate: float | None
    folder: Path | None
    checkpoints: CheckpointFiles | None
    origin: Mapping[str, Any]  # the digest of the data, and what identifies the source of the networks

    def run(self, network: nn.Module, candidate: Candidate, trial: BaseTrial, **callbacks: Any) -> None:
        """Trains a network in place; ``callbacks`` are further arguments of `train`."""
        with seeded(candidate.seed):
            if self.fit is not None:
                self.fit(network, self.data, trial=trial, seed=candidate.seed)
                return
            rate, seed = self._rate(candidate), PAPER_SEED + candidate.seed
            train(network, self.data.train, learning_rate=rate, recipe=self.recipe, seed=seed, **callbacks)

    def train(self, attempt: Attempt, on_epoch: OnEpoch | None) -> None:
        """Trains the network of an attempt, and keeps in its record what is known of the training."""
        if self.fit is None:
            self._train_by_recipe(attempt, on_epoch)
            return
        start = time.perf_counter()
        self.run(attempt.network, attempt.candidate, attempt.trial)
        attempt.record["qualities"]["seconds"] = round(time.perf_counter() - start, 3)
        attempt.record["params"] = dict(attempt.suggested.params)

    def _train_by_recipe(self, attempt: Attempt, on_epoch: OnEpoch | None) -> None:
        """Trains the network, resuming from the candidate's checkpoint if there is one."""
        record, name = attempt.record, attempt.candidate.file_name
        qualities = record["qualities"]
        settings = self._checkpoint_settings(attempt.candidate)
        stored = self.checkpoints.load(name, settings) if self.checkpoints else None
        if stored:
            earlier = stored[1]
            attempt.curve.points.extend(earlier["curve"])
            record["codes"], qualities["seconds"] = earlier["codes"], earlier["seconds"]
        start = time.perf_counter()

        def after_epoch(epoch: Epoch) -> None:
            nonlocal start
            qualities["seconds"] = round(qualities["seconds"] + time.perf_counter() - start, 3)
            point = self._record_epoch(attempt, epoch)
            if self.checkpoints:
                results = {"curve": record["curve"], "codes": record["codes"], "seconds": qualities["seconds"]}
                self.checkpoints.save(name, epoch.state(), settings=settings, results=results)
            if on_epoch:
                on_epoch(attempt.number, epoch, point)
            start = time.perf_counter()

        self.run(
            attempt.network,
            attempt.candidate,
            attempt.trial,
            on_epoch=after_epoch,
            on_batch=attempt.curve.on_batch if self.codes.while_training else None,
            resume=stored[0] if stored else None,
        )

    def train_together(self, attempts: Sequence[Attempt]) -> list[int | None]:
        """Trains the networks as one; for each the epoch in which it diverged, or None."""
        start, scoring = time.perf_counter(), 0.0

        def after_epoch(number: int, losses: np.ndarray) -> None:
            nonlocal scoring
            scoring_since = time.perf_counter()
            for attempt, loss in zip(attempts, losses, strict=True):
                if number == 0 or math.isfinite(loss):
                    with contextlib.suppress(NonFiniteError):  # it has diverged, as its last epoch will show
                        self._record_epoch(attempt, Epoch(number, float(loss)))
            scoring += time.perf_counter() - scoring_since

        result = train_together(
            [attempt.network for attempt in attempts],
            self.data.train,
            learning_rates=[self._rate(attempt.candidate) for attempt in attempts],
            seeds=[PAPER_SEED + attempt.candidate.seed for attempt in attempts],
            recipe=self.recipe,
            on_epoch=after_epoch,
        )
        seconds = round((time.perf_counter() - start - scoring) / len(attempts), 3)
        for attempt in attempts:
            attempt.record["qualities"]["seconds"] = seconds
        return list(result.diverged)

    def forget(self, candidate: Candidate) -> None:
        """Removes the candidate's checkpoint."""
        if self.checkpoints is not None:
            self.checkpoints.remove(candidate.file_name, self._checkpoint_settings(candidate))

    def _record_epoch(self, attempt: Attempt, epoch: Epoch) -> dict[str, Any]:
        """Adds an epoch to the curve, saves its code space if it is to be kept, and returns the curve's new point."""
        space = attempt.curve.on_epoch(epoch)
        if epoch.number in self.codes.kept_epochs:
            assert self.folder is not None
            settings = digest(self._checkpoint_settings(attempt.candidate))  # the folder may hold another study's files
            name = f"{attempt.candidate.file_name}_{settings}_epoch_{epoch.number}.npz"
            (self.folder / "codes").mkdir(parents=True, exist_ok=True)
            save_code_space(space, self.folder / "codes" / name)
            attempt.record["codes"][str(epoch.number)] = name
        return attempt.curve.points[-1]

    def _rate(self, candidate: Candidate) -> float:
        rate = candidate.params.get(LEARNING_RATE, self.learning_rate)
        if rate is None:
            raise InputError(
                f"there is no learning rate: the parameters are {candidate.label}. Suggest a parameter learning_rate, "
                "or give Objective the argument."
            )
        return float(rate)

    def _checkpoint_settings(self, candidate: Candidate) -> Mapping[str, Any]:
        """The settings that decide the content of the candidate's checkpoint."""
        codes = self.codes
        settings = {
            "candidate": {**candidate.params, SEED: candidate.seed},
            **self.origin,
            "recipe": self.recipe.as_dict(),
            "layers": list(codes.layers),
            "codes": [codes.preset, codes.split, codes.while_training, list(codes.kept_epochs)],
        }
        reading = {name: codes.decisive[name] for name in ("mode", "maps", "also")}
        is_default = reading == {name: Reading().decisive[name] for name in reading}
        rate = {} if self.learning_rate is None else {LEARNING_RATE: self.learning_rate}
        return settings | rate | ({} if is_default else {"reading": reading})  # older checkpoints have no such options
