"""Hand-made trials and studies, as `Objective` leaves them, with numbers of one's choice."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_relucode.study.predictions import kept_predictions
from nas_relucode.study.record import ATTRIBUTE, VERSION, objective_value

OBJECTIVES = {"accuracy": "maximize", "cell_count": "minimize"}
LABELS = np.arange(400) % 4
DISTRIBUTIONS = {
    "head": CategoricalDistribution([*"0123456789", "16", "2-2", "4-4", "<b>"]),
    "learning_rate": FloatDistribution(1e-6, 1e6),
    "seed": CategoricalDistribution(list(range(10))),
}


def hand_made(
    head: str = "8",
    rate: float = 0.1,
    seed: int = 0,
    *,
    objectives: Sequence[str] = tuple(OBJECTIVES),
    accuracy: float | None = 0.9,
    test_accuracy: float | None = 0.8,
    samples: int = 100,
    parameters: int = 500,
    infeasibility: float | None = None,
    validation: Mapping[str, Any] | None = None,
    test: Mapping[str, Any] | None = None,
    **indices: float | None,
) -> FrozenTrial:
    """A complete trial as `Objective` leaves it; ``indices`` are those of the joint codes and of the layer head.1.

    ``validation`` and ``test`` say which samples are classified correctly; without them it is not known.
    """
    joint = {"cell_count": 10.0, "correct_cell_count": 9.0, "edge_count": 3.0} | indices
    layer = {name: value for name, value in joint.items() if name != "parameter_count"}
    point = {"cell_count": 1.0, "correct_cell_count": 1.0}
    record: dict[str, Any] = {
        "version": VERSION,
        "objectives": list(objectives),
        "params": {"head": head, "learning_rate": rate},
        "seed": seed,
        "margin": 0.005,
        "qualities": {"parameters": parameters, "seconds": 1.5},
        "validation": validation or {"samples": samples, "digest": None, "correct": None},
        "test": test,
        "classes": 4,
        "device": "cpu",
        "curve": [
            {
                "epoch": epoch,
                "loss": None if epoch == 0 else 0.5,
                "validation_loss": 0.5,
                "accuracy": accuracy,
                "train_accuracy": accuracy,
                "joint": point,
                "layers": {"head.1": point},
            }
            for epoch in (0, 1)
        ],
        "codes": {},
        "accuracy": accuracy,
        "validation_loss": 0.5,
        "split": "train",
        "samples": 200,
        "joint": joint,
        "layers": {"head.1": layer},
        "saturated": {"joint": [], "head.1": []},
        "train_accuracy": accuracy,
        "test_accuracy": test_accuracy,
    }
    values = [objective_value(record, name) for name in objectives]
    return create_trial(
        values=[0.0 if math.isnan(value) else value for value in values],
        params={"head": head, "learning_rate": rate, "seed": seed},
        distributions=DISTRIBUTIONS,
        user_attrs={ATTRIBUTE: record},
        constraints=None if infeasibility is None else {"accuracy_floor": infeasibility},
    )


def without_result(
    state: TrialState, head: str, seed: int | None = 0, attributes: dict[str, Any] | None = None
) -> FrozenTrial:
    """A trial that failed, was interrupted or was pruned; ``seed`` is None in a study of one seed."""
    params: dict[str, Any] = {"head": head, "learning_rate": 0.1} | ({} if seed is None else {"seed": seed})
    distributions = {name: DISTRIBUTIONS[name] for name in params}
    return create_trial(state=state, params=params, distributions=distributions, user_attrs=attributes)


def study_of(
    trials: Sequence[FrozenTrial], directions: Sequence[str] = tuple(OBJECTIVES.values()), name: str = "hand-made"
) -> optuna.Study:
    study = optuna.create_study(study_name=name, directions=list(directions))
    study.add_trials(trials)
    return study


def predicting(
    head: str, wrong: Sequence[int], *, seed: int = 0, labels: np.ndarray = LABELS, **values: Any
) -> FrozenTrial:
    """A trial whose network errs on the validation samples ``wrong``."""
    correct = np.ones(len(labels), bool)
    correct[wrong] = False
    kept = kept_predictions(correct, hashlib.sha256(labels.tobytes()).hexdigest())
    return hand_made(head, seed=seed, accuracy=float(correct.mean()), validation=kept, **values)
