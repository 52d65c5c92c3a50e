"""The queue: Optuna's waiting trials on PostgreSQL, handed out one by one, with a heartbeat from the first moment.

`optuna.Study.ask` reads every waiting trial for each that it hands out (1.2 s with a thousand of them, measured in
benchmarks/workers.py), draws a new one where none waits, and leaves a trial whose worker dies before its first
heartbeat in the state RUNNING for ever. So a trial is taken by one SQL statement on Optuna's own tables, and its
result is written in one transaction, where Optuna needs one for the state and one for each attribute.

This is the only module that imports Optuna's private modules; tests/workers/test_queue.py fails if Optuna changes what
it uses of them. `study.storage` and `study.trial_tables` read private attributes and the tables, which a test compares
with Optuna's own objects; `ranking.reseeding` needs the number of a trial's row.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
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

from nas_relucode.study.record import Outcome, write_outcome
from nas_relucode.study.storage import study_in_memory
from nas_relucode.workers.database import connect_arguments
from nas_relucode.workers.stopping import Stop

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
# How many of the failed trials have been followed up by a retry where one is due: a system attribute of the study.
FOLLOWED_UP = sqlalchemy.text("""
    SELECT value_json FROM study_system_attributes WHERE study_id = :study AND key = 'nas_relucode:followed_up'
""")
FOLLOW_UP = sqlalchemy.text("""
    INSERT INTO study_system_attributes (study_id, key, value_json)
    VALUES (:study, 'nas_relucode:followed_up', CAST(:failures AS text))
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
""")
BEST = sqlalchemy.text("""
    SELECT max(value) FROM trial_values JOIN trials USING (trial_id)
    WHERE study_id = :study AND state = 'COMPLETE' AND objective = :place
