"""Many workers on one study: what a trial costs beside its training; against Optuna's own workers and Ray Tune."""

from __future__ import annotations

import measure

# isort: split
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import database
import fleets
from database import Server
from fleets import NAME, RATE, Work
from measure import Bench, Claim

from nas_relucode.workers.planning import plan_study

FLEETS = (1, 2, 4, 8, 16, 32)
EACH, SECONDS = 8, 5.0  # trials a worker and seconds a trial
QUICK_EACH, QUICK_SECONDS = 4, 0.5
IDEAL = "no cost at all"
MANY = "{cells} trials wait: "
CLAIMS = {
    "plan": Claim(MANY + "planned, a trial", "study.enqueue_trial", 2, 1_000, 100, 1),
    "hand-out": Claim(MANY + "one handed out and told", "study.ask and study.tell", 10, 1_000, 100, 1),
    "statements": Claim("the same, statements of SQL a trial", "15 at most", 1, 0, 0, 1),
    "commits": Claim("the same, commits a trial", "5 at most", 1, 0, 0, 1),
    "bytes": Claim("the same, bytes a trial in the database", "16,384 at most", 1, 0, 0, 1),
    "throughput": Claim("trials of 0 s, 8 workers: seconds a trial", "one worker", None, 900, 90),
    "ten thousand": Claim("10,000 trials wait: one handed out and told", "1,000 wait", 0.67),
    "ten thousand, plan": Claim("10,000 trials planned, a trial", "of 1,000", 0.67),
} | {
    f"{workers} {peer}": Claim(
        f"{workers} worker{'s' * (workers > 1)}, {{cells}} trials each",
        words,
        0.95 if peer == "ideal" and workers == max(FLEETS) else None,
        EACH,
        QUICK_EACH,
    )
    for workers in FLEETS
    for peer, words in {"ideal": IDEAL, "grid": "Optuna's GridSampler", "ray": "Ray Tune, OptunaSearch"}.items()
}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS, "Trials that sleep; by the clock, on a PostgreSQL server beside.")
    with database.started() as postgres, tempfile.TemporaryDirectory() as folder:
        fleets.learn(fleets.settings_of_size(1, Path(folder)))
        one_trial(bench, postgres, Path(folder))
        fleet = FLEETS[:3] if bench.quick else FLEETS
        ours = {workers: many(bench, postgres, Path(folder), workers) for workers in fleet}
        # Ray's threads come last: a process that has them is not to be forked.
        ray(bench, ours)
    bench.finish()


def planned(url: str, trials: int, folder: Path) -> float:
    """Plans so many trials, and returns the seconds it took."""
    settings = fleets.settings_of_size(trials, folder)
    start = time.perf_counter()
    plan_study(NAME, settings, storage=url)
    return time.perf_counter() - start


def one_trial(bench: Bench, postgres: Server, folder: Path) -> None:
    """What one trial costs with many that wait: seconds, statements, bytes, heartbeats."""
    trials, some = bench.cells("plan"), 20 if bench.quick else 100
    url = postgres.database()
    empty = size(postgres, url)
    seconds = planned(url, trials, folder) / trials
    bench.row("plan", seconds, enqueued(postgres, 20), f"{size(postgres, url) - empty:,} bytes in all")
    peer = statistics.median(asked(url) for _ in range(3))
    with fleets.counted_statements() as counts:
        ours = statistics.median(one_worker(url, some))
    bench.row("hand-out", ours, peer, f"{some} and 3 runs")
    bench.row("statements", counts["statements"] / some, 15, show=measure.figure)
    bench.row("commits", counts["commits"] / some, 5, show=measure.figure)
    left = trials - some - 3 - 8
    work = fleets.ours(url, 0.0, 8)
    bench.row("throughput", work.seconds / left, ours, f"{left / work.seconds:.0f} trials a second")
    bench.row("bytes", (size(postgres, url) - empty) / trials, 2**14, show=measure.figure)
    if not bench.quick:
        url = postgres.database()
        bench.row("ten thousand, plan", planned(url, 10_000, folder) / 10_000, seconds)
        bench.row("ten thousand", statistics.median(one_worker(url, some)), ours)


def one_worker(url: str, trials: int) -> list[float]:
    """One worker in this process brings so many trials of 0 s to an end; the seconds of each."""

    class Alone:
        def wait(self) -> None: ...

    ready: Any = Alone()
    ended = fleets.our_worker(url, 0.0, trials)(ready)
    return [later - earlier for earlier, later in itertools.pairwise(ended)]


def asked(url: str) -> float:
    """The seconds that Optuna takes to hand out a trial and write its result, with the data of a trial of ours."""
    with fleets.own_study(url) as study:
        start = time.perf_counter()
        trial = study.ask()
        trial.set_user_attr("relucode", fleets.STORED["record"])
        study.tell(trial, fleets.STORED["values"])
        return time.perf_counter() - start


def enqueued(postgres: Server, trials: int) -> float:
    """The seconds of a trial that is enqueued in a study of its own."""
    with fleets.own_study(postgres.database(), create=True) as study:
        start = time.perf_counter()
        for seed in range(trials):
            study.enqueue_trial({"head": "64-32-16", "learning_rate": RATE, "seed": seed})
        return (time.perf_counter() - start) / trials


def size(postgres: Server, url: str) -> int:
    """The bytes of a database, with its indices and what has not been vacuumed."""
    return int(postgres.sql("postgres", f"SELECT pg_database_size('{url.rpartition('/')[2]}')")[0][0])


def many(bench: Bench, postgres: Server, folder: Path, workers: int) -> Work:
    """The time of a fleet, beside what it would take if nothing but the trials took time."""
    each, seconds = (QUICK_EACH, QUICK_SECONDS) if bench.quick else (EACH, SECONDS)
    url = postgres.database()
    planned(url, workers * (1 + each), folder)  # the first of each takes no time
    with fleets.counted_connections(postgres, url) as connections:
        work = fleets.ours(url, seconds, workers)
    note = f"of {seconds:g} s; connections {statistics.fmean(connections):.2f} on average, {max(connections)} at most"
    bench.row(f"{workers} ideal", work.seconds, each * seconds, note, by_the_second)
    if work.repeated:
        raise SystemExit(f"{work.repeated} candidates were done again")
    peer = fleets.grid(postgres.database(), seconds, workers, workers * each)
    bench.row(f"{workers} grid", work.seconds, peer.seconds, faults(peer), by_the_second)
    return work


def ray(bench: Bench, ours: dict[int, Work]) -> None:
    """The same fleets under Ray Tune, where it is installed."""
    each, seconds = (QUICK_EACH, QUICK_SECONDS) if bench.quick else (EACH, SECONDS)
    try:
        with fleets.ray_tune(max(ours)) as fleet:
            fleet(max(ours), 0.0, max(ours))  # its processes are started
            for workers, work in ours.items():
                peer = fleet(workers, seconds, workers * each)
                bench.row(f"{workers} ray", work.seconds, peer.seconds, faults(peer), by_the_second)
    except ImportError as error:
        print(f"Ray Tune is left out ({error}). Do: pip install 'ray[tune]'", flush=True)


def faults(work: Work) -> str:
    return f"{work.repeated} done again, {work.left_out} left out"


def by_the_second(seconds: float) -> str:
    return f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
