"""What workers cost their database: processor time, connections, bytes; from it, what larger fleets will need."""

from __future__ import annotations

import measure

# isort: split
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import database
import fleets
from database import Meter, Spent
from fleets import NAME
from measure import Bench, Claim

import nas_relucode as rc
from nas_relucode.workers.defaults import HEARTBEAT
from nas_relucode.workers.planning import open_planned, plan_study
from nas_relucode.workers.queue import Queue
from nas_relucode.workers.worker import LONGEST_IDLE

measure.PAGE = measure.PAGE.with_name("scale.md")
EPOCHS = 20  # of a trial, whose curve is stored with it
TRIAL = 600  # seconds of a trial in the plan
FLEETS = ((10, HEARTBEAT), (1_000, HEARTBEAT), (100_000, HEARTBEAT), (100_000, 600))  # seconds between heartbeats
SERVER, WORKER = "processor time of the server", "of the worker"
CLAIMS = {
    "trial": Claim(f"a trial: {SERVER}", WORKER),
    "trial connections": Claim("a trial: connections opened", "2 at most", 1),
    "trial flushes": Claim("a trial: flushes of the log to the disk", "5 at most", 1),
    "trial log": Claim(f"a trial of {EPOCHS} epochs: bytes of write-ahead log", "32,768 at most", 1),
    "trial size": Claim(f"a trial of {EPOCHS} epochs: bytes in the database", "32,768 at most", 1),
    "short trial size": Claim("a trial of 1 epoch: bytes in the database", "16,384 at most", 1),
    "beat": Claim(f"a heartbeat: {SERVER}", WORKER),
    "look": Claim(f"a look of a worker that finds nothing: {SERVER}", WORKER),
    "look statements": Claim("a look of a worker that finds nothing: statements of SQL", "10 at most", 1),
    "start": Claim(f"the start of a worker: {SERVER}", WORKER),
    "start connections": Claim("the start of a worker: connections opened", "12 at most", 1),
    "backend": Claim("a connection: the server's memory for it", "16 MiB at most", 1),
    "planned": Claim("{cells} trials planned: bytes of each", "4,096 at most", 1, 10_000, 1_000, 1),
    "read": Claim("{cells} trials read, as status and plan do: each", "2 ms at most", None, 10_000, 1_000),
    "million": Claim("handing out one of 100,000 beside 1,000,000 done", "one of 10,000"),
    "pooled trial": Claim(f"a trial through PgBouncer: {SERVER}", "without"),
    "pooled beat": Claim(f"a heartbeat through PgBouncer: {SERVER}", "without"),
}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS, "Trials that take no time; PostgreSQL on the same machine.")
    some, many = (20, 1_000) if bench.quick else (100, 10_000)
    with database.started() as server, tempfile.TemporaryDirectory() as folder:
        url = server.database()
        meter = Meter(server, url)
        plan_study("tables", fleets.settings_of_size(1, Path(folder)), storage=url)
        with meter.of(many) as planned:
            plan_study(NAME, fleets.settings_of_size(many, Path(folder)), storage=url)
        learn(1, Path(folder))
        short = ended(meter, url, some)
        learn(EPOCHS, Path(folder))
        trial = ended(meter, url, some)
        start, look, beat = (spent(meter, some // 2, doing(url)) for doing in (starting, looking, beating))
        for name, found in {"trial": trial, "beat": beat, "look": look, "start": start}.items():
            bench.row(name, found.server, found.client)
        for name, found, most in (
            ("trial connections", trial.connections, 2),
            ("trial flushes", trial.flushes, 5),
            ("trial log", trial.log, 2**15),
            ("trial size", planned.size + trial.size, 2**15),
            ("short trial size", planned.size + short.size, 2**14),
            ("look statements", look.statements, 10),
            ("start connections", start.connections, 12),
            ("planned", planned.size, 2**12),
        ):
            bench.row(name, found, most, show=measure.figure)
        bench.row("backend", backend(server, url), 2**24, show=measure.mebibytes)
        bench.row("read", reading(url) / many, 0.002)
        behind = None
        with database.pooled(server, url) as pooled:
            if pooled:
                behind = ended(meter, pooled, some), spent(meter, some, beating(pooled))
                bench.row("pooled trial", behind[0].server, trial.server)
                bench.row("pooled beat", behind[1].server, beat.server)
            else:
                print("PgBouncer is left out. Do: apt-get install pgbouncer", flush=True)
        if not bench.quick:
            few = handing_out(url)
            fill(server, url)
            bench.row("million", handing_out(url), few)
    extrapolated(bench, planned.size, {"trial": trial, "beat": beat, "start": start, "look": look}, behind)
    bench.finish()


def learn(epochs: int, folder: Path) -> None:
    """From here on trials store what so many epochs have found."""
    fleets.learn(replace(fleets.settings_of_size(1, folder), training=rc.Recipe(epochs=epochs)))


def ended(meter: Meter, url: str, trials: int) -> Spent:
    """What a trial costs from being taken to its written result."""
    measured = meter.of(trials)
    found: list[Spent] = []

    class FirstIsOver:
        def wait(self) -> None:
            found.append(measured.__enter__())

    ready: Any = FirstIsOver()
    fleets.our_worker(url, 0.0, 1 + trials)(ready)
    measured.__exit__(None, None, None)
    return found[0]


def spent(meter: Meter, times: int, action: Callable[[], None]) -> Spent:
    action()  # what is done once is done
    with meter.of(times) as found:
        for _ in range(times):
            action()
    return found


def starting(url: str) -> Callable[[], None]:
    return lambda: open_planned(NAME, url).close_connections()


def beating(url: str) -> Callable[[], None]:
    queue = open_planned(NAME, url)
    trial = queue.study.get_trials(deepcopy=False)[0]
    queue.close_connections()
    return lambda: queue.send_heartbeat(trial)


def looking(url: str) -> Callable[[], None]:
    """What a worker does again and again while nothing waits and others still run."""
    queue = open_planned(NAME, url)

    def look() -> None:
        queue.fail_stale_trials()
        queue.add(list, after_failures=True)
        queue.unfinished()
        queue.close_connections()

    return look


def reading(url: str) -> float:
    queue = open_planned(NAME, url)
    start = time.process_time()
    queue.study.get_trials(deepcopy=False)
    queue.close_connections()
    return time.process_time() - start


def handing_out(url: str) -> float:
    """The seconds of one statement that hands out a trial, on a connection that is open."""
    queue = open_planned(NAME, url)
    queue.take()
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        queue.take()
        taken.append(time.perf_counter() - start)
    queue.close_connections()
    return statistics.median(taken)


def fill(server: database.Server, url: str) -> None:
    """Adds trials without parameters: a million done, a hundred thousand that wait behind them."""
    name = url.rpartition("/")[2]
    server.sql(
        name,
        "INSERT INTO trials (number, study_id, state) SELECT number, study_id, (CASE WHEN number < 2000000 "
        "THEN 'COMPLETE' ELSE 'WAITING' END)::trialstate FROM generate_series(1000000, 2099999) AS number, studies "
        f"WHERE study_name = '{NAME}'",
    )
    server.sql(name, "UPDATE trials SET state = 'COMPLETE' WHERE state = 'WAITING' AND number < 1000000")
    server.sql(name, "VACUUM ANALYZE trials")


def backend(server: database.Server, url: str) -> float:
    """Bytes of the server's process behind a worker's connection that no other shares."""
    queue: Queue = open_planned(NAME, url)
    queue.take()
    where = f"datname = '{url.rpartition('/')[2]}'"
    process = server.sql("postgres", f"SELECT pid FROM pg_stat_activity WHERE {where}")[0][0]
    lines = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()
    queue.close_connections()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))


