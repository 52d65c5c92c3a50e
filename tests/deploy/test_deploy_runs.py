"""What the files for clusters start, started outside containers: a study to its end, and SIGTERM on its way in."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from deploy_files import SBATCH, compose, entry_point, kubernetes, started
from optuna.trial import FrozenTrial, TrialState
from private_postgres import PASSWORD, Server
from storages import study_in

pytestmark = pytest.mark.slow

STUDY = """\
[data]
source = "digits"
classes = [0, 1]
train_samples = 100
validation = 0.3
[network]
backbone = "none"
[training]
epochs = {epochs}
batch_size = 35
[search]
space = {{ heads = ["4", "8", "4-4", "8-8"], learning_rates = [0.1, 0.01] }}
"""
# As SLURM's: tasks side by side. SIGTERM makes the real one kill them at once; none of the tests may depend on better.
SRUN = """\
#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
trap 'kill -KILL $(jobs -p)' TERM
for task in 0 1; do SLURM_PROCID=$task "$@" & echo $! >> tasks; done
code=0
for task in $(jobs -p); do wait "$task" || code=$?; done
exit $code
"""


@pytest.fixture
def database(postgres: Server) -> Iterator[dict[str, str]]:
    """The database of compose.yaml and kubernetes.yaml; the environment in which its name leads to ours."""
    postgres.sql("postgres", f"CREATE ROLE relucode LOGIN PASSWORD '{PASSWORD}'")
    postgres.sql("postgres", "CREATE DATABASE relucode OWNER relucode")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    yield {**os.environ, "PATH": path, "PGHOSTADDR": "127.0.0.1", "PGPORT": str(postgres.port)}
    postgres.sql("postgres", "DROP DATABASE relucode WITH (FORCE)")
    postgres.sql("postgres", "DROP ROLE relucode")


def check_each_once(trials: list[FrozenTrial], size: int) -> None:
    complete = Counter(tuple(t.params.values()) for t in trials if t.state == TrialState.COMPLETE)
    assert len(complete) == size
    assert set(complete.values()) == {1}
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}


def run_all(commands: list[list[str]], folder: Path, environment: dict[str, str]) -> None:
    """Runs the first, and then the others side by side, as containers without tini would be."""
    start: dict[str, Any] = {"cwd": folder, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    for group in (commands[:1], commands[1:]):
        running = [subprocess.Popen([entry_point()[-1], *command], text=True, **start) for command in group]
        said = [process.communicate(timeout=600)[0] for process in running]
        assert [process.returncode for process in running] == [0] * len(group), "\n".join(said)
        assert PASSWORD not in "".join(said)


def test_what_compose_starts_brings_a_study_to_its_end(tmp_path: Path, postgres: Server, database: dict[str, str]):
    (tmp_path / "own.toml").write_text(STUDY.format(epochs=2))
    services = compose(POSTGRES_PASSWORD=PASSWORD, STUDY="own.toml")
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == PASSWORD
    plan, worker = services["plan"], services["worker"]
    commands = [plan["command"], worker["command"], worker["command"]]
    run_all(commands, tmp_path, database | worker["environment"])
    check_each_once(study_in(postgres.url("relucode")).trials, 8)


def test_what_kubernetes_starts_brings_a_study_to_its_end(tmp_path: Path, postgres: Server, database: dict[str, str]):
    (tmp_path / "study").mkdir()
    (tmp_path / "work").mkdir()
    for name, text in kubernetes()["ConfigMap", "study"]["data"].items():
        (tmp_path / "study" / name).write_text(text)
    environment, commands = dict(database), []
    for name in ("plan", "worker", "worker"):
        arguments, own = started(name, PASSWORD)
        environment |= own | {"OMP_NUM_THREADS": "1"}
        places = ("/study/", "/work/")
        commands.append([f"{tmp_path}{word}" if word.startswith(places) else word for word in arguments])
    run_all(commands, tmp_path / "work", environment)
    check_each_once(study_in(postgres.url("relucode"), "mine").trials, 18)
    assert (tmp_path / "work" / "artifacts").is_dir()  # checkpoints lay there, which the end of a trial removes


@pytest.fixture
def job(tmp_path: Path, queue_url: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts slurm.sbatch as SLURM does, with a job's environment and two tasks; none of them outlives the test."""
    jobs: list[subprocess.Popen[str]] = []
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    storage = tmp_path / ".config" / "nas-relucode" / "storage"
    storage.parent.mkdir(parents=True)
    storage.write_text(queue_url + "\n")
    storage.chmod(0o600)

    def start(*arguments: str, time_left: int = 7200) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "SLURM_JOB_ID": "7",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_JOB_END_TIME": str(int(time.time()) + time_left),
        }
        process = subprocess.Popen(
            ["bash", str(SBATCH), "own.toml", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        jobs.append(process)
        return process

    yield start
    for process in jobs:
        with suppress(ProcessLookupError):  # the tasks may live on without their job
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=600)[0]
    assert PASSWORD not in said
    return process.returncode, said


def wait_until(state: Callable[[], bool]) -> None:
    """Returns as soon as the state is reached, however busy the machine is; the limit only ends a test that hangs."""
    end = time.monotonic() + 1800
    while not state():
        assert time.monotonic() < end
        time.sleep(0.1)


def running(server: Server, database: str) -> int:
    """The number of trials that run; 0 before the study is planned."""
    import psycopg

    with suppress(psycopg.errors.UndefinedTable):
        return server.sql(database, "SELECT count(*) FROM trials WHERE state = 'RUNNING'")[0][0]
    return 0


def failures(trials: list[FrozenTrial]) -> list[Any]:
    return [t.user_attrs["relucode"] for t in trials if t.state == TrialState.FAIL]


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


def test_a_job_of_slurm_brings_a_study_to_its_end_and_may_come_again(
    tmp_path: Path, postgres: Server, queue_url: str, job: Callable[..., Any]
):
    (tmp_path / "own.toml").write_text(STUDY.format(epochs=2))
    code, said = ended(job("--output", "files"))
    assert code == 0, said
    check_each_once(study_in(queue_url).trials, 8)
    code, said = ended(job("--output", "files"))
    assert code == 0, said
    assert "nothing to enqueue" in said


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("whole", [False, True], ids=["to each task", "to all its processes"])
def test_the_signal_of_slurm_makes_its_workers_give_their_candidates_back(
    whole: bool, tmp_path: Path, postgres: Server, queue_url: str, job: Callable[..., Any]
):
    (tmp_path / "own.toml").write_text(STUDY.format(epochs=500))
    first = job()
    wait_until(lambda: running(postgres, database_of(queue_url)) == 2)
    tasks = [int(line) for line in (tmp_path / "tasks").read_text().split()]
    for pid in [*tasks, *[child for task in tasks for child in children(task)]] if whole else tasks:
        os.kill(pid, signal.SIGTERM)
    code, said = ended(first)
    assert code == 1, said
    trials = study_in(queue_url).trials
    assert failures(trials) == [{"interrupted": "SIGTERM"}] * 2
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    code, said = ended(job())
    assert code == 0, said
    check_each_once(study_in(queue_url).trials, 8)


def test_a_worker_ends_by_itself_before_its_job_is_ended(
    tmp_path: Path, postgres: Server, queue_url: str, job: Callable[..., Any]
):
    (tmp_path / "own.toml").write_text(STUDY.format(epochs=100_000))
    code, said = ended(job(time_left=180 + 25))
    assert code == 0, said
    assert "the time limit" in said or "SIGTERM" in said
    trials = study_in(queue_url).trials
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]


