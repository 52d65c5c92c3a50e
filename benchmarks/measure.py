"""How everything here is measured: our way and its peers in turn, in one process, with one thread each.

Import it before all else: the number of threads is read when numpy, torch and FAISS are loaded. Results are compared
before any time is taken; a time is processor time, so that neighbours on the machine count little, and is the median
of several runs. What comes out is a row a claim: claim | ours | peer | ratio | at least.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# isort: split
import argparse
import gc
import json
import math
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from codes_to_measure import DATA_ROOT, source

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
PACKAGES = ["numpy", "numba", "scipy", "torch", "scikit-learn", "faiss-cpu", "networkx", "affinitree"]
HEADER = "| claim | ours | peer | ratio | at least |\n| --- | ---: | ---: | ---: | ---: |"
TURN = 0.1  # seconds: one that is done sooner runs again in its turn, ten times at most
SLOW = 20.0  # seconds: one that has used them has its fewest runs


@dataclass(frozen=True)
class Claim:
    """The peer's time, or a limit, is at least so many times ours."""

    work: str  # with {cells} where the size belongs
    peer: str
    at_least: float | None = None  # None: shown beside the claims
    cells: int = 0
    quick_cells: int | None = None  # in a quick run, where they differ
    quick_at_least: float | None = None

    def __str__(self) -> str:
        work = self.work.format(cells=f"{self.cells:,}")
        return f"{work}; {self.peer}"


@dataclass(frozen=True)
class Way:
    """One way to do the work."""

    run: Callable[[], Any]  # what is timed
    answer: Callable[[Any], Sequence[np.ndarray]]  # its result as arrays that are the same for every exact way
    setting: str = ""  # of a peer: the best that was found


class Bench:
    """The claims of one script, and the rows that were measured so far."""

    def __init__(
        self, script: str, claims: Mapping[str, Claim], options: argparse.Namespace, measured: str | None = None
    ) -> None:
        self.script = script
        self.quick: bool = options.quick
        self.data_root: Path = options.data_root
        self.claims = {name: _quick(claim) if self.quick else claim for name, claim in claims.items()}
        self.options = options
        self.measured = measured or (
            f"Codes of a perceptron trained on {source(self.data_root)}; processor time, medians, one thread each."
        )
        self.lines: list[str] = []
        self.short: list[str] = []
        torch.set_num_threads(1)
        numba.set_num_threads(1)
        gc.freeze()  # what was imported is not looked through again before every turn
        for line in self.circumstances():
            print(line, flush=True)
        print(f"\n{HEADER}", flush=True)

    def cells(self, name: str) -> int:
        return self.claims[name].cells

    def race(self, ours: Way, peers: Mapping[str, Way]) -> None:
        """A row for each peer, named by its claim. A result that is not ours ends the script before a time is taken."""
        expected = ours.answer(ours.run())
        for name, peer in peers.items():
            found = peer.answer(peer.run())
            if len(found) != len(expected) or not all(map(np.array_equal, found, expected)):
                raise SystemExit(f"{self.claims[name]} gives another result than ours. No time was taken.")
        seconds = self._alternate([ours.run, *(peer.run for peer in peers.values())])
        for (name, peer), taken in zip(peers.items(), seconds[1:], strict=True):
            note = f"{peer.setting}; " if peer.setting else ""
            self.row(
                name,
                statistics.median(seconds[0]),
                statistics.median(taken),
                f"{note}{len(taken)} run{'s' * (len(taken) > 1)}",
            )

    def _alternate(self, runs: Sequence[Callable[[], Any]]) -> list[list[float]]:
        """The seconds of each run: all take turns, slow ones drop out of the later turns."""
        turns, fewest = (3, 1) if self.quick else (7, 3)
        slow = 0.5 if self.quick else SLOW
        seconds: list[list[float]] = [[] for _ in runs]
        for turn in range(turns):
            for run, taken in zip(runs, seconds, strict=True):
                if turn < fewest or sum(taken) < slow:
                    before = sum(taken)
                    gc.collect()
                    while True:
                        taken.append(processor_seconds(run))
                        if sum(taken) - before > TURN or len(taken) % 10 == 0:
                            break
        return seconds

    def row(
        self, name: str, ours: float, peer: float, note: str = "", show: Callable[[float], str] | None = None
    ) -> None:
        """Prints a row; ``show`` writes a figure with its unit (seconds if None)."""
        claim, show = self.claims[name], show or milliseconds
        ratio = peer / ours if ours else math.inf
        wanted = "-" if claim.at_least is None else figure(claim.at_least)
        if claim.at_least is not None and ratio < claim.at_least:
            wanted += " (short)"
            self.short.append(f"{claim}: {figure(ratio)}, at least {figure(claim.at_least)}")
        what = f"{claim} ({note})" if note else str(claim)
        self.print(f"| {what} | {show(ours)} | {show(peer)} | {figure(ratio)} | {wanted} |")

    def print(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)

    def circumstances(self) -> list[str]:
        """What the figures depend on besides the code."""
        known = {d.metadata["Name"].lower() for d in metadata.distributions() if d.metadata["Name"]}
        versions = [f"{name} {metadata.version(name)}" for name in PACKAGES if name in known]
        return [
            f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {', '.join(versions)}.",
            self.measured + (" Quick sizes." if self.quick else ""),
        ]

    def finish(self) -> None:
        """Writes the rows to the page if that was asked for; ends with 1 if one must not and does fall short."""
        if self.options.write:
            write_between(self.script, "\n".join([*self.circumstances(), "", HEADER, *self.lines]))
        for line in self.short:
            print(f"short: {line}", file=sys.stderr)
        if self.options.check and self.short:
            raise SystemExit(1)


