"""The queue: Optuna's waiting trials on PostgreSQL, handed out one by one, with a heartbeat from the first moment.

`optuna.Study.ask` reads every waiting trial for each that it hands out (1.2 s with a thousand of them, measured in
benchmarks/workers.py), draws a new one where none waits, and leaves a trial whose worker dies before its first
heartbeat running for ever. So a trial is taken by one statement of SQL on Optuna's own tables, and told in one
transaction there, where Optuna needs one for the state and one for each attribute.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import (
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from nas_relucode.workers.database import connect_arguments

TAKE = sqlalchemy.text("""
    WITH next AS (
        SELECT trial_id FROM trials WHERE study_id = :study AND state = 'WAITING'
        ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE trials SET state = 'RUNNING', datetime_start = now() AT TIME ZONE 'UTC'
        FROM next WHERE trials.trial_id = next.trial_id RETURNING trials.trial_id
    )
    INSERT INTO trial_heartbeats (trial_id, heartbeat) SELECT trial_id, localtimestamp FROM taken
    ON CONFLICT (trial_id) DO UPDATE SET heartbeat = excluded.heartbeat RETURNING trial_id
""")
INDEX = sqlalchemy.text("CREATE INDEX IF NOT EXISTS nas_relucode_queue ON trials (study_id, state, number)")
COUNT = sqlalchemy.text("SELECT count(*) FROM trials WHERE study_id = :study AND state = CAST(:state AS trialstate)")
# How many of the failed trials were followed up: a system attribute of the study.
FOLLOWED_UP = sqlalchemy.text("""
    SELECT value_json FROM study_system_attributes WHERE study_id = :study AND key = 'nas_relucode:followed_up'