""")
LOCK = sqlalchemy.text("SELECT study_id FROM studies WHERE study_id = :study FOR UPDATE")
BEAT = sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = localtimestamp WHERE trial_id = :trial")


class Queue:
    """The waiting and running trials of a study, as one worker uses them."""

    def __init__(self, study: optuna.Study, storage: RDBStorage) -> None:
        self.study, self.storage = study, storage
        self.study_id = storage.get_study_id_from_name(study.study_name)
        # One engine for all heartbeats: it asks the server for its version only once.
        arguments = connect_arguments(storage.url)
        self.heartbeat_engine = sqlalchemy.create_engine(storage.url, poolclass=NullPool, connect_args=arguments)

    def create_index(self) -> None:
        """Creates the index that keeps `take` fast behind a million finished trials; skipped where it is forbidden."""
        with suppress(ProgrammingError), self.storage.engine.begin() as connection:
            connection.execute(INDEX)

    def take(self) -> optuna.Trial | None:
        """The next waiting trial, now RUNNING for this worker, with its first heartbeat; None if no trial waits."""
        with self.storage.engine.begin() as connection:
            trial_id = connection.execute(TAKE, {"study": self.study_id}).scalar()
        return None if trial_id is None else optuna.Trial(self.study, trial_id)

    def take_waiting(self, trial: FrozenTrial) -> optuna.Trial | None:
        """The given waiting trial, now RUNNING for this worker; None if another worker took it first."""
        self.storage.record_heartbeat(trial._trial_id)
        taken = self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return self.running(trial) if taken else None

    def running(self, trial: FrozenTrial) -> optuna.Trial:
        """A trial that runs already, for writing to it."""
        return optuna.Trial(self.study, trial._trial_id)

    def stored(self, trial: optuna.Trial) -> FrozenTrial:
        """The trial as the database has it now."""
        return self.storage.get_trial(trial._trial_id)

    def write(self, finished: FrozenTrial) -> bool:
        """Writes the state, the values and the attributes of a `finished_trial`, all or none.

        Safe to repeat after an error. Returns False if the trial was given to another worker in the meantime.
        """
        with Session(self.storage.engine) as session, session.begin():
            trial = session.get_one(TrialModel, finished._trial_id, with_for_update=True)
            if trial.state != TrialState.RUNNING:
                return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)  # written by an earlier attempt
            trial.state, trial.datetime_complete = finished.state, finished.datetime_complete
            for objective, number in enumerate(finished.values or ()):
                value, value_type = TrialValueModel.value_to_stored_repr(number)
                row = TrialValueModel(trial_id=trial.trial_id, objective=objective, value=value, value_type=value_type)
                session.add(row)
            for model, rows in _attribute_rows(trial.trial_id, finished).items():
                statement = postgresql.insert(model).values(rows)
                update = {"value_json": statement.excluded.value_json}
                session.execute(statement.on_conflict_do_update(index_elements=["trial_id", "key"], set_=update))
        return True

    def add(self, missing_trials: Callable[[], list[FrozenTrial]], *, after_failures: bool = False) -> int:
        """Adds the trials that ``missing_trials`` returns, all or none, and returns their number.

        While it is called and until its trials are written, no other process can add a trial to the study: Optuna's
        own lock on the study's row is held, and a process or server that dies leaves nothing behind. With
        ``after_failures`` it is called only if a trial has failed since any process last called it: otherwise a
        thousand workers that find the queue empty would each read all trials. Raises SQLAlchemy's OperationalError if
        the lock is not free within 10 s.
        """
        with Session(self.storage.engine) as session, session.begin():
            if after_failures and self._failures(session) == self._followed_up(session):
                return 0
            session.execute(LOCK, {"study": self.study_id})
            # Counted before missing_trials() reads the trials: a failure in between is followed up the next time.
            failures = self._failures(session)
            if after_failures and failures == self._followed_up(session):
                return 0
            trials = missing_trials()
            _insert(session, self.study_id, trials)
            session.execute(FOLLOW_UP, {"study": self.study_id, "failures": failures})
        return len(trials)

    def best_value(self, place: int) -> float | None:
        """The highest value of the objective at this place among the complete trials; None if there are none.

        It is asked for after each training: no trial is read for it.
        """
        with self.storage.engine.begin() as connection:
            value = connection.execute(BEST, {"study": self.study_id, "place": place}).scalar()
        return None if value is None else float(value)

    def unfinished(self) -> int:
        """The number of trials that run or wait; one that waits but can't be taken is being taken by another worker."""
        with Session(self.storage.engine) as session:
            return sum(self._count(session, state) for state in (TrialState.RUNNING, TrialState.WAITING))

    def _failures(self, session: Session) -> int:
        return self._count(session, TrialState.FAIL)

    def _followed_up(self, session: Session) -> int:
        number = session.execute(FOLLOWED_UP, {"study": self.study_id}).scalar()
        return -1 if number is None else int(number)

    def _count(self, session: Session, state: TrialState) -> int:
        return int(session.execute(COUNT, {"study": self.study_id, "state": state.name}).scalar_one())

    def fail_stale_trials(self) -> None:
        """Fails the trials whose worker has sent no heartbeat for five intervals."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)

    def stale_trial_ids(self) -> list[int]:
        """The ids of the running trials whose worker has sent no heartbeat for five intervals."""
        return self.storage._get_stale_trial_ids(self.study_id)

    def send_heartbeat(self, trial: optuna.Trial) -> None:
        """Records that the trial's worker is alive, through a connection of its own that is closed at once."""
        with self.heartbeat_engine.begin() as connection:
            connection.execute(BEAT, {"trial": trial._trial_id})

    def close_connections(self) -> None:
        """Closes the idle connections: a worker that trains holds none. The next use opens new ones."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def finished_trial(trial: optuna.Trial, outcome: Outcome) -> FrozenTrial:
    """The running ``trial`` as it will be with its outcome, for `Queue.write`.

    The outcome is written to a trial of a study in memory, so that Optuna decides how it is stored.
    """
    study = study_in_memory(directions=trial.study.directions)
    stand_in = study.ask()
    values = write_outcome(stand_in, outcome)
    if isinstance(values, optuna.TrialPruned):
        finished = study.tell(stand_in, state=TrialState.PRUNED)
    else:
        finished = study.tell(stand_in, values)
    finished.number, finished._trial_id = trial.number, trial._trial_id
    finished.datetime_start = trial.datetime_start
    finished.params, finished.distributions = trial.params, trial.distributions
    finished.user_attrs = trial.user_attrs | finished.user_attrs
    return finished


def _insert(session: Session, study_id: int, trials: list[FrozenTrial]) -> None:
    """Adds waiting trials as `optuna.Study.add_trial` does: 4 statements in total, where it needs 14 for each trial."""
    next_number = session.query(TrialModel).filter(TrialModel.study_id == study_id).count()
    rows = [
        TrialModel(study_id=study_id, number=number, state=trial.state, datetime_start=trial.datetime_start)
        for number, trial in enumerate(trials, next_number)
    ]
    session.add_all(rows)
    session.flush()  # assigns their ids
    for row, trial in zip(rows, trials, strict=True):
        for name, distribution in trial.distributions.items():
            parameter = TrialParamModel(
                trial_id=row.trial_id,
                param_name=name,
                param_value=distribution.to_internal_repr(trial.params[name]),
                distribution_json=distribution_to_json(distribution),
            )
            session.add(parameter)
        for model, attributes in _attribute_rows(row.trial_id, trial).items():
            session.add_all(model(**attribute) for attribute in attributes)


def _attribute_rows(trial_id: Any, trial: FrozenTrial) -> dict[type[Any], list[dict[str, Any]]]:
    """The rows for a trial's attributes, by table, for the tables that get any."""
    tables = {TrialUserAttributeModel: trial.user_attrs, TrialSystemAttributeModel: trial.system_attrs}
    return {
        model: [{"trial_id": trial_id, "key": key, "value_json": json.dumps(item)} for key, item in attributes.items()]
        for model, attributes in tables.items()
        if attributes
    }


class Heartbeat:
    """A context in which a thread sends the heartbeats of a running trial.

    ``ignore`` decides which errors leave the thread running: those of a database that may come back. Any other requests
    a stop, since without heartbeats another worker trains the trial as well, and is raised when the context ends.
    """

    def __init__(self, queue: Queue, trial: optuna.Trial, *, ignore: Callable[[Exception], bool], stop: Stop) -> None:
        self.queue, self.trial, self.ignore, self.stop = queue, trial, ignore, stop
        self.error: Exception | None = None
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self.end.set()
        self.thread.join()
        if self.error is not None and kind is None:
            raise self.error

    def _send(self) -> None:
        interval = self.queue.storage.get_heartbeat_interval()
        while not self.end.wait(interval):
            try:
                self.queue.send_heartbeat(self.trial)
            except Exception as error:
                if not self.ignore(error):
                    self.error = error
                    self.stop.reason = self.stop.reason or f"no heartbeat can be sent ({type(error).__name__})"
                    return
