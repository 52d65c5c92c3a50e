"""plan, worker and status on the command line, as processes; no output and no file shows the password."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from private_postgres import PASSWORD

from nas_relucode.cli import arguments, worker
from nas_relucode.cli.main import main
from nas_relucode.workers.fleet import cpu_environments, gpu_environments, run_fleet
from nas_relucode.workers.stopping import Stop

PROGRAM = [sys.executable, "-m", "nas_relucode"]
STUDY = """\
[data]
source = "digits"
classes = [0, 1]
train_samples = 100
validation = 0.3
[network]
backbone = "none"
[training]
epochs = 1
batch_size = 35
[search]
space = {{ heads = ["4", "8", "4-4"], learning_rates = [0.1] }}
seeds = {seeds}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(STUDY.format(seeds=[0, 1]))
    return tmp_path / "own.toml"


def test_a_study_is_planned_worked_on_and_reported_without_a_password_anywhere(
    study: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    assert main(["plan", "own.toml", "--heartbeat", "1"]) == 0
    assert "6 trials enqueued" in capfd.readouterr().out
    assert main(["plan", "own.toml"]) == 0
    assert main(["run", "own.toml"]) == 2
    assert main(["worker", "own.toml", "--max-trials", "2", "--device", "cpu", "-v"]) == 0
    assert main(["status", "own", "-f", "json"]) == 0
    output = capfd.readouterr()
    status = json.loads(output.out[output.out.index("{") :])
    assert (status["size"], status["done"], status["waiting"], status["running"]) == (6, 2, 4, 0)
    assert "nothing to enqueue" in output.out
    assert "Use `nas-relucode plan` and `worker` instead" in output.err
    assert main(["worker", "own.toml", "--device", "cpu"]) == 0
    check_no_password(output.out + output.err + output_of_reports(capfd))


@pytest.mark.slow
def test_a_fleet_shows_no_password_in_its_lines_and_command_lines(
    study: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    assert main(["plan", "own.toml", "--heartbeat", "1"]) == 0
    command = [sys.executable, "-m", "nas_relucode", "worker", "own.toml", "--processes", "2", "--device", "cpu"]
    lines: set[str] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as fleet:
        while fleet.poll() is None:
            lines |= command_lines()
            time.sleep(0.2)
        fleet_output = fleet.communicate()[0]
    assert fleet.returncode == 0, fleet_output
    assert sum("worker own.toml" in line for line in lines) >= 2
    check_no_password(fleet_output + "".join(lines) + output_of_reports(capfd))


def output_of_reports(capfd: pytest.CaptureFixture[str]) -> str:
    """What the commands that report a study print once all its trials are done."""
    assert main(["status", "own.toml"]) == 0
    assert main(["report", "own.toml"]) == 0
    assert main(["run", "own.toml"]) == 0  # nothing is left to run
    assert main(["select", "own.toml", "--rule", "margin"]) == 0
    output = capfd.readouterr()
    assert "6 of 6 trials done" in output.out
    return output.out + output.err


def check_no_password(printed: str) -> None:
    """The password is neither in the printed text nor in a file of the study."""
    written = [path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()]
    assert len(written) >= 6
    for text in (printed, *(content.decode("latin-1") for content in written)):
        assert PASSWORD not in text


def command_lines() -> set[str]:
    """The command lines of all processes, as `ps` shows them."""
    lines = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.add(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:  # it has ended
            continue
    return lines


def test_the_url_is_read_from_a_file(study: Path, queue_url: str, capsys: pytest.CaptureFixture[str]):
    Path("url").write_text(queue_url + "\n")
    assert main(["plan", "own.toml", "--storage-file", "url", "--heartbeat", "5"]) == 0
    assert main(["status", "own.toml", "--storage-file", "url"]) == 0
    assert "waiting 6" in capsys.readouterr().out
    assert main(["plan", "own.toml", "--storage-file", "missing"]) == 2
    assert "holds the storage's URL" in capsys.readouterr().err


def test_changed_settings_are_refused_by_plan_and_worker(
    study: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    assert main(["plan", "own.toml"]) == 0
    study.write_text(STUDY.format(seeds=[0, 1, 2]))
    for command in ("plan", "worker"):
        assert main([command, "own.toml"]) == 2
        assert "search.seeds was [0, 1] and is [0, 1, 2]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "own.toml", "--storage", "sqlite:///own.db"], "one process"),
        (["worker", "own.toml"], "Set OPTUNA_STORAGE"),
        (["worker", "own.toml", "--storage", "URL"], "nas-relucode plan own"),
        (["run", "own.toml", "--storage", "URL"], "holds no study. Do: nas-relucode plan"),
        (["report", "own.toml", "--storage", "URL"], "holds no study. Do: nas-relucode plan"),
        (["worker", "own.toml", "--storage", "URL", "--time-limit", "soon"], "'soon'"),
        (["worker", "own.toml", "--storage", "URL", "--time-limit", "0"], "'0'"),
        (["worker", "own.toml", "--storage", "URL", "--time-limit", "99999999-00:00:00"], "99999999-00:00:00"),
        (["worker", "own.toml", "--storage", "URL", "--time-limit", "9" * 400], "DAYS-HH:MM:SS"),
        (["worker", "own.toml", "--storage", "URL", "--patience", "nan"], "patience is nan"),
        (["plan", "own.toml", "--storage", "URL", "--patience", "-1"], "patience is -1.0"),
        (["worker", "own.toml", "--storage", "URL", "--gpus", "0,0"], "'0,0'"),
        (["worker", "own.toml", "--storage", "URL", "--processes", "0"], "too small"),
        (["worker", "own.toml", "--storage", "URL", "--max-trials", "0"], "max_trials is 0"),
        (["plan", "own.toml", "--storage", "URL", "--heartbeat", "0"], "from 1 to 86400"),
        (["status", "own.toml", "--storage", "URL"], "there is no study 'own'"),
        (["status", "own.toml", "--storage", "postgresql+psycopg://me:SECRET@127.0.0.1:1/none"], "cannot be used"),
    ],
)
def test_bad_input_is_refused(
    study: Path,
    queue_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    assert main([queue_url if word == "URL" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert PASSWORD not in error
    assert "SECRET" not in error


@pytest.mark.parametrize("command", ["plan", "worker"])
def test_a_database_that_stays_away_is_exit_code_1(study: Path, capsys: pytest.CaptureFixture[str], command: str):
    away = f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:1/none"
    assert main([command, "own.toml", "--storage", away, "--patience", "0"]) == 1
    error = capsys.readouterr().err
    assert "the storage was unavailable for 0 s" in error
    assert PASSWORD not in error


def test_a_worker_continues_when_its_output_is_a_closed_pipe(
    study: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OPTUNA_STORAGE", queue_url)
    assert main(["plan", "own.toml"]) == 0
    capsys.readouterr()
    read, write = os.pipe()
    os.close(read)
    with suppress(BrokenPipeError), os.fdopen(write, "w", buffering=1) as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", closed)
        assert main(["worker", "own.toml", "--device", "cpu"]) == 0
        assert sys.stderr is not closed
        sys.stderr.close()  # /dev/null, to which the worker turned
    assert main(["status", "own.toml", "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 6


@pytest.mark.slow
def test_a_worker_continues_when_its_output_is_closed(study: Path, queue_url: str, capfd: pytest.CaptureFixture[str]):
    environment = {**os.environ, "OPTUNA_STORAGE": queue_url}
    assert main(["plan", "own.toml", "--storage", queue_url]) == 0
    capfd.readouterr()
    command = [*PROGRAM, "worker", "own.toml", "--device", "cpu"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as worker:
        worker.stderr.readline()
        worker.stderr.close()
    assert worker.returncode == 0
    assert main(["status", "own.toml", "--storage", queue_url, "-f", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["done"] == 6


def test_a_process_that_dies_is_restarted_three_times_and_its_exit_code_is_returned(tmp_path: Path):
    script = "import os, sys; open(os.environ['FILE'], 'a').write('.'); sys.exit(int(os.environ['CODE']))"
    places = [{"FILE": str(tmp_path / code), "CODE": code} for code in ("0", "1", "2")]
    said: list[str] = []
    assert run_fleet([sys.executable, "-c", script], places, stop=Stop(), say=said.append) == 2
    assert [len((tmp_path / code).read_text()) for code in ("0", "1", "2")] == [1, 4, 1]
    assert len(said) == 3


@pytest.mark.parametrize(
    ("kinds", "code"), [(["ends", "given back"], 0), (["given back", "dies"], 1), (["given back", "fails to end"], 2)]
)
def test_a_fleet_that_is_stopped_waits_for_its_processes_and_returns_the_code_of_those_that_failed(
    tmp_path: Path, kinds: list[str], code: int
):
    script = (
        "import os, signal, sys, time\n"
        "kind = os.environ['KIND']\n"
        "code = {'ends': 0, 'given back': 1, 'fails to end': 2, 'dies': 1}[kind]\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))\n"
        "print(os.getpid(), file=open(os.environ['FILE'], 'a'))\n"
        "time.sleep(60 if kind != 'dies' else 0)\n"
        "sys.exit(code)"
    )
    places = [{"FILE": str(tmp_path / kind), "KIND": kind} for kind in kinds]
    stop = Stop()

    def seen(kind: str) -> bool:
        processes = (tmp_path / kind).read_text().split() if (tmp_path / kind).is_file() else []
        if kind != "dies":
            return len(processes) == 1
        return len(processes) == 4 and not Path("/proc", processes[-1]).exists()

    def ask() -> None:
        while not all(seen(kind) for kind in kinds):
            time.sleep(0.01)
        stop.reason = "the time limit"

    asking = threading.Thread(target=ask)
    asking.start()
    start = time.monotonic()
    assert run_fleet([sys.executable, "-c", script], places, stop=stop, say=print) == code
    asking.join()
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("ignores", [False, True])
def test_no_process_of_a_fleet_is_left_when_an_error_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignores: bool
):
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN if {ignores} else signal.SIG_DFL)\n"
        "Path(os.environ['FILE']).write_text(str(os.getpid()))\n"
        "while os.environ['DIES'] and not Path(os.environ['OTHER']).exists():\n"
        "    time.sleep(0.01)\n"
        "time.sleep(0 if os.environ['DIES'] else 60)\n"
        "sys.exit(1)"
    )
    files = [str(tmp_path / name) for name in ("dies", "sleeps")]
    places = [{"FILE": file, "OTHER": files[1], "DIES": dies} for file, dies in zip(files, ["yes", ""], strict=True)]
    monkeypatch.setattr("nas_relucode.workers.fleet.GRACE", 1)

    def say(line: str) -> None:
        raise BrokenPipeError(line)

    with pytest.raises(BrokenPipeError, match="worker 0"):
        run_fleet([sys.executable, "-c", script], places, stop=Stop(), say=say)
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(Path(file).read_text()), 0)


def test_no_process_of_a_fleet_is_left_when_another_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def start_one(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if started:
            raise OSError("no more processes")
        started.append(start(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start_one)
    with pytest.raises(OSError, match="no more processes"):
        run_fleet([sys.executable, "-c", "import time; time.sleep(60)"], [{}, {}], stop=Stop(), say=print)
    assert started[0].returncode is not None


def test_each_process_of_a_fleet_has_a_gpu_or_a_share_of_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    cores = {"OMP_NUM_THREADS": "4"}
    assert gpu_environments(["0", "3"]) == [{"CUDA_VISIBLE_DEVICES": gpu} | cores for gpu in ("0", "3")]
    assert cpu_environments(3) == [{"OMP_NUM_THREADS": "2"}] * 3


def test_options_of_value_zero_reach_the_processes_of_a_fleet():
    options = arguments.read(["worker", "x", "--processes", "2", "--patience", "0", "--max-trials", "0"])
    passed_on = worker._passed_on(options)
    assert (passed_on["--patience"], passed_on["--max-trials"]) == (0, 0)
    assert "--no-wait" not in passed_on