def test_a_storage_file_that_others_can_read_is_refused(tmp_path: Path, job: Callable[..., Any]):
    (tmp_path / ".config" / "nas-relucode" / "storage").chmod(0o644)
    code, said = ended(job())
    assert code == 2
    assert "readable by you alone" in said


def test_the_first_process_of_a_container_passes_sigterm_on_from_its_first_moment(
    tmp_path: Path, postgres: Server, database: dict[str, str]
):
    """... and a worker gives its candidate back: run as process 1, in a space of process numbers of its own."""
    space = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*space, "tini", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no tini, or no space of process numbers may be made here")
    (tmp_path / "own.toml").write_text(STUDY.format(epochs=100_000))
    services = compose(POSTGRES_PASSWORD=PASSWORD, STUDY="own.toml")
    environment = database | services["worker"]["environment"]
    run_all([services["plan"]["command"]], tmp_path, environment)
    for early in (True, False):
        process = subprocess.Popen(
            [*space, *entry_point(), *services["worker"]["command"]],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not (first := children(process.pid)) or not children(first[0]):
            time.sleep(0.01)
        if not early:
            wait_until(lambda: running(postgres, "relucode") == 1)
        os.kill(first[0], signal.SIGTERM)
        start = time.monotonic()
        ended(process)
        assert time.monotonic() - start < 20
    trials = study_in(postgres.url("relucode")).trials
    assert failures(trials) == [{"interrupted": "SIGTERM"}]
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
