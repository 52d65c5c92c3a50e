"""The smallest studies there are: run, made to fail, and read back by Optuna from the storage."""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.study.objective import Objective
from nas_relucode.study.runner import run_study
from nas_relucode.study.search_space import SearchSettings, SearchSpace
from nas_relucode.study.settings import DataSettings, NetworkSettings, StudySettings
from nas_relucode.training.data import ImageData
from nas_relucode.training.recipe import Recipe

SPACE = SearchSpace(heads=("8", "4-4"), learning_rates=(0.1, 0.01))
PARAMS = {"head": "4-4", "learning_rate": 0.1}  # one of its candidates


def settings_in(
    folder: Path,
    heads: tuple[str, ...] = ("8", "4-4"),
    rates: str = "[0.1]",
    *,
    seeds: tuple[int, ...] = (0,),
    trials: int | None = None,
    sampler: str = "tpe",
    **changes: Any,
) -> StudySettings:
    """The smallest study there is: one epoch on a few digits of two classes."""
    space = folder / "space.toml"
    space.write_text(f"heads = {json.dumps(heads)}\nlearning_rates = {rates}\n")
    parts: dict[str, Any] = {
        "data": DataSettings(source="digits", classes=(0, 1), train_samples=100, test_samples=20, validation=0.3),
        "network": NetworkSettings(backbone="none"),
        "training": Recipe(epochs=1, batch_size=35),
        "search": SearchSettings(space=str(space), seeds=seeds, trials=trials, sampler=sampler),
    }
    return StudySettings(**(parts | changes))


def run(settings: StudySettings, url: str, name: str = "own", **options: Any) -> optuna.Study:
    """Runs the study in ``url``; its files lie beside the SQLite file."""
    folder = Path(url.removeprefix("sqlite:///")).parent / name
    return run_study(name, settings, storage=url, device="cpu", **({"folder": folder} | options))


def reread(url: str, name: str = "own") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=url).trials


def candidates(trials: list[FrozenTrial], state: TrialState = TrialState.COMPLETE) -> list[tuple[Any, ...]]:
    chosen = [trial for trial in trials if trial.state == state]
    return [(trial.params.get("seed"), trial.params["head"], trial.params["learning_rate"]) for trial in chosen]


def objective_on(data: ImageData, space: SearchSpace = SPACE, **settings: Any) -> Objective:
    """An objective of small heads behind the pixels; ``settings`` are further ones, or others."""
    defaults = {"network": NetworkSettings(backbone="none"), "recipe": Recipe(epochs=3, batch_size=35), "device": "cpu"}
    return Objective(data, space, **(defaults | settings))


class Failing:
    """A callback that raises in the first epoch of one head, as a network that finds no memory would."""

    def __init__(self, head: str, times: int, error: BaseException) -> None:
        self.head, self.left, self.error = head, times, error

    def start(self, study: optuna.Study, size: int) -> None:
        self.study = study

    def epoch(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        if self.left and self.study.trials[number].params["head"] == self.head:
            self.left -= 1
            raise self.error
