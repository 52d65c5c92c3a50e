"""The queue: Optuna's waiting trials on PostgreSQL, handed out one by one, with a heartbeat from the first moment.

`optuna.Study.ask` reads every waiting trial for each that it hands out (1.2 s with a thousand of them, measured in
benchmarks/workers.py), draws a new one where none waits, and leaves a trial whose worker dies before its first
heartbeat running for ever. So a trial is taken by one statement of SQL on Optuna's own tables; all else is Optuna's.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from nas_relucode.errors import InputError
from nas_relucode.studies.storage import no_driver, redact

# Few connections: one that is kept while the worker talks, and two for its heartbeat and a lock in the same moment.
ENGINE: dict[str, Any] = {"pool_size": 1, "max_overflow": 2, "pool_pre_ping": True}
CONNECT: dict[str, Any] = {
    # PgBouncer gives a connection to others after each transaction, and with it what psycopg has prepared there.
    "prepare_threshold": None,
    # A server whose machine vanishes is noticed within a minute (seconds; the last in milliseconds).
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
LOCK_WAIT = "10s"  # for another's lock, before one asks again
ADDING_FOR, CREATING_FOR = "5min", "1h"  # in silence with a lock, before the server takes it: a process may freeze
GRACE = 5  # heartbeats that may be missing before a trial is given to somebody else

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
CREATING = sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtextextended('nas-relucode', 0))")
BEAT = sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = localtimestamp WHERE trial_id = :trial")


def is_queue(url: str) -> bool:
    """Whether several processes may work on a study in this storage."""
    try:
        return make_url(url).get_backend_name() == "postgresql"
    except (SQLAlchemyError, ValueError):
        return False


def check_queue(url: str) -> None:
    """Raises InputError for a storage that only one process may use."""
    if not is_queue(url):
        raise InputError(
            f"the storage {redact(url)} takes one process. Give --storage postgresql+psycopg://USER@HOST/DATABASE "
            "(or OPTUNA_STORAGE) for several workers, or use `nas-relucode run`, in one process."
        )


def open_queue(
    url: str, heartbeat: int | None = None, *, create: bool = False, engine: dict[str, Any] | None = None
) -> RDBStorage:
    """Optuna's storage as workers use it: few connections, a ``heartbeat`` every so many seconds.

    ``engine`` is for SQLAlchemy, by default a pool of one connection.
    ``create`` makes Optuna's tables where they are missing; hold `creating` then: two that make them collide.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return RDBStorage(
                url,
                engine_kwargs=(engine or ENGINE) | _connect(url),
                heartbeat_interval=heartbeat,
                grace_period=None if heartbeat is None else GRACE * heartbeat,
                skip_table_creation=not create,
            )
        except ImportError as error:
            raise no_driver(url, error) from error


@contextmanager
def opened(
    url: str, heartbeat: int | None = None, *, create: bool = False, engine: dict[str, Any] | None = None
) -> Iterator[RDBStorage]:
    """`open_queue` for a moment: by default each connection is closed after use, also by a study that outlives this."""
    storage = open_queue(url, heartbeat, create=create, engine=engine or {"poolclass": NullPool})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def has_tables(url: str) -> bool:
    """Whether Optuna has been in this database."""
    with _connection(url) as connection:
        return sqlalchemy.inspect(connection).has_table("trials")


@contextmanager
def creating(url: str) -> Iterator[None]:
    """Held by the one process at a time that makes tables or a study; the server frees a dead one's."""
    with _connection(url) as connection:
        _limit(connection, CREATING_FOR)
        connection.execute(CREATING)
        yield


@contextmanager
def _connection(url: str) -> Iterator[sqlalchemy.Connection]:
    try:
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, **_connect(url))
    except ImportError as error:
        raise no_driver(url, error) from error
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


class Queue:
    """The waiting and running trials of a study, seen by one worker."""

    def __init__(self, study: optuna.Study, storage: RDBStorage) -> None:
        self.study, self.storage = study, storage
        self.study_id = storage.get_study_id_from_name(study.study_name)
        # One engine for all heartbeats: it asks the server's version only once.
        self.beats = sqlalchemy.create_engine(storage.url, poolclass=NullPool, **_connect(storage.url))

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
            _limit(session, ADDING_FOR)
            session.execute(LOCK, {"study": self.study_id})
            failures = self._failures(session)  # before missing() looks: one more is for the next time
            if after_failures and failures == self._followed_up(session):
                return 0
            trials = missing()
            _insert(session, self.study_id, trials)
            session.execute(FOLLOW_UP, {"study": self.study_id, "failures": failures})
        return len(trials)

    def running(self) -> int:
        """How many trials run, here or elsewhere."""
        with Session(self.storage.engine) as session:
            return self._count(session, TrialState.RUNNING)

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


def _connect(url: str) -> dict[str, Any]:
    """What SQLAlchemy is to tell the driver, but for what the URL tells it."""
    parsed = make_url(url)
    known = CONNECT if parsed.get_driver_name() == "psycopg" else {}
    return {"connect_args": {key: value for key, value in known.items() if key not in parsed.query}}


def _limit(session: Session | sqlalchemy.Connection, silence: str) -> None:
    """For this transaction: who waits for a lock asks again, and who holds one in silence for so long loses it."""
    session.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'"))
    session.execute(sqlalchemy.text(f"SET LOCAL idle_in_transaction_session_timeout = '{silence}'"))


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
        for model, attributes in (
            (TrialUserAttributeModel, trial.user_attrs),
            (TrialSystemAttributeModel, trial.system_attrs),
        ):
            for key, content in attributes.items():
                session.add(model(trial_id=row.trial_id, key=key, value_json=json.dumps(content)))


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
