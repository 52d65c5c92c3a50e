"""The queue: each waiting trial is taken once, added whole or not at all, and few connections are held."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from private_postgres import Server

from nas_relucode.workers.database import open_queue
from nas_relucode.workers.queue import TAKE, Heartbeat, Queue
from nas_relucode.workers.retrying import StorageRetry, is_unavailable
from nas_relucode.workers.stopping import Stop

HEADS = CategoricalDistribution([str(i) for i in range(1000)])


def waiting(count: int) -> list[FrozenTrial]:
    return [
        create_trial(state=TrialState.WAITING, params={"head": str(i)}, distributions={"head": HEADS})
        for i in range(count)
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def open_one(queue_url: str) -> Iterator[Callable[..., Queue]]:
    """Opens the queue of one study as another worker would; the connections are closed in the end."""
    opened: list[Queue] = []

    def open_it(heartbeat: int = 60, create: bool = False) -> Queue:
        storage = open_queue(queue_url, heartbeat, create=create)
        sampler = optuna.samplers.RandomSampler()
        if create:
            study = optuna.create_study(study_name="own", storage=storage, sampler=sampler)
        else:
            study = optuna.load_study(study_name="own", storage=storage, sampler=sampler)
        opened.append(Queue(study, storage))
        return opened[-1]

    yield open_it
    for queue in opened:
        queue.close_connections()


def test_trials_are_taken_in_their_order_and_none_is_drawn_when_none_waits(open_one):
    queue = open_one(create=True)
    assert queue.take() is None
    assert queue.add(lambda: waiting(3)) == 3
    taken = [queue.take() for _ in range(3)]
    assert [trial.params["head"] for trial in taken] == ["0", "1", "2"]
    assert [trial.number for trial in taken] == [0, 1, 2]
    assert queue.take() is None
    assert len(queue.study.trials) == 3  # where study.ask would have drawn a fourth


def test_threads_of_many_workers_take_each_trial_once(open_one):
    first = open_one(create=True)
    first.add(lambda: waiting(60))
    taken: list[int] = []

    def work(queue: Queue) -> None:
        while trial := queue.take():
            taken.append(trial.number)
        queue.close_connections()

    threads = [threading.Thread(target=work, args=(open_one(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))


def test_a_taken_trial_is_running_for_optuna_which_can_finish_it(open_one):
    queue = open_one(create=True)
    queue.add(lambda: waiting(1))
    trial = queue.take()
    (seen,) = queue.study.trials
    assert seen.state == TrialState.RUNNING
    assert abs((seen.datetime_start - datetime.now()).total_seconds()) < 60
    assert trial.suggest_categorical("head", HEADS.choices) == "0"
    queue.study.tell(trial, 1.0)
    assert queue.study.best_value == 1.0


def test_an_error_undoes_the_trials_that_were_added_before_it(open_one):
    queue = open_one(create=True)

    def fail() -> list[FrozenTrial]:
        broken = waiting(2)
        broken[1].params = {}  # so that the second cannot be stored
        return broken

    with pytest.raises(KeyError):
        queue.add(fail)
    assert queue.study.trials == []
    assert queue.add(lambda: waiting(2)) == 2


def test_trials_are_stored_as_when_optuna_adds_them_one_by_one(open_one):
    queue = open_one(create=True)
    rate = optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    choice = {"head": HEADS, "rate": rate}
    trials = [
        create_trial(state=TrialState.WAITING, params={"head": "7", "rate": 0.1}, distributions=choice),
        create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"seed": 3}}),
        *(
            create_trial(
                state=TrialState.WAITING,
                params={"head": str(i)},
                distributions={"head": HEADS},
                user_attrs={"retry_of": i},
            )
            for i in range(40)
        ),
    ]
    for trial in trials:
        queue.study.add_trial(trial)
    assert queue.add(lambda: trials) == 42
    added = queue.study.trials
    assert [trial.number for trial in added] == list(range(84))
    parts = ("state", "params", "distributions", "user_attrs", "system_attrs", "values", "datetime_start")
    one_by_one, at_once = ([[getattr(t, p) for p in parts] for t in part] for part in (added[:42], added[42:]))
    assert one_by_one == at_once


def test_queues_that_add_the_missing_trials_at_once_add_them_once(open_one):
    queues = [open_one(create=True), open_one(), open_one(), open_one()]

    def add(queue: Queue) -> None:
        queue.add(lambda: [] if queue.study.trials else waiting(20))
        queue.close_connections()

    threads = [threading.Thread(target=add, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trial.params["head"] for trial in queues[0].study.trials] == [str(i) for i in range(20)]


def silence(server: Server, url: str, seconds: int) -> None:
    """Makes all heartbeats older by so many seconds."""
    server.sql(url.rpartition("/")[2], f"UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '{seconds} s'")


def test_missing_trials_are_computed_again_only_after_a_failure(open_one):
    one, other = open_one(create=True), open_one()
    calls: list[str] = []

    def missing(caller: str, count: int) -> Callable[[], list[FrozenTrial]]:
        return lambda: [calls.append(caller), waiting(count)][1]

    assert one.add(missing("one", 2), after_failures=True) == 2  # the first time
    assert other.add(missing("other", 1), after_failures=True) == 0
    for queue in (one, other):
        queue.study.tell(queue.take(), state=TrialState.FAIL)
    assert other.add(missing("other", 1), after_failures=True) == 1
    assert one.add(missing("one", 1), after_failures=True) == 0
    assert one.add(missing("one", 1)) == 1
    assert calls == ["one", "other", "one"]


def test_a_failure_while_the_missing_trials_are_computed_is_followed_up_the_next_time(open_one):
    queue, other = open_one(create=True), open_one()
    queue.add(lambda: waiting(2))
    first, second = other.take(), other.take()
    other.study.tell(first, state=TrialState.FAIL)

    def missing() -> list[FrozenTrial]:
        failed = [trial for trial in queue.study.trials if trial.state == TrialState.FAIL]
        other.study.tell(second, state=TrialState.FAIL, skip_if_finished=True)
        return waiting(len(failed))

    assert queue.add(missing, after_failures=True) == 1
    assert queue.add(missing, after_failures=True) == 2
    assert queue.add(missing, after_failures=True) == 0


def test_trials_that_run_or_wait_are_counted(open_one):
    queue = open_one(create=True)
    queue.add(lambda: waiting(3))
    assert queue.unfinished() == 3
    first, _ = queue.take(), queue.take()
    assert queue.unfinished() == 3
    queue.study.tell(first, 1.0)
    assert queue.unfinished() == 2


def test_a_trial_is_taken_by_an_index_behind_any_number_of_finished_trials(open_one, postgres: Server, queue_url: str):
    queue = open_one(create=True)
    queue.create_index()
    queue.create_index()  # exists already: no error
    database = queue_url.rpartition("/")[2]
    rows = "INSERT INTO trials (number, study_id, state) SELECT i, 1, '{}' FROM generate_series({}, {}) i"
    postgres.sql(database, rows.format("COMPLETE", 0, 20_000))
    postgres.sql(database, rows.format("WAITING", 20_001, 20_010))
    postgres.sql(database, "ANALYZE trials")
    statement = TAKE.text.replace(":study", "1")
    plan = "\n".join(row[0] for row in postgres.sql(database, f"EXPLAIN {statement}"))
    assert "Index Scan using nas_relucode_queue on trials" in plan
    assert queue.take().number == 20_001


def test_a_worker_that_died_before_its_second_heartbeat_is_noticed(open_one, postgres: Server, queue_url: str):
    queue = open_one(create=True)
    queue.add(lambda: waiting(2))
    queue.take()
    queue.fail_stale_trials()
    assert [trial.state for trial in queue.study.trials] == [TrialState.RUNNING, TrialState.WAITING]
    silence(postgres, queue_url, 299)
    assert queue.stale_trial_ids() == []
    silence(postgres, queue_url, 2)
    assert len(queue.stale_trial_ids()) == 1
    queue.fail_stale_trials()
    assert [trial.state for trial in queue.study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_heartbeat_keeps_a_trial_alive_and_ends_with_it(open_one, postgres: Server, queue_url: str):
    queue = open_one(heartbeat=1, create=True)
    queue.add(lambda: waiting(1))
    trial = queue.take()
    silence(postgres, queue_url, 100)
    with Heartbeat(queue, trial, ignore=lambda error: False, stop=Stop()):
        wait_until(lambda: queue.stale_trial_ids() == [])
    silence(postgres, queue_url, 100)
    threading.Event().wait(1.2)
    assert len(queue.stale_trial_ids()) == 1


def test_only_one_queue_can_take_a_waiting_trial(open_one):
    queue, other = open_one(create=True), open_one()
    queue.add(lambda: waiting(2))
    second = queue.study.trials[1]
    assert queue.take_waiting(second).number == 1
    assert other.take_waiting(second) is None
    assert other.take().number == 0


def test_close_connections_leaves_none_open(open_one, postgres: Server, queue_url: str):
    queue = open_one(create=True)
    queue.add(lambda: waiting(1))
    queue.take()
    database = queue_url.rpartition("/")[2]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    assert 1 <= postgres.sql("postgres", count)[0][0] <= 3
    queue.close_connections()
    wait_until(lambda: postgres.sql("postgres", count)[0][0] == 0)


def test_a_wait_for_a_lock_times_out_and_a_frozen_process_loses_its_lock(open_one, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nas_relucode.workers.database.LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(
        "nas_relucode.workers.database.IDLE_TIMEOUT", "4s"
    )  # more than a busy machine takes between two statements
    frozen, other = open_one(create=True), open_one()
    holds_lock, wake = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def freeze() -> list[FrozenTrial]:
        holds_lock.set()
        wake.wait()
        return waiting(3)

    def add() -> None:
        try:
            frozen.add(freeze)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    holds_lock.wait()
    with pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout") as timed_out:
        other.add(lambda: waiting(1))
    assert is_unavailable(timed_out.value)
    retry = StorageRetry(30, lambda line: None, Stop())
    assert retry(lambda: other.add(lambda: waiting(1))) == 1
    wake.set()
    thread.join()
    assert is_unavailable(raised[0])
    assert len(other.study.trials) == 1  # the frozen process has added none


def test_no_statements_are_prepared_since_pgbouncer_would_hand_them_to_other_clients(open_one):
    queue = open_one(create=True)
    for _ in range(10):  # psycopg prepares a statement at its fifth execution
        queue.take()
    with queue.storage.engine.connect() as connection:  # the same one, from a pool of one
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 0


RELIED_ON = {  # table: its columns, "!" where NULL is not allowed, and the columns of its unique constraints
    "studies": ("study_id! study_name!", []),
    "study_system_attributes": ("study_system_attribute_id! study_id key value_json", ["key study_id"]),
    "trials": ("trial_id! number study_id state! datetime_start datetime_complete", []),
    "trial_params": ("param_id! trial_id param_name param_value distribution_json", ["param_name trial_id"]),
    "trial_user_attributes": ("trial_user_attribute_id! trial_id key value_json", ["key trial_id"]),
    "trial_system_attributes": ("trial_system_attribute_id! trial_id key value_json", ["key trial_id"]),
    "trial_values": ("trial_value_id! trial_id! objective! value value_type!", ["objective trial_id"]),
    "trial_heartbeats": ("trial_heartbeat_id! trial_id! heartbeat!", ["trial_id"]),
}


def test_optunas_tables_are_those_that_the_queue_reads_and_writes(open_one):
    inspector = sqlalchemy.inspect(open_one(create=True).storage.engine)
    for table, expected in RELIED_ON.items():
        columns = " ".join(c["name"] + "!" * (not c["nullable"]) for c in inspector.get_columns(table))
        unique = [" ".join(sorted(c["column_names"])) for c in inspector.get_unique_constraints(table)]
        assert (columns, unique) == expected, f"Optuna {optuna.__version__} changed {table}: adapt workers/queue.py"
    (states,) = [enum["labels"] for enum in inspector.get_enums() if enum["name"] == "trialstate"]
    assert states == [state.name for state in TrialState]


def test_optuna_has_the_private_names_that_the_queue_uses(open_one):
    queue = open_one(create=True)
    queue.add(lambda: waiting(1))
    trial = queue.take()
    (frozen,) = queue.study.trials
    assert trial._trial_id == frozen._trial_id
    assert queue.stale_trial_ids() == []
    assert queue.stored(trial) == frozen
    assert queue.running(frozen).number == 0
