"""Runs a study from TOML settings in one process: created or resumed, each candidate completed once."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import platform
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas_relucode.errors import InputError
from nas_relucode.study.candidates import SEED, Candidate
from nas_relucode.study.objective import Objective
from nas_relucode.study.plan import RETRIED, Plan, structure
from nas_relucode.study.record import write_failed
from nas_relucode.study.search_space import SAMPLERS
from nas_relucode.study.settings import DataSettings, StudySettings, check_parameters
from nas_relucode.study.storage import (
    default_storage,
    is_sqlite,
    only_process,
    open_storage,
    redact,
    sqlite_path,
    storage_errors,
)
from nas_relucode.study.stored_settings import check_settings
from nas_relucode.training.data import ImageData, load_data
from nas_relucode.training.networks import NamedFactory


def load_study_data(settings: DataSettings, data_root: str | Path = "data", download: bool = False) -> ImageData:
    """The data that a study's settings describe."""
    return load_data(**dataclasses.asdict(settings), data_root=data_root, download=download)


def check_search(settings: StudySettings) -> None:
    """Raises InputError if the settings leave the number of trials open, or no network has such parameters."""
    space = settings.search_space
    check_parameters(space, settings.network)
    if settings.search.trials is None:
        space.check_countable()


def create_or_resume(
    name: str, settings: StudySettings, data: ImageData, storage: optuna.storages.BaseStorage
) -> optuna.Study:
    """The study ``name``, created if it does not exist. Raises InputError if it has other settings or other data."""
    current = settings.as_dict()
    current["data"]["sha256"] = data.digest()
    classes = [str(name) for name in data.classes]
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in settings.objectives.values()]
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        stored = study.user_attrs.get("settings")
        if stored is not None:
            check_settings(study, settings, {"sha256": current["data"]["sha256"]})
            if "classes" not in study.user_attrs:  # created by an earlier version
                study.set_user_attr("classes", classes)
            if stored["search"].get("finalist_seeds") != settings.search.finalist_seeds:
                study.set_user_attr("settings", current)
            return study
        if study.get_trials(deepcopy=False) or study.directions != directions:
            raise InputError(
                f"study {name!r} in this storage was not created by nas-relucode. Give another --study-name."
            )
    else:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_user_attr("settings", current)
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
    further: Callable[..., list[Candidate]] | None = None,
    on_epoch: Callable[..., None] | None = None,
    on_start: Callable[[optuna.Study, int], None] | None = None,
    on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None,
) -> optuna.Study:
    """Runs the trials that a study still needs, in this process, and returns the study.

    Each candidate is completed once, however earlier runs ended: trials left running are failed and repeated, and
    trials that raised an error (out of memory, say) are repeated up to 2 times; the new trial's ``retry_of`` is the
    number of the failed one.

    ``storage`` is the URL of an SQLite file (by default ``runs/<name>/study.db``) or sqlite:// for memory. A study on a
    server is for `work`, and is accepted here only if no trial is left to run. ``folder`` (by default
    ``runs/<name>``) is for files: checkpoints, from which an interrupted training continues, kept code spaces, features
    of a frozen backbone, slices. ``artifacts`` is an artifact store of Optuna's for copies of the checkpoints.

    ``further`` is for a study with ``finalist_seeds``: when all candidates are done, ``further(study, seeds,
    margin=...)`` returns what is to be trained next with another of the seeds, the most useful first, and is asked
    again after each training (`ranking.further_trainings`).

    ``on_start`` is called with the study and its number of trials, ``on_epoch`` as by `Objective`, and ``on_trial`` is
    a callback of Optuna's.
    """
    url = storage or default_storage(name)
    space = settings.search_space
    check_search(settings)
    data = load_study_data(settings.data, data_root, download)
    folder = folder or Path("runs", name)
    objective = build_objective(settings, data, device=device, folder=folder, artifacts=artifacts, on_epoch=on_epoch)
    engine = open_storage(url, create=True)
    with storage_errors(url), only_process(url):
        if not is_sqlite(url) and not _is_done(name, settings, engine):
            raise InputError(
                f"{redact(url)} is shared by many processes, and `run` sends them no heartbeat. "
                f"Use `nas-relucode plan` and `worker` instead, or give --storage {default_storage(name)}."
            )
        study = create_or_resume(name, settings, data, engine)
        if sqlite_path(url):
            _fail_interrupted(study)
        plan = Plan(study, settings.search, space, further and partial(further, margin=settings.margin))
        study.sampler = SAMPLERS[settings.search.sampler](
            len(study.get_trials(deepcopy=False))
        )  # a repeated seed would repeat the draws
        if on_start:
            on_start(study, plan.size)
        while waiting := plan.enqueue_missing():
            _run_trials(plan, objective, min(waiting, settings.search.together), on_trial)
    return study


