"""Disturbs commands by signals at random moments and by full disks: `python -m tests.faults`.

A command is killed, stopped or interrupted at uniformly random moments of an undisturbed run, or writes to a tmpfs that
is too small. Afterwards no file may be half-written, and the same command must end with the result of an undisturbed
run. An interrupted command, and one whose disk is full, says so in one line, without a traceback. The counts are
printed, and the exit code is 1 if anything was lost.

Most commands run in a fork of this process, which has imported what they need; some are processes of their own, so that
a signal also hits their imports.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import json
import math
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # pytest imports each file that may have doctests, and must keep its environment
    os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"  # a process with threads cannot be forked
    os.environ["MPLBACKEND"] = "agg"
    os.environ.pop("OPTUNA_STORAGE", None)
    sys.path.insert(0, str(Path(__file__).parent))

import private_postgres
from damage import file_system, mount
from faulty_commands import DISK, check_clean, check_whole, commands

from nas_relucode.cli.main import main as command_line

MEMORY = Path("/dev/shm")  # where files are written quickly
ROOT = Path(__file__).parents[1]
SIGNALS = {name: signal.Signals[name] for name in ("SIGINT", "SIGKILL", "SIGTERM")}
SIGNALLED = ("run", "report", "codes", "complex")
OWN_SHARE = 5  # of so many runs one more is a process of its own
LONGEST = 600  # seconds; only ends a run that hangs
ATTEMPTS = 4  # on a full disk: a candidate that fails is given up after three
PAGE = 4096  # bytes: a tmpfs holds whole pages
LARGE = 256 * 2**20  # bytes


@dataclass
class Ended:
    """How a command ended."""

    status: int  # the exit code, or the negative number of the signal
    seconds: float
    out: str
    err: str
    signalled: bool  # before it had ended


@dataclass
class Row:
    """What was injected into a command, and what came of it."""

    fault: str
    command: str
    injected: int = 0
    own: int = 0  # of them in processes of their own
    ended: int = 0  # of them with no effect: the command had ended, or the disk was large enough
    lost: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"| {self.fault} | {self.command} | skipped: {self.skipped} | | | |"
        injected = f"{self.injected}" + (f", {self.own} of them processes of their own" if self.own else "")
        return (
            f"| {self.fault} | {self.command} | {injected} | {self.ended} | {len(self.lost)} | {len(self.tracebacks)} |"
        )


def forked(call: Callable[[], int], folder: Path) -> tuple[int, int]:
    """Calls in a fork of this process, in a folder; the process, and a pipe that is ready once the call begins."""
    ready, write = os.pipe()
    process = os.fork()
    if process:
        os.close(write)
        return process, ready
    code = 70
    try:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.write(write, b".")
        code = call()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(write, repr(time.monotonic()).encode())  # it takes a while until a large process is gone
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def own_process(arguments: tuple[str, ...], folder: Path) -> tuple[int, int]:
    """Starts a command as a process of its own; the process, and a pipe that is ready at once."""
    ready, write = os.pipe()
    os.write(write, b".")
    os.close(write)
    paths = os.pathsep.join([str(ROOT), str(folder)])
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command = [sys.executable, "-m", "nas_relucode", *arguments]
        environment = {**os.environ, "PYTHONPATH": paths}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
    process.returncode = 0  # `ended` waits for it
    return process.pid, ready


def ended(started: tuple[int, int], folder: Path, number: int = 0, moment: float = LONGEST) -> Ended:
    """Waits for a process, to which a signal is sent at a ``moment``, in seconds from its beginning."""
    process, ready = started
    os.read(ready, 1)
    start, descriptor, sent = time.monotonic(), os.pidfd_open(process), 0.0
    try:
        if not select.select([descriptor], [], [], moment)[0]:
            sent = time.monotonic()
            os.kill(process, number or signal.SIGKILL)
        if not select.select([descriptor], [], [], LONGEST)[0]:
            os.kill(process, signal.SIGKILL)
    finally:
        os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    end = float(os.read(ready, 99) or math.inf)
    os.close(ready)
    seconds = min(end, time.monotonic()) - start
    texts = [(folder / name).read_text("utf-8", "replace") for name in ("out", "err")]
    return Ended(status, seconds, texts[0], texts[1], 0 < sent < end)


class Series:
    """Prepared folders of the commands, their undisturbed results and durations."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.seed, self.commands = home, seed, commands()
        self.results: dict[str, Any] = {}
        self.seconds: dict[tuple[str, bool], float] = {}  # command, whether it is a process of its own
        self.server: private_postgres.Server | None = None

    def close(self) -> None:
        if self.server is not None:
            self.server.remove()

    def prepare(self, name: str) -> None:
        """Runs a command undisturbed: here, so that forks have what it imports, and in a fork, which is timed."""
        template = self.home / f"{name}_template"
        (template / DISK).mkdir(parents=True)
        command = self.commands[name]
        command.prepare(template)
        if name == "report":
            arguments = ("run", "own.toml", "-q", "--device", "cpu", "--storage", "sqlite:///study.db")
            assert ended(forked(lambda: command_line(list(arguments)), template), template).status == 0
        importlib.import_module(f"nas_relucode.cli.{name}")
        if command.forkable:
            with self.folder(name) as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
                sys.path.append(str(folder))
                assert command_line(list(self.commands[name].arguments)) == 0
                sys.path.remove(str(folder))
                sys.modules.pop("faulty_network", None)
        with self.folder(name) as folder:
            whole = self.run(name, folder)
            assert (whole.status, whole.err) == (0, ""), f"{name}: {whole}"
            self.results[name] = self.result(name, folder, whole.out)
            self.seconds[name, False] = whole.seconds
        assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
        gc.collect()
        gc.freeze()

    def duration(self, name: str, own: bool) -> float:
        """The seconds of an undisturbed run."""
        if (name, own) not in self.seconds:
            with self.folder(name) as folder:
                whole = self.run(name, folder, own=own)
                assert (whole.status, whole.err) == (0, ""), f"{name}: {whole}"
                self.seconds[name, own] = whole.seconds
        return self.seconds[name, own]

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A new folder with what the command needs."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}_", dir=self.home))
        shutil.copytree(self.home / f"{name}_template", folder, dirs_exist_ok=True)
        if name == "worker":
            self._plan(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def _plan(self, folder: Path) -> None:
        self.server = self.server or private_postgres.Server()
        url = self.server.database()
        (folder / "storage").write_text(url)
        arguments = ["plan", "own.toml", "--storage-file", "storage"]
        planned = ended(forked(lambda: command_line(arguments), folder), folder)
        assert planned.status == 0, planned

    def run(self, name: str, folder: Path, number: int = 0, moment: float = LONGEST, own: bool = False) -> Ended:
        arguments = self.commands[name].arguments
        started = own_process(arguments, folder) if own else forked(lambda: command_line(list(arguments)), folder)
        return ended(started, folder, number, moment)

    def result(self, name: str, folder: Path, printed: str) -> Any:
        """The result of a command as plain values, computed in a fork: a database's connections are not inherited."""

        def write() -> int:
            (folder / "result").write_text(json.dumps(self.commands[name].result(folder, printed), sort_keys=True))
            return 0

        computed = ended(forked(write, folder), folder)
        assert computed.status == 0, computed.err
        return json.loads((folder / "result").read_text())

    def check_result(self, name: str, folder: Path, printed: str) -> None:
        check_whole(folder)
        check_clean(folder)
        result = self.result(name, folder, printed)
        assert result == self.results[name], f"another result than undisturbed: {str(result)[:2000]}"

    def signals(self, fault: str, name: str, moments: int) -> Row:
        """Sends a signal at random moments of a command."""
        row, rng = Row(fault, name), random.Random(f"{self.seed} {fault} {name}")
        for own, wanted in ((False, moments), (True, moments // OWN_SHARE)):
            hits = 0
            while hits < wanted and row.ended <= moments:
                moment = rng.uniform(0, self.duration(name, own))
                with self.folder(name) as folder:
                    hits += self._signal(row, folder, moment, own)
        return row

    def _signal(self, row: Row, folder: Path, moment: float, own: bool) -> bool:
        """Sends a signal to a command at a moment, checks what is left, and returns whether the command still ran."""
        disturbed = self.run(row.command, folder, SIGNALS[row.fault], moment, own)
        if not disturbed.signalled:  # the machine is less busy than it was
            self.seconds[row.command, own] = disturbed.seconds
        row.injected += disturbed.signalled
        row.own += own and disturbed.signalled
        row.ended += not disturbed.signalled
        where = f"{row.fault} {row.command} at {moment:.3f} s" + " (own process)" * own
        self._note(row, where, lambda: _check_signalled(row.fault, disturbed))
        self._note(row, where, lambda: self._check_resumed(row.command, folder))
        return disturbed.signalled

    def _check_resumed(self, name: str, folder: Path) -> None:
        check_whole(folder)
        resumed = self.run(name, folder)
        assert (resumed.status, resumed.err) == (0, ""), f"the same command: {resumed}"
        self.check_result(name, folder, resumed.out)

    def full_disks(self, name: str, sizes: int) -> Row:
        """Runs a command on file systems that are too small, then on one that is large enough."""
        row, rng = Row("full disk", name), random.Random(f"{self.seed} disk {name}")
        with self.folder(name) as folder, file_system(folder / DISK, LARGE):
            needed = self._pages_needed(name, folder)
        for count in range(sizes):
            size = PAGE * (1 + int(needed * (count + rng.random()) / sizes))
            with self.folder(name) as folder, file_system(folder / DISK, size):
                row.injected += 1
                where = f"full disk {name} of {size:,} bytes"
                self._note(row, where, lambda: self._check_full_disk(row, name, folder))
        return row

    def _check_full_disk(self, row: Row, name: str, folder: Path) -> None:
        command = self.commands[name]
        for attempt in range(ATTEMPTS if command.trains else 1):
            disturbed = self.run(name, folder)
            if disturbed.status == 0:
                row.ended += attempt == 0
                break
            self._note(row, f"full disk {name}", lambda: _check_one_line(disturbed, 2))  # noqa: B023
            check_whole(folder)
        mount(folder / DISK, f"remount,size={LARGE}")
        if disturbed.status or command.resumes:
            disturbed = self.run(name, folder)
            assert (disturbed.status, disturbed.err) == (0, ""), f"the same command: {disturbed}"
        self.check_result(name, folder, disturbed.out)

    def _pages_needed(self, name: str, folder: Path) -> int:
        """The largest number of pages in use while a command runs undisturbed on a file system of its own."""
        arguments, most = list(self.commands[name].arguments), 0
        process, ready = forked(lambda: command_line(arguments), folder)
        descriptor = os.pidfd_open(process)
        while not select.select([descriptor], [], [], 0.001)[0]:
            use = os.statvfs(folder / DISK)
            most = max(most, use.f_blocks - use.f_bfree)
        os.close(descriptor)
        assert ended((process, ready), folder).status == 0
        return most

    @staticmethod
    def _note(row: Row, where: str, check: Callable[[], None]) -> None:
        """Notes in a row what a check finds."""
        try:
            check()
        except ChildProcessError as error:
            row.tracebacks.append(f"{where}: {error}")
            print(row.tracebacks[-1], file=sys.stderr, flush=True)
        except Exception as error:
            row.lost.append(f"{where}: {type(error).__name__}: {error}")
            print(row.lost[-1], file=sys.stderr, flush=True)


def _check_signalled(fault: str, disturbed: Ended) -> None:
    """Raises an exception if a command did not end as it should after a signal.

    Before its first line of ours and after the last one, Python ends as it likes: silently or with a traceback of its
    own start. It also ends by SIGINT, and not with our exit code, if an `exec` of a text was interrupted.
    """
    number = SIGNALS[fault]
    if not disturbed.signalled:
        assert (disturbed.status, disturbed.err) == (0, ""), str(disturbed)
    elif number != signal.SIGINT:
        assert (disturbed.status, disturbed.err) in ((-number, ""), (0, "")), str(disturbed)
    elif not (_is_pythons_start(disturbed.err) or (disturbed.status == -number and not disturbed.err)):
        _check_one_line(disturbed, 1, -number)
        assert "interrupted" in disturbed.err, disturbed.err


def _is_pythons_start(err: str) -> bool:
    """Whether a traceback has only lines of Python's own start."""
    places = re.findall(r'^  File "(.*?)"', err, re.MULTILINE)
    return bool(places) and all(place.startswith("<frozen ") for place in places) and "Exception ignored" not in err


def _check_one_line(disturbed: Ended, *codes: int) -> None:
    """Raises ChildProcessError unless a command ended with such a code and one line of ours on standard error."""
    lines = disturbed.err.splitlines()
    if disturbed.status not in codes or len(lines) != 1 or not lines[0].startswith("nas-relucode: error: "):
        raise ChildProcessError(f"exit code {disturbed.status} and not {codes[0]} with one line:\n{disturbed.err}")


def _skipped(name: str, home: Path) -> str:
    if name == "worker" and private_postgres.programs() is None:
        return "no PostgreSQL: apt-get install postgresql"
    try:
        with file_system(home, PAGE):
            return ""
    except OSError as error:
        return str(error)


def main(arguments: list[str] | None = None) -> int:
    """Injects the faults, prints the table row by row, then what was lost, and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moments", type=int, default=50, help="of each signal and command; 0: no signals")
    parser.add_argument("--sizes", type=int, default=20, help="of the file system of each command; 0: no full disks")
    parser.add_argument("--signals", nargs="+", choices=list(SIGNALS), default=list(SIGNALS))
    parser.add_argument("--commands", nargs="+", choices=list(commands()), default=list(commands()))
    options = parser.parse_args(arguments)
    print(
        f"seed {options.seed}\n\n| fault | command | injected | without effect | lost | tracebacks |\n"
        + "|---" * 6
        + "|"
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    rows: list[Row] = []

    def add(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)

    with tempfile.TemporaryDirectory(prefix="nas-relucode-faults-", dir=MEMORY if MEMORY.is_dir() else None) as home:
        series = Series(Path(home), options.seed)
        try:
            for name in options.commands:
                skipped = _skipped(name, Path(tempfile.mkdtemp(dir=home)))
                signalled = options.moments and name in SIGNALLED
                if not signalled and (skipped or not options.sizes):
                    add(Row("full disk", name, skipped=skipped or "--sizes 0"))
                    continue
                series.prepare(name)
                for fault in options.signals if signalled else ():
                    add(series.signals(fault, name, options.moments))
                if options.sizes:
                    add(Row("full disk", name, skipped=skipped) if skipped else series.full_disks(name, options.sizes))
        finally:
            series.close()
    return int(any(row.lost or row.tracebacks for row in rows))


if __name__ == "__main__":
    sys.exit(main())