def extrapolated(bench: Bench, waiting: float, costs: dict[str, Spent], behind: tuple[Spent, Spent] | None) -> None:
    """What larger fleets need if each worker goes on costing what one did."""
    trial, beat, start, look = (costs[name] for name in ("trial", "beat", "start", "look"))
    bench.print(f"\nFrom these, with trials of {TRIAL} s and an idle worker's look every {0.75 * LONGEST_IDLE:g} s:\n")
    names = ["workers", "heartbeat", "trials/s", "heartbeats/s", "server's cores", "behind PgBouncer"]
    names += ["connections open", "flushes/s", "data a day", "log a day"]
    names += ["all start: connections", "all start: server's time", "all idle: server's cores"]
    bench.print(f"| {' | '.join(names)} |\n|" + " ---: |" * len(names))
    for workers, seconds in FLEETS:
        trials, beats = workers / TRIAL, workers / seconds
        cells = [
            f"{workers:,}",
            f"{seconds} s",
            measure.figure(trials),
            measure.figure(beats),
            measure.figure(trials * trial.server + beats * beat.server),
            measure.figure(trials * behind[0].server + beats * behind[1].server) if behind else "-",
            measure.figure(trials * trial.clock + beats * beat.clock),
            measure.figure(trials * trial.flushes + beats * beat.flushes),
            gibibytes(86_400 * trials * (waiting + trial.size)),
            gibibytes(86_400 * (trials * trial.log + beats * beat.log)),
            measure.figure(workers * start.connections),
            f"{measure.figure(workers * start.server)} s",
            measure.figure(workers * look.server / (0.75 * LONGEST_IDLE)),
        ]
        bench.print(f"| {' | '.join(cells)} |")


def gibibytes(size: float) -> str:
    return f"{measure.figure(size / 2**30)} GiB"


if __name__ == "__main__":
    main()