def _run_trials(
    plan: Plan, objective: Objective, count: int, on_trial: Callable[[optuna.Study, FrozenTrial], None] | None
) -> None:
    """Takes ``count`` waiting trials; those of one structure are trained as one batched network.

    Not by `Study.optimize`: where the storage cannot take a result, it hides the reason behind an AssertionError.
    """
    study = plan.study
    groups: dict[str, list[optuna.Trial]] = {}
    trials = [study.ask() for _ in range(count)]
    for trial in trials:
        if plan.is_duplicate(trial):
            study.tell(trial, state=TrialState.PRUNED)
        else:
            groups.setdefault(structure(plan.suggest(trial)), []).append(trial)
    for group in groups.values():
        _run_group(study, objective, group)
    for trial in trials if on_trial else []:
        ended = study.get_trials(deepcopy=False)[trial.number]
        on_trial(study, copy.deepcopy(ended))  # type: ignore[misc]


def _run_group(study: optuna.Study, objective: Objective, group: list[optuna.Trial]) -> None:
    """Trains trials and writes their results. The reason of a failure is stored, and raised unless it is retried."""
    try:
        results = objective.together(group) if len(group) > 1 else [_alone(objective, group[0])]
    except BaseException as error:
        for trial in group:
            if isinstance(error, (*RETRIED, OSError)):
                _write_failed(trial, error)
            study.tell(trial, state=TrialState.FAIL)
        if not isinstance(error, RETRIED):
            raise
        return
    for trial, values in zip(group, results, strict=True):
        if isinstance(values, optuna.TrialPruned):
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, values)


def _alone(objective: Objective, trial: optuna.Trial) -> tuple[float, ...] | optuna.TrialPruned:
    """The values of a trial that is trained by itself, from its checkpoint if there is one; why, if it is pruned."""
    try:
        return objective(trial, trial.user_attrs.get(SEED))
    except optuna.TrialPruned as pruned:
        return pruned


def _write_failed(trial: optuna.Trial, error: Exception) -> None:
    """Stores the reason of a failure; after an error of the system, such as a full disk, where it can be."""
    with contextlib.suppress(Exception) if isinstance(error, OSError) else contextlib.nullcontext():
        write_failed(trial, error)


def build_objective(
    settings: StudySettings,
    data: ImageData,
    *,
    device: str | None = None,
    folder: str | Path | None = None,
    artifacts: Any = None,
    on_epoch: Callable[..., None] | None = None,
) -> Objective:
    """The `Objective` of a study's settings on its data, with its ``folder``, ``artifacts`` and ``on_epoch``.

    Raises InputError if the factory that the settings name cannot be imported.
    """
    named = settings.network.factory
    return Objective(
        data,
        settings.search_space,
        factory=None if named is None else NamedFactory(named, Path(settings.folder or "")),
        objectives=list(settings.objectives),
        network=settings.network,
        codes=settings.codes,
        recipe=settings.training,
        seeds=settings.search.seeds,
        accuracy_floor=settings.accuracy_floor,
        margin=settings.margin,
        device=device,
        folder=folder,
        artifacts=artifacts,
        on_epoch=on_epoch,
    )


def _is_done(name: str, settings: StudySettings, storage: optuna.storages.BaseStorage) -> bool:
    """Whether a study exists and has no trial left to run."""
    if name not in optuna.get_all_study_names(storage):
        return False
    study = optuna.load_study(study_name=name, storage=storage)
    unfinished = any(not trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    return not unfinished and not Plan(study, settings.search, settings.search_space).missing_trials()


def _fail_interrupted(study: optuna.Study) -> None:
    """Fails the trials that a dead process left running; this process holds the lock, so no living one runs them."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
