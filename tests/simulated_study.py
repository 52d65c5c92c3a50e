"""A study whose networks have accuracies of one's choice: a table of class scores stands for what they have learned."""

from __future__ import annotations

import numpy as np
import optuna
import torch
from torch import nn

import nas_relucode as rc

SAMPLES, CLASSES = 2_000, 4
LABELS = np.arange(SAMPLES) % CLASSES
ACCURACY = {"a": 0.90, "b": 0.90, "c": 0.87, "d": 0.86}  # of the networks, less what chance adds


class Table(nn.Module):
    """Has a row of class scores for each number of a sample."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.scores[torch.relu(numbers)[:, 0].long()]


def network(name: str, seed: int, spread: float = 0.001) -> Table:
    """Right on the samples that are easier than its accuracy; a seed changes it by ``spread``."""
    random = np.random.default_rng([ord(name), seed])
    ease = np.random.default_rng(0).random(SAMPLES) + random.normal(0, 0.01, SAMPLES)
    right = ease < ACCURACY[name] + random.normal(0, spread)
    answers = np.where(right, LABELS, (LABELS + 1) % CLASSES)
    return Table(torch.nn.functional.one_hot(torch.as_tensor(answers), CLASSES).float())


def recorder(margin: float = 0.005) -> rc.Recorder:
    numbers = torch.arange(SAMPLES)[:, None].float()
    return rc.Recorder(
        train=numbers[:50],
        validation=(numbers, torch.as_tensor(LABELS)),
        objectives=["accuracy"],
        indices=["cell_count"],
        margin=margin,
    )


class Objective:
    """Suggests a network by its name, with a parameter that only some have, and one that is None."""

    def __init__(self, spread: float = 0.001, margin: float = 0.005) -> None:
        self.record, self.spread = recorder(margin), spread
        self.calls: list[tuple[str, int]] = []

    def __call__(self, trial: optuna.Trial, seed: int = 0) -> float:
        name = trial.suggest_categorical("name", list(ACCURACY))
        trial.suggest_categorical("skip", [None, True])
        if name == "b":
            trial.suggest_float("dropout", 0.1, 0.5, log=True)
        self.calls.append((name, seed))
        return self.record(trial, network(name, self.drawn(seed), self.spread), seed=seed)

    def drawn(self, seed: int) -> int:
        """The seed that the weights are drawn from."""
        return seed


def searched(study: optuna.Study, objective: Objective) -> optuna.Study:
    """The study with one trial of each network."""
    for name in ACCURACY:
        study.enqueue_trial({"name": name, "skip": None, "dropout": 0.2})
    study.optimize(objective, n_trials=len(ACCURACY))
    return study