def bench(path: str, description: str | None, claims: Mapping[str, Claim], measured: str | None = None) -> Bench:
    """Reads the command line of the script at ``path``; ``measured`` says what, and how."""
    stated = "\n".join(
        f"  {claim}" + ("" if claim.at_least is None else f"; at least {figure(claim.at_least)}")
        for claim in claims.values()
    )
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"claims (the peer's time or the limit, divided by ours):\n{stated}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 where a ratio falls short")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer runs")
    parser.add_argument(
        "--data-root", type=Path, default=DATA_ROOT, help="the folder with MNIST; digits if it has none"
    )
    parser.add_argument("--write", action="store_true", help=f"write the rows into {PAGE.parent.name}/{PAGE.name}")
    return Bench(Path(path).stem, claims, parser.parse_args(), measured)


def processor_seconds(run: Callable[[], Any]) -> float:
    """The processor time of one run, on all threads, without what freeing its result takes."""
    gc.disable()
    try:
        start = time.process_time()
        result = run()
        taken = time.process_time() - start
    finally:
        gc.enable()
    del result
    return taken


@dataclass(frozen=True)
class Alone:
    """What one call took in a process of its own."""

    seconds: float  # by the clock
    processor_seconds: float
    added_bytes: int  # the peak above what lay in memory before the call
    peak_bytes: int  # of the whole process, with Python, torch and numba


def alone(works: Sequence[str], cells: int, of: int, head: str, data_root: Path, *, threads: int = 1) -> list[Alone]:
    """Runs ``alone.py``: ``works`` on the first ``cells`` of ``of`` distinct cells of hidden layers ``head``."""
    command = [sys.executable, str(HERE / "alone.py"), ",".join(works), str(cells), str(of), head, str(data_root)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [Alone(**found) for found in json.loads(done.stdout)]


def figure(value: float) -> str:
    """Three digits, or whole numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.2f} ms" if seconds < 0.01 else f"{1000 * seconds:,.{1 if seconds < 0.1 else 0}f} ms"


def mebibytes(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def write_between(name: str, text: str) -> None:
    """Replaces what stands between the markers of ``name`` in the performance page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text("utf-8")
    found = re.sub(f"{begin}\n.*?{end}", lambda _: f"{begin}\n{text}\n{end}", page, count=1, flags=re.DOTALL)
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE.name} has no place for {name}. Write {begin} and {end} where it belongs.")
    PAGE.write_text(found, "utf-8")


def _quick(claim: Claim) -> Claim:
    if claim.quick_cells is None:
        return claim
    return Claim(claim.work, claim.peer, claim.quick_at_least, claim.quick_cells)


def _processor() -> str:
    """The processor's name, and the widest popcount that FAISS and numba can use on it."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE)
    wide = " with AVX-512 VPOPCNT" if "avx512_vpopcntdq" in text else ""
    return (names[0] if names else platform.machine()) + wide
