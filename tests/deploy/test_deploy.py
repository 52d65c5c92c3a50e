"""The files for clusters parse, keep no password, and say what our own command line understands."""

import fnmatch
import re
import subprocess

import pytest
import yaml
from deploy_files import (
    COMPOSE,
    DOCKERFILE,
    FILES,
    ROOT,
    SBATCH,
    STEPS,
    command_lines,
    compose,
    containers,
    entry_point,
    kubernetes,
    pod,
    started,
)

from nas_relucode.cli.arguments import read

SECRET = re.compile(r"PASSWORD|PASSWD|SECRET$|TOKEN$|ACCESS_KEY")


def test_every_command_in_them_is_understood():
    lines = command_lines()
    assert {line[0] for line in lines} == {"plan", "worker", "status", "report"}
    assert len(lines) >= 12
    for line in lines:
        read(line)  # ends with SystemExit at what it does not know


def test_what_follows_the_study_in_sbatch_is_understood_by_plan_and_worker():
    options = ["--data-root", "d", "--download", "--study-name", "n", "--output", "o", "--artifacts", "s3://b"]
    for command in ("plan", "worker"):
        understood = read([command, "digits", *options])
        assert (understood.study_name, understood.artifacts, understood.download) == ("n", "s3://b", True)


@pytest.mark.parametrize("name", ["plan", "worker", "gpu-worker"])
def test_compose_names_the_storage_by_the_variable_that_is_read(name: str, monkeypatch: pytest.MonkeyPatch):
    environment = compose(POSTGRES_PASSWORD="x")[name]["environment"]
    for key in ("OPTUNA_STORAGE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(key, environment.get(key, ""))
    assert read(["worker", "digits"]).storage == "postgresql+psycopg://relucode@postgres/relucode"


def test_no_file_holds_a_password():
    for file in FILES:
        text = file.read_text("utf-8")
        for user in re.findall(r"postgresql(?:\+psycopg)?://([^@\s]*)@", text):
            assert user in ("USER:PASSWORD", "relucode"), f"{file}: {user}"
        for name, value in re.findall(r"^\s*(?:ARG|ENV|export)?\s*(\w+)\s*[=:]\s*(\S.*)$", text, flags=re.MULTILINE):
            if SECRET.search(name.upper()):
                assert value.startswith("${POSTGRES_PASSWORD:?") or name == "automountServiceAccountToken", (
                    f"{file}: {name}"
                )
    assert not [name for kind, name in kubernetes() if kind == "Secret"]
    for item in [*containers().values(), *pod("StatefulSet", "postgres")["containers"]]:
        for variable in item["env"]:
            assert ("valueFrom" in variable) == bool(SECRET.search(variable["name"])), variable["name"]


def test_the_password_of_compose_is_asked_for_and_its_file_is_kept_out_of_git():
    with pytest.raises(AssertionError, match="POSTGRES_PASSWORD is needed"):
        compose()
    done = subprocess.run(["git", "check-ignore", "deploy/.env"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode in (0, 128)  # ignored; or no checkout


def test_the_job_of_slurm_signals_its_workers_before_its_end_and_they_end_before_that():
    text = SBATCH.read_text("utf-8")
    assert subprocess.run(["bash", "-n", str(SBATCH)], check=False).returncode == 0
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, flags=re.MULTILINE))
    signal, seconds = options["signal"].split("@")
    assert signal == "TERM"  # with B: the shell alone, or srun, which kills its tasks, would have it
    margin = int(re.search(r"date \+%s\) - (\d+)\)\)", text)[1])
    assert margin >= int(seconds) + 60  # SLURM may send it a minute early
    assert "requeue" in options
    assert options["gpus-per-task"] == "1"
    assert int(options["ntasks"]) > 1  # SLURM refuses GPUs a task without it, also with tasks a node
    assert "exec srun" in text


def test_compose_waits_for_the_database_and_for_the_plan():
    services = compose(POSTGRES_PASSWORD="x")
    assert services["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert services["plan"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("worker", "gpu-worker"):
        assert services[name]["depends_on"] == {"plan": {"condition": "service_completed_successfully"}}
        assert services[name]["restart"] == "on-failure"
    volumes = yaml.safe_load(COMPOSE.read_text("utf-8"))["volumes"]
    used = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert used == set(volumes)


def test_a_worker_on_kubernetes_has_a_gpu_and_time_to_end_and_another_takes_its_place():
    job = kubernetes()["Job", "workers"]["spec"]
    spec = job["template"]["spec"]
    assert "completions" not in job  # a queue: done when a worker finds nothing left
    assert spec["restartPolicy"] == "Never"
    assert spec["terminationGracePeriodSeconds"] >= 60
    assert containers()["worker"]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert list(containers()) == ["plan", "worker"]
    useless, nobodys_fault = job["podFailurePolicy"]["rules"]
    assert useless["action"] == "FailJob"
    assert useless["onExitCodes"] == {"containerName": "worker", "operator": "In", "values": [2]}  # misuse, in cli.py
    assert (nobodys_fault["action"], nobodys_fault["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")


@pytest.mark.parametrize("name", ["plan", "worker"])
def test_what_a_pod_mounts_is_there_and_it_is_nobody_special(name: str):
    objects, spec = kubernetes(), pod("Job", "workers")
    for volume in spec["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in objects
        else:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in objects
    mounts = {mount["name"]: mount["mountPath"] for mount in containers()[name]["volumeMounts"]}
    assert mounts == {"work": "/work", "study": "/study"}
    arguments, environment = started(name, "x")
    folder, _, file = arguments[1].rpartition("/")
    assert folder == mounts["study"]
    assert file in objects["ConfigMap", "study"]["data"]
    host = environment["OPTUNA_STORAGE"].partition("@")[2].partition("/")[0]
    assert ("Service", host) in objects
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    assert not containers()[name]["securityContext"]["allowPrivilegeEscalation"]


def test_the_image_starts_no_shell_is_not_root_and_gets_only_what_it_copies():
    text = DOCKERFILE.read_text("utf-8")
    assert entry_point() == ["tini", "--", "nas-relucode"]
    user = re.findall(r"^USER (\d+):\d+$", text, flags=re.MULTILINE)[-1]
    assert int(user) == pod("Job", "workers")["securityContext"]["runAsUser"] > 0
    assert f"WORKDIR {containers()['worker']['volumeMounts'][0]['mountPath']}\n" in text
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE) for word in line.split()]
    assert sorted(copied) == sorted(allowed)
    for path in copied:
        assert (ROOT / path).exists()
    assert not any(fnmatch.fnmatch("deploy/.env", pattern) for pattern in allowed)


def test_ci_takes_every_step_of_the_dockerfile_in_its_order():
    steps = re.findall(r"^([a-z]+)\)$", STEPS.read_text("utf-8"), flags=re.MULTILINE)
    called = r"^[^#\n]*build_steps\.sh ([a-z]+)"
    for file in (DOCKERFILE, ROOT / ".ci" / "run"):
        assert (
            re.findall(called, file.read_text("utf-8"), flags=re.MULTILINE) == steps == ["system", "torch", "package"]
        )
    assert subprocess.run(["sh", "-n", str(STEPS)], check=False).returncode == 0
