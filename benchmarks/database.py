"""A PostgreSQL server, what it spends on its clients, and a PgBouncer before it; for capacity.py."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import fleets

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from private_postgres import Server, programs

TICKS = os.sysconf("SC_CLK_TCK")
SETTLE = 0.5  # seconds: a backend that ends tells its counts


@dataclass
class Spent:
    """What something took, each time it was done."""

    server: float = 0.0  # seconds of processor time, of all processes of the server
    client: float = 0.0  # of this process
    clock: float = 0.0  # seconds
    statements: float = 0.0
    connections: float = 0.0  # opened
    flushes: float = 0.0  # of the log, to the disk
    log: float = 0.0  # bytes of write-ahead log
    size: float = 0.0  # bytes that the database grew


@contextmanager
def started() -> Iterator[Server]:
    """A server of our own."""
    if programs() is None:
        raise SystemExit("no PostgreSQL here. Do: apt-get install postgresql")
    server = Server(connections=200)
    try:
        yield server
    finally:
        server.remove()


class Meter:
    """Reads the server's counters for one database."""

    def __init__(self, server: Server, url: str) -> None:
        self.server, self.name = server, url.rpartition("/")[2]

    @contextmanager
    def of(self, times: int) -> Iterator[Spent]:
        """What is done ``times`` times inside; the result is filled in at the end."""
        spent = Spent()
        before = self._read()
        with fleets.counted_statements() as counts:
            yield spent
        after = self._read()
        taken = [(later - earlier) / times for earlier, later in zip(astuple(before), astuple(after), strict=True)]
        for name, value in zip(vars(spent), taken, strict=True):
            setattr(spent, name, value)
        spent.clock -= SETTLE / times
        spent.statements = counts["statements"] / times

    def _read(self) -> Spent:
        clock, client = time.perf_counter(), time.process_time()
        time.sleep(SETTLE)
        server = processor_seconds(self.server)
        of_database = f"SELECT sessions, pg_database_size(datname) FROM pg_stat_database WHERE datname = '{self.name}'"
        connections, size = self.server.sql("postgres", of_database)[0]
        log, flushes = self.server.sql("postgres", "SELECT wal_bytes, wal_sync FROM pg_stat_wal")[0]
        return Spent(server, client, clock, 0, connections, flushes, float(log), size)


def processor_seconds(server: Server) -> float:
    """Of the server's first process, of its children, and of those that have ended."""
    first = (server.home / "data" / "postmaster.pid").read_text("utf-8").split()[0]
    ticks = sum(_stat(first)[1])
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent, own = _stat(process.name)
        except OSError:  # it has ended meanwhile
            continue
        if parent == first:
            ticks += sum(own[:2])
    return ticks / TICKS


def _stat(process: str) -> tuple[str, list[int]]:
    """The parent of a process, and its ticks: user, system, and those of children that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return fields[1], [int(field) for field in fields[11:15]]


@contextmanager
def pooled(server: Server, url: str) -> Iterator[str | None]:
    """The URL of the same database through a PgBouncer that pools transactions; None where none is installed."""
    program = shutil.which("pgbouncer")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        secret = server.sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'tester'")[0][0]
        settings = Path(folder, "pgbouncer.ini")
        Path(folder, "users").write_text(f'"tester" "{secret}"\n', "utf-8")
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users\n"
            "pool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 1000\n",
            "utf-8",
        )
        command = [program, str(settings)]
        if os.geteuid() == 0:  # it refuses root
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
            for path in (folder, *Path(folder).iterdir()):
                shutil.chown(path, "postgres")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _listening(port)
            yield url.replace(f":{server.port}/", f":{port}/")
        finally:
            process.terminate()
            process.wait()


def _listening(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("PgBouncer did not start")
