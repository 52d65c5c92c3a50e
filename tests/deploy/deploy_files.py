"""What the files for clusters say: their commands, as words, and their environment, as a container would have it."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SBATCH, COMPOSE, KUBERNETES = (DEPLOY / name for name in ("slurm.sbatch", "compose.yaml", "kubernetes.yaml"))
DOCKERFILE, STEPS = ROOT / "Dockerfile", DEPLOY / "build_steps.sh"
FILES = [SBATCH, COMPOSE, KUBERNETES, DOCKERFILE, STEPS]


def compose(**variables: str) -> dict[str, Any]:
    """The services of compose.yaml, its variables filled in as docker compose does."""

    def fill(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        assert name in variables or operator == ":-", f"{name} is needed: {rest}"
        return variables.get(name) or rest

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [filled(item) for item in value]
        return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", fill, value) if isinstance(value, str) else value

    services: dict[str, Any] = filled(yaml.safe_load(COMPOSE.read_text("utf-8"))["services"])
    return services


def kubernetes() -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of kubernetes.yaml by their kinds and names."""
    objects = list(yaml.safe_load_all(KUBERNETES.read_text("utf-8")))
    by_name = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    assert len(by_name) == len(objects)
    return by_name


def pod(kind: str, name: str) -> dict[str, Any]:
    """The pod of a workload."""
    spec: dict[str, Any] = kubernetes()[kind, name]["spec"]["template"]["spec"]
    return spec


def containers() -> dict[str, dict[str, Any]]:
    """The containers of a worker's pod by their names, in the order in which they are started."""
    spec = pod("Job", "workers")
    return {item["name"]: item for item in [*spec["initContainers"], *spec["containers"]]}


def started(name: str, password: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of a container of a worker's pod, without a Secret s3."""
    container, environment = containers()[name], {}
    assert all(source["secretRef"]["optional"] for source in container["envFrom"])
    for variable in container["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"]["secretKeyRef"] == {"name": "postgres", "key": "password"}
        environment[variable["name"]] = variable.get("value", password)
    return container["args"], environment


def entry_point() -> list[str]:
    """The image's ENTRYPOINT, which is in the form that starts no shell."""
    words = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    entry: list[str] = json.loads(words[-1])
    return entry


def command_lines() -> list[list[str]]:
    """The arguments of every nas-relucode that the files start, or show in a comment."""
    services = compose(POSTGRES_PASSWORD="x")
    lines = [service["command"] for name, service in services.items() if name != "postgres"]
    lines += [item["args"] for item in containers().values()]
    for file in FILES:
        text = file.read_text("utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            match = re.search(r"\b(?:nas-relucode|run --rm plan) ((?:plan|worker|status|report) .*)", line)
            if match:
                words = shlex.split(match[1].replace('"${limit[@]}"', "--time-limit 60").replace('"$@"', ""))
                lines.append([word.replace("$study", "digits") for word in words])
    return lines
