"""Which trials a shared study needs: decided by one process at a time, as often as anybody likes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from nas_relucode.errors import InputError, unknown
from nas_relucode.study.artifact_stores import artifact_store, name_store
from nas_relucode.study.plan import Plan
from nas_relucode.study.runner import check_countable, create_or_resume, load_study_data
from nas_relucode.study.settings import StudySettings
from nas_relucode.study.storage import redact, storage_errors
from nas_relucode.workers.database import ENGINE, check_queue, creating, has_tables, open_queue, opened
from nas_relucode.workers.defaults import BEAT, HEARTBEAT, LONGEST_HEARTBEAT, PATIENCE
from nas_relucode.workers.patience import Patience
from nas_relucode.workers.queue import Queue
from nas_relucode.workers.stopping import Stop


def plan_study(
    name: str,
    settings: StudySettings,
    *,
    storage: str,
    data_root: str | Path = "data",
    download: bool = False,
    heartbeat: int | None = None,
    artifacts: str | None = None,
    patience: float = PATIENCE,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[optuna.Study, int]:
    """Creates the study in a PostgreSQL ``storage``, enqueues what it still needs, and returns it and how many.

    It is safe to repeat, and in several processes at once: a candidate that waits, runs or is done is not enqueued
    again; of a finite space, in which nothing has failed since, no trial is even read. ``heartbeat``, in seconds (60,
    or what an earlier plan said), is how often workers say that they are alive; one that is silent for five times as
    long is taken for dead. ``artifacts``, s3://BUCKET or a folder, is where workers keep predictions and copies of
    checkpoints, and where the report finds them.

    Raises InputError for changed settings or other data, for another heartbeat while a trial of a living worker runs,
    and for another place of the artifacts after a trial has been started; StorageLostError if the database or the
    artifact store is away for more than ``patience`` seconds.
    """
    waiting = Patience(patience, say, Stop())
    check_queue(storage)
    check_countable(settings)
    if settings.search.together > 1:
        raise InputError("candidates that are trained together share one process. Set together to 1, or use run.")
    if heartbeat is not None and not 1 <= heartbeat <= LONGEST_HEARTBEAT:
        raise InputError(
            f"a heartbeat every {heartbeat} seconds is none. Give a whole number from 1 to {LONGEST_HEARTBEAT}."
        )
    waiting(lambda: artifact_store(artifacts))  # refused now rather than by every worker
    data = load_study_data(settings.data, data_root, download)

    def once() -> tuple[optuna.Study, int]:
        planned = _is_planned(name, storage)
        with nullcontext() if planned else creating(storage), opened(storage, create=not planned) as engine:
            study = create_or_resume(name, settings, data, engine)
            _set_heartbeat(study, heartbeat, storage)
            if artifacts is not None:
                name_store(study, artifacts)
            queue = Queue(study, engine)
            queue.prepare()
            plan = Plan(study, settings.search, settings.search_space)
            return study, queue.add(plan.waiting_trials, after_failures=plan.search.trials is None)

    with storage_errors(storage):
        return waiting(once)


def _is_planned(name: str, storage: str) -> bool:
    """Whether an earlier plan has made the study, with all that belongs to it."""
    if not has_tables(storage):
        return False
    with opened(storage) as engine:
        return name in optuna.get_all_study_names(engine) and BEAT in _attributes(name, engine)


def _attributes(name: str, engine: optuna.storages.RDBStorage) -> dict[str, Any]:
    return engine.get_study_user_attrs(engine.get_study_id_from_name(name))


def _are_alive(study: optuna.Study, heartbeat: int, storage: str) -> bool:
    """Whether a trial runs whose worker has not been silent for too long."""
    with opened(storage, heartbeat) as engine:
        silent = Queue(study, engine).stale()
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))) > len(silent)


def _set_heartbeat(study: optuna.Study, heartbeat: int | None, storage: str) -> None:
    then = study.user_attrs.get(BEAT)
    if then is not None and heartbeat in (None, then):
        return
    if then is not None and _are_alive(study, then, storage):
        raise InputError(
            f"trials of study {study.study_name!r} run with a heartbeat every {then} seconds; workers with another one "
            "would take them for dead. Change it when no worker runs."
        )
    study.set_user_attr(BEAT, heartbeat or HEARTBEAT)


def open_planned(name: str, storage: str, sampler: optuna.samplers.BaseSampler | None = None) -> Queue:
    """The queue of a study as `plan_study` left it, with its heartbeat. Raises InputError if there is none."""
    check_queue(storage)
    advice = f"Do: nas-relucode plan {name} (or its .toml file), with the same storage."
    if not has_tables(storage):
        raise InputError(f"the storage {redact(storage)} holds no study. {advice}")
    with opened(storage, engine=ENGINE) as briefly:  # few connections: as many start at once
        names = optuna.get_all_study_names(briefly)
        if name not in names:
            raise InputError(f"{unknown('study', name, names)} {advice}")
        heartbeat = _attributes(name, briefly).get(BEAT)
    if heartbeat is None:
        raise InputError(f"study {name!r} was not planned for workers. {advice}")
    engine = open_queue(storage, heartbeat)
    return Queue(optuna.load_study(study_name=name, storage=engine, sampler=sampler), engine)
