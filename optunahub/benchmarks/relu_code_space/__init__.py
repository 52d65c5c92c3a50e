"""An Optuna problem: accuracy and indices of the ReLU code space of small image classifiers that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection

import nas_relucode as rc
import optunahub
from nas_relucode.integrations.candidates import directions_of, space_of

__all__ = ["Problem"]

SMALL = rc.NetworkSettings(backbone="small_conv")


class Problem(optunahub.benchmarks.BaseProblem):
    """A search over heads and learning rates with several objectives; each trial trains one network.

    ``data`` is the name or file of a data set for `nas_relucode.load_data`, or ImageData; ``space`` is the name or file
    of a search space, or a SearchSpace. ``objectives`` are ``"accuracy"``, ``"validation_loss"``, an index
    (`nas_relucode.INDICES`), or ``"layer:index"``; ``directions`` are by default those of the objectives. ``settings``
    are other arguments of `nas_relucode.Objective`, such as ``seeds``, ``accuracy_floor`` or ``device``. The default,
    on scikit-learn's digits, needs no download; a trial takes a fraction of a second on one core.
    """

    def __init__(
        self,
        data: Any = "digits",
        space: Any = "digits",
        *,
        objectives: Sequence[str] = ("accuracy", "cell_count"),
        directions: Sequence[str] | None = None,
        network: rc.NetworkSettings = SMALL,
        recipe: rc.Recipe | None = None,
        **settings: Any,
    ) -> None:
        self.objective = rc.Objective(
            rc.load_data(data, validation=0.25) if isinstance(data, str) else data,
            rc.study.load_search_space(space) if isinstance(space, str) else space,
            objectives=objectives,
            network=network,
            recipe=recipe or rc.Recipe(epochs=5, batch_size=32, momentum=0.9),
            **settings,
        )
        self._directions = [StudyDirection[direction.upper()] for direction in directions_of(objectives, directions)]

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        return space_of(self.objective).distributions(self.objective.seeds)

    @property
    def directions(self) -> list[StudyDirection]:
        return self._directions

    @property
    def metric_names(self) -> list[str]:
        """For `Study.set_metric_names`."""
        return self.objective.objectives

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        """The objectives; all indices are stored in the trial's attribute ``relucode``."""
        return self.objective(trial)

    def evaluate(self, params: dict[str, Any]) -> Sequence[float]:
        """The objectives of one candidate. Raises `optuna.TrialPruned` if its training diverges."""
        return self.objective(optuna.trial.FixedTrial(params))