""")
FOLLOW_UP = sqlalchemy.text("""
    INSERT INTO study_system_attributes (study_id, key, value_json)
    VALUES (:study, 'nas_relucode:followed_up', CAST(:failures AS text))
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
""")
LOCK = sqlalchemy.text("SELECT study_id FROM studies WHERE study_id = :study FOR UPDATE")
BEAT = sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = localtimestamp WHERE trial_id = :trial")


class Queue:
    """The waiting and running trials of a study, seen by one worker."""

    def __init__(self, study: optuna.Study, storage: RDBStorage) -> None:
        self.study, self.storage = study, storage
        self.study_id = storage.get_study_id_from_name(study.study_name)
        # One engine for all heartbeats: it asks the server's version only once.
        arguments = connect_arguments(storage.url)
        self.beats = sqlalchemy.create_engine(storage.url, poolclass=NullPool, connect_args=arguments)

    def prepare(self) -> None:
        """Makes the index that keeps `take` as fast with a million trials behind it; who may not make one, goes on."""
        with suppress(ProgrammingError), self.storage.engine.begin() as connection:
            connection.execute(INDEX)

    def take(self) -> optuna.Trial | None:
        """The next waiting trial, from now on this worker's, with its first heartbeat; None if none waits."""
        with self.storage.engine.begin() as connection:
            trial_id = connection.execute(TAKE, {"study": self.study_id}).scalar()
        return None if trial_id is None else optuna.Trial(self.study, trial_id)

    def take_waiting(self, trial: FrozenTrial) -> optuna.Trial | None:
        """A certain waiting trial, from now on this worker's; None if another was faster."""
        self.storage.record_heartbeat(trial._trial_id)
        mine = self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return optuna.Trial(self.study, trial._trial_id) if mine else None

    def tell(self, end: FrozenTrial) -> bool:
        """Writes the state, the values and the attributes of a trial that ran, all or none.

        It may be done again after an error. False if the trial was taken from this worker meanwhile.
        """
        with Session(self.storage.engine) as session, session.begin():
            trial = session.get_one(TrialModel, end._trial_id, with_for_update=True)
            if trial.state != TrialState.RUNNING:
                return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)  # by an earlier try
            trial.state, trial.datetime_complete = end.state, end.datetime_complete
            for objective, number in enumerate(end.values or ()):
                value, kind = TrialValueModel.value_to_stored_repr(number)
                row = TrialValueModel(trial_id=trial.trial_id, objective=objective, value=value, value_type=kind)
                session.add(row)
            for model, rows in _attribute_rows(trial.trial_id, end).items():
                statement = postgresql.insert(model).values(rows)
                new = {"value_json": statement.excluded.value_json}
                session.execute(statement.on_conflict_do_update(index_elements=["trial_id", "key"], set_=new))
        return True

    def add(self, missing: Callable[[], list[FrozenTrial]], *, after_failures: bool = False) -> int:
        """Adds the trials that ``missing`` returns, all or none, and returns how many.

        Nobody else adds a trial to the study from before it is called until they are there: Optuna's own lock of the
        study's row is held, and what a dying process or server had added is undone. ``after_failures`` calls it only if
        trials have failed since it was last called, by anybody: a thousand workers that find the queue empty must not
        read all trials one after the other. Raises SQLAlchemy's OperationalError if the lock is not free within 10 s.
        """
        with Session(self.storage.engine) as session, session.begin():
            if after_failures and self._failures(session) == self._followed_up(session):
                return 0
            session.execute(LOCK, {"study": self.study_id})
            failures = self._failures(session)  # before missing() looks: one more is for the next time
            if after_failures and failures == self._followed_up(session):
                return 0
            trials = missing()
            _insert(session, self.study_id, trials)
            session.execute(FOLLOW_UP, {"study": self.study_id, "failures": failures})
        return len(trials)

    def unfinished(self) -> int:
        """How many trials run or wait, here or elsewhere; one that waits and is not to be had is just being taken."""
        with Session(self.storage.engine) as session:
            return sum(self._count(session, state) for state in (TrialState.RUNNING, TrialState.WAITING))

    def _failures(self, session: Session) -> int:
        return self._count(session, TrialState.FAIL)

    def _followed_up(self, session: Session) -> int:
        found = session.execute(FOLLOWED_UP, {"study": self.study_id}).scalar()
        return -1 if found is None else int(found)

    def _count(self, session: Session, state: TrialState) -> int:
        return int(session.execute(COUNT, {"study": self.study_id, "state": state.name}).scalar_one())

    def fail_stale(self) -> None:
        """Fails the trials whose worker has sent no heartbeat for five intervals."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)

    def stale(self) -> list[int]:
        """The ids of running trials whose worker has sent no heartbeat for five intervals."""
        return self.storage._get_stale_trial_ids(self.study_id)

    def beat(self, trial_id: int) -> None:
        """Says that this worker is alive, through a connection of its own that is closed at once."""
        with self.beats.begin() as connection:
            connection.execute(BEAT, {"trial": trial_id})

    def let_go(self) -> None:
        """Closes the connections that are not in use: while a worker trains, it holds none."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def _insert(session: Session, study_id: int, trials: list[FrozenTrial]) -> None:
    """Adds waiting trials as `optuna.Study.add_trial` does, which takes 14 statements for each, in four for all."""
    there = session.query(TrialModel).filter(TrialModel.study_id == study_id).count()
    rows = [
        TrialModel(study_id=study_id, number=number, state=trial.state, datetime_start=trial.datetime_start)
        for number, trial in enumerate(trials, there)
    ]
    session.add_all(rows)
    session.flush()  # gives them their ids
    for row, trial in zip(rows, trials, strict=True):
        for name, distribution in trial.distributions.items():
            value = distribution.to_internal_repr(trial.params[name])
            described = distribution_to_json(distribution)
            session.add(
                TrialParamModel(trial_id=row.trial_id, param_name=name, param_value=value, distribution_json=described)
            )
        for model, attributes in _attribute_rows(row.trial_id, trial).items():
            session.add_all(model(**attribute) for attribute in attributes)


def _attribute_rows(trial_id: Any, trial: FrozenTrial) -> dict[type[Any], list[dict[str, Any]]]:
    """The rows of a trial's attributes by their tables, for those that have any."""
    tables = {TrialUserAttributeModel: trial.user_attrs, TrialSystemAttributeModel: trial.system_attrs}
    return {
        model: [{"trial_id": trial_id, "key": key, "value_json": json.dumps(item)} for key, item in attributes.items()]
        for model, attributes in tables.items()
        if attributes
    }


class Heartbeat:
    """Tells the storage every few seconds, from a thread, that a trial's worker is alive; for `with`."""

    def __init__(self, queue: Queue, trial_id: int, *, ignore: Callable[[Exception], bool]) -> None:
        self.queue, self.trial_id, self.ignore = queue, trial_id, ignore
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        self.thread.join()

    def _beat(self) -> None:
        interval = self.queue.storage.get_heartbeat_interval()
        while not self.stop.wait(interval):
            try:
                self.queue.beat(self.trial_id)
            except Exception as error:
                if not self.ignore(error):
                    raise
