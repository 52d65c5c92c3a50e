"""A study from TOML: created or resumed, its candidates run once each, whatever happened in between."""

from __future__ import annotations

import dataclasses
import platform
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.errors import InputError
from nas_relucode.study.objective import Objective
from nas_relucode.study.plan import RETRIED, Plan
from nas_relucode.study.search_space import SAMPLERS, SearchSettings, SearchSpace
from nas_relucode.study.settings import DataSettings, StudySettings
from nas_relucode.study.storage import (
    default_storage,
    is_sqlite,
    only_process,
    open_storage,
    redact,
    sqlite_path,
    storage_errors,
)
from nas_relucode.toml_files import parse
from nas_relucode.training.data import ImageData, load_data


def load_study_data(settings: DataSettings, data_root: str | Path = "data", download: bool = False) -> ImageData:
    """The data of a study."""
    return load_data(**dataclasses.asdict(settings), data_root=data_root, download=download)


def check_countable(settings: StudySettings) -> None:
    """Raises InputError if nothing says how many trials the study is to hold."""
    if settings.search.trials is None and not settings.search_space.is_finite:
        raise InputError(
            "the search space has an interval of learning rates. Set trials in [search]: how many to draw."
        )


def create_or_resume(
    name: str, settings: StudySettings, data: ImageData, storage: optuna.storages.BaseStorage
) -> optuna.Study:
    """The study ``name``, new or as it was left. Raises InputError if it was made with other settings or other data."""
    now = settings.as_dict()
    now["data"]["sha256"] = data.digest()
    classes = [str(name) for name in data.classes]
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in settings.objectives.values()]
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        then = study.user_attrs.get("settings")
        if then is not None:
            _check_same(name, then, now)
            if "classes" not in study.user_attrs:  # of an earlier version
                study.set_user_attr("classes", classes)
            return study
        if study.get_trials(deepcopy=False) or study.directions != directions:
            raise InputError(
                f"study {name!r} exists in this storage and is not one of ours. Give another --study-name."
            )
    else:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_user_attr("settings", now)
    study.set_user_attr("classes", classes)
    study.set_user_attr(
        "versions",
        {p: version(p) for p in ("nas-relucode", "torch", "optuna", "numpy")} | {"python": platform.python_version()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(settings.objectives))
    return study


def run_study(
    name: str,
    settings: StudySettings,
    *,
    storage: str | None = None,
    data_root: str | Path = "data",
    download: bool = False,
    device: str | None = None,
    folder: str | Path | None = None,
    artifacts: Any = None,
    on_epoch: Callable[..., None] | None = None,
    on_start: Callable[[optuna.Study, int], None] | None = None,
    on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None,
) -> optuna.Study:
    """Runs what is left of a study, in this process, and returns it.

    ``storage`` is the URL of an SQLite file, or sqlite:// for memory; None stands for ``runs/<name>/study.db``. A study
    on a server is for `work`, and may be given here when nothing of it is left. Whatever ended an earlier run, each
    candidate is completed once: trials that were left running are failed and tried again, and so are those that raised
    (out of memory, say), up to 2 times; the new trial carries ``retry_of``. ``on_start`` is told the study and the
    number of trials that it will hold; ``on_epoch`` is that of `Objective`, ``on_trial`` a callback of Optuna's.
    ``folder`` is for files: checkpoints, from which an interrupted training goes on, code spaces that are kept,
    features of a frozen backbone, slices, predictions; None stands for ``runs/<name>``. ``artifacts`` is an artifact
    store of Optuna's for the predictions, where they are to lie elsewhere.
    """
    url = storage or default_storage(name)
    space = settings.search_space
    check_countable(settings)
    data = load_study_data(settings.data, data_root, download)
    folder = folder or Path("runs", name)
    objective = objective_of(settings, data, device=device, folder=folder, artifacts=artifacts, on_epoch=on_epoch)
    engine = open_storage(url)
    with storage_errors(url), only_process(url):
        if not is_sqlite(url) and not _is_done(name, settings, engine):
            raise InputError(
                f"{redact(url)} takes many processes, and this one would tell none of them that it is alive. "
                f"Do: nas-relucode plan and worker in place of run; or give --storage {default_storage(name)}."
            )
        study = create_or_resume(name, settings, data, engine)
        if sqlite_path(url):
            _fail_interrupted(study)
        plan = Plan(study, settings.search, space)
        study.sampler = SAMPLERS[settings.search.sampler](len(study.trials))  # a seed used twice draws the same twice
        if on_start:
            on_start(study, plan.size)
        while todo := plan.next():
            if settings.search.together > 1:
                plan.run_together(objective, min(todo, settings.search.together), on_trial)
                continue
            study.optimize(
                plan.once(objective),
                n_trials=todo,
                catch=RETRIED,
                callbacks=[on_trial] if on_trial else None,
            )
    return study


def objective_of(
    settings: StudySettings,
    data: ImageData,
    *,
    device: str | None = None,
    folder: str | Path | None = None,
    artifacts: Any = None,
    on_epoch: Callable[..., None] | None = None,
) -> Objective:
    """The objective of a study on its data; ``folder``, ``artifacts`` and ``on_epoch`` are those of `Objective`."""
    return Objective(
        data,
        settings.search_space,
        objectives=list(settings.objectives),
        network=settings.network,
        codes=settings.codes,
        recipe=settings.training,
        seeds=settings.search.seeds,
        accuracy_floor=settings.accuracy_floor,
        device=device,
        folder=folder,
        artifacts=artifacts,
        on_epoch=on_epoch,
    )


def _is_done(name: str, settings: StudySettings, storage: optuna.storages.BaseStorage) -> bool:
    """Whether a study is there and nothing of it is left to run."""
    if name not in optuna.get_all_study_names(storage):
        return False
    study = optuna.load_study(study_name=name, storage=storage)
    running = any(not trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return not running and not Plan(study, settings.search, settings.search_space).waiting_trials()


def _fail_interrupted(study: optuna.Study) -> None:
    """Fails the trials that a dead process left running; the lock says that no living one runs them."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)


def settings_of(study: optuna.Study) -> StudySettings:
    """The settings that a study was made with, from the study itself."""
    stored = study.user_attrs.get("settings")
    if stored is None:
        raise InputError(f"study {study.study_name!r} in this storage is not one of ours. Give another --study-name.")
    table = _without_none(stored)
    table["data"].pop("sha256", None)
    return parse(StudySettings, table, f"the stored settings of study {study.study_name!r}")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def check_settings(study: optuna.Study, settings: StudySettings) -> None:
    """Raises InputError if a study that `run_study` made was made with other settings than these."""
    then = study.user_attrs.get("settings")
    if then is not None:
        now = settings.as_dict()
        now["data"]["sha256"] = then["data"].get("sha256")
        _check_same(study.study_name, then, now)


def _check_same(name: str, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = list(_differences(_filled(then), now))
    if changed:
        raise InputError(
            f"study {name!r} was made with other settings: {'; '.join(changed)}. "
            "Give another --study-name to start a new study, or set the settings back."
        )


def _filled(then: dict[str, Any]) -> dict[str, Any]:
    """Settings as an earlier version stored them, with the defaults of what there was not yet."""
    data = DataSettings(source=then["data"]["source"])
    search = SearchSettings(space=SearchSpace(("1",), (1.0,)))
    filled = dict(then)
    for name, default in StudySettings(data=data, search=search).as_dict().items():
        if name in ("data", "network", "training", "search", "codes"):
            filled[name] = {**default, **then.get(name, {})}
        else:
            filled.setdefault(name, default)
    return filled


def _differences(then: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            if key not in ("description", "figure") or path:  # they decide no number
                yield from _differences(then.get(key), now.get(key), f"{path}.{key}" if path else key)
        if path == "objectives" and then == now and list(then) != list(now):  # it is the order of the trials' values
            yield f"the order of objectives was {list(then)} and is {list(now)}"
    elif then != now:
        yield f"{path} was {then!r} and is {now!r}"
