"""Planning a shared study: create it and enqueue the trials that it needs, safe to repeat in several processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from nas_relucode.errors import InputError, unknown, whole_number
from nas_relucode.study.artifact_stores import artifact_store, set_store
from nas_relucode.study.plan import Plan
from nas_relucode.study.runner import check_search, create_or_resume, load_study_data
from nas_relucode.study.settings import StudySettings
from nas_relucode.study.storage import redact, storage_errors
from nas_relucode.workers.database import ENGINE, briefly_opened, check_queue, creation_lock, has_tables, open_queue
from nas_relucode.workers.defaults import BEAT, HEARTBEAT, LONGEST_HEARTBEAT, PATIENCE
from nas_relucode.workers.queue import Queue
from nas_relucode.workers.retrying import StorageRetry
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
    """Creates the study ``name`` in PostgreSQL and enqueues its missing trials; the study and their number.

    Safe to repeat, also in several processes at once: a candidate that waits, runs or is complete is not enqueued
    again. Where the search space is finite and nothing has failed since the last plan, no trial is read.

    ``heartbeat`` is the interval in seconds at which workers record that they are alive (by default 60, or that of an
    earlier plan); a worker that is silent for five intervals counts as dead. ``artifacts``, s3://BUCKET or a folder, is
    where workers keep copies of checkpoints. ``say`` is called with a line when the database has to be waited for.

    Raises InputError for changed settings or other data, for another heartbeat while a living worker runs a trial, and
    for other ``artifacts`` once a trial has started; StorageUnavailableError if the database or the artifact store is
    unavailable for more than ``patience`` seconds.
    """
    retry = StorageRetry(patience, say, Stop())
    check_queue(storage)
    check_search(settings)
    if settings.search.together > 1:
        raise InputError(
            f"together is {settings.search.together}, but candidates that are trained together share one process. "
            "Set together to 1 in [search], or use `nas-relucode run`."
        )
    if heartbeat is not None:
        heartbeat = whole_number("the heartbeat in seconds", heartbeat, least=1, most=LONGEST_HEARTBEAT)
    retry(lambda: artifact_store(artifacts))  # an unusable store is an error here rather than in every worker
    data = load_study_data(settings.data, data_root, download)

    def plan_once() -> tuple[optuna.Study, int]:
        planned = _is_planned(name, storage)
        with (
            nullcontext() if planned else creation_lock(storage),
            briefly_opened(storage, create=not planned) as engine,
        ):
            study = create_or_resume(name, settings, data, engine)
            _set_heartbeat(study, heartbeat, storage)
            if artifacts is not None:
                set_store(study, artifacts)
            queue = Queue(study, engine)
            queue.create_index()
            plan = Plan(study, settings.search, settings.search_space)
            return study, queue.add(plan.missing_trials, after_failures=plan.search.trials is None)

    with storage_errors(storage):
        return retry(plan_once)


def _is_planned(name: str, storage: str) -> bool:
    """Whether an earlier plan has completely created the study."""
    if not has_tables(storage):
        return False
    with briefly_opened(storage) as engine:
        return name in optuna.get_all_study_names(engine) and BEAT in _study_attributes(name, engine)


def _study_attributes(name: str, engine: optuna.storages.RDBStorage) -> dict[str, Any]:
    return engine.get_study_user_attrs(engine.get_study_id_from_name(name))


def _any_worker_alive(study: optuna.Study, heartbeat: int, storage: str) -> bool:
    """Whether a trial runs whose worker has sent a heartbeat within five intervals."""
    with briefly_opened(storage, heartbeat) as engine:
        stale = Queue(study, engine).stale_trial_ids()
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))) > len(stale)


def _set_heartbeat(study: optuna.Study, heartbeat: int | None, storage: str) -> None:
    stored = study.user_attrs.get(BEAT)
    if stored is not None and heartbeat in (None, stored):
        return
    if stored is not None and _any_worker_alive(study, stored, storage):
        raise InputError(
            f"trials of study {study.study_name!r} run with a heartbeat of {stored} seconds; with {heartbeat} seconds "
            "their workers could be taken for dead. Change the heartbeat when no worker runs."
        )
    study.set_user_attr(BEAT, heartbeat or HEARTBEAT)


def open_planned(name: str, storage: str, sampler: optuna.samplers.BaseSampler | None = None) -> Queue:
    """The queue of a study that `plan_study` planned, with its heartbeat. Raises InputError if there is none."""
    check_queue(storage)
    advice = f"Do: nas-relucode plan {name} (or its .toml file), with the same storage."
    if not has_tables(storage):
        raise InputError(f"the storage {redact(storage)} holds no study. {advice}")
    with briefly_opened(storage, engine=ENGINE) as opened:  # a pool: many workers start at the same time
        names = optuna.get_all_study_names(opened)
        if name not in names:
            raise InputError(f"{unknown('study', name, names)} {advice}")
        heartbeat = _study_attributes(name, opened).get(BEAT)
    if heartbeat is None:
        raise InputError(f"study {name!r} was not planned for workers. {advice}")
    engine = open_queue(storage, heartbeat)
    return Queue(optuna.load_study(study_name=name, storage=engine, sampler=sampler), engine)
