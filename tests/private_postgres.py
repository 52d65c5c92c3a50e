"""A PostgreSQL server of the tests' own: started as the user postgres in a temporary folder, restarted at will."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

PASSWORD = "sw0rdfish-of-the-tests"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian keeps off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if installed:
        return installed[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Server:
    """One server on a loopback port; every `database` is new and empty."""

    def __init__(self, connections: int = 100) -> None:
        folder = programs()
        assert folder is not None
        self.programs, self.databases = folder, 0
        self.home = Path(tempfile.mkdtemp(prefix="nas-relucode-postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if os.geteuid() == 0:  # initdb refuses root
            shutil.chown(self.home, "postgres")
        password = self.home / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        arguments = ["--auth=md5", "--username=tester", f"--pwfile={password}"]
        self._run("initdb", "-D", str(self.home / "data"), "--no-sync", "--encoding=UTF8", "--locale=C", *arguments)
        with (self.home / "data" / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n")
            file.write(f"max_connections = {connections}\n")
            # Without these a crash of the server loses nothing: only one of the machine would.
            file.write("fsync = off\nfull_page_writes = off\n")
        self.start()

    def start(self) -> None:
        log = self.home / "data" / "log"
        self._run("pg_ctl", "start", "-w", "-D", str(self.home / "data"), "-l", str(log))

    def stop(self, mode: str = "immediate") -> None:
        """Ends every connection at once, as a crash does."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.home / "data"))

    def restart(self) -> None:
        self.stop()
        self.start()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.home)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tester:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The URL of a new database."""
        self.databases += 1
        name = f"study_{self.databases}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, database: str, statement: str) -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database).replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # A server that is started keeps what it inherits open: its output goes to no pipe.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.home)
