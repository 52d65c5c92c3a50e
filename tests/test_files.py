"""Files are written atomically; temporary files of killed processes are removed, those of other processes are not."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nas_relucode.files import write_atomically, write_together

WRITER = """
import pathlib, sys, time
from nas_relucode.files import write_atomically, write_together
def write(temporary):
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(60)
write_atomically(pathlib.Path(sys.argv[1]), write)
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are not asked for elsewhere")
def test_the_temporary_file_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path):
    path, other = tmp_path / "run[1].pt", tmp_path / "run[1]-2.pt"
    command = [sys.executable, "-c", WRITER]
    with subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            left = process.stdout.readline().strip()
            write_atomically(path, lambda temporary: temporary.write_text("whole"))
            assert os.path.exists(left)  # its process is still at it
        finally:
            process.kill()
    write_atomically(other, lambda temporary: temporary.write_text("another file"))
    assert os.path.exists(left)
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert {file.name for file in tmp_path.iterdir()} == {path.name, other.name}


def test_temporary_files_of_other_machines_and_similar_names_are_kept(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run.pt")], stdout=subprocess.PIPE) as process:
        gone = Path(process.stdout.readline().decode().strip())
        process.kill()
    names = [f"{gone.stem}x.pt", f".run-{process.pid}.pt", f".run-a{gone.name[5:]}", f".runs{gone.name[4:]}"]
    for name in names:
        (tmp_path / name).touch()
    write_atomically(tmp_path / "run.pt", lambda temporary: temporary.write_text("whole"))
    assert {file.name for file in tmp_path.iterdir()} == {"run.pt", *names}


def test_until_the_writer_is_done_readers_see_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("new")
        assert path.read_text() == "old"

    assert write_atomically(path, write) == path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_of_files_that_are_written_together_an_error_changes_none(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("before")

    def failing(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"b\.txt"):
        write_together({first: lambda temporary: temporary.write_text("after"), second: failing})
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert first.read_text() == "before"


def test_threads_that_write_one_file_at_a_time_do_not_write_into_each_others(tmp_path):
    path, both = tmp_path / "file.txt", threading.Barrier(2)
    contents = {text * 1000 for text in "ab"}
    errors = []

    def write(content):
        def halves(temporary):
            with temporary.open("w") as file:
                file.write(content[:500])
                file.flush()
                both.wait(10)
                file.write(content[500:])

        try:
            write_atomically(path, halves)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_another_container_of_this_machine_are_kept(tmp_path, monkeypatch):
    """Where numbers of processes mean others: there, the process of this file may run."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "run.pt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        left = process.stdout.readline().strip()
        process.kill()
    monkeypatch.setattr("nas_relucode.files.machine", lambda: "this host, another container")
    write_atomically(tmp_path / "run.pt", lambda temporary: temporary.write_text("whole"))
    assert os.path.exists(left)
