"""README.md and the documentation are true: their Python and shell runs, their commands and links exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nas_relucode.cli.arguments import read
from nas_relucode.toml_files import builtin_files

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = ("reference/command-line", "reference/settings", "reference/indices", "reference/qualities")
GENERATED += ("reference/licences", "reference/python/", "tutorials/notebook.")  # by docs/_generate
QUICK = ("README.md", "docs/how-to/own-index.md", "docs/how-to/own-quality.md")  # the others run in `make check`
FRAMEWORKS = ("lightning", "ray", "ax", "syne-tune", "optunahub")  # tests/test_integrations.py runs them
GIVEN = {"docs/equality.md"}  # pages whose Python is a part of something


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def named(page):
    return page.relative_to(ROOT).as_posix()


def with_blocks(language):
    """The pages with blocks of a language, those that take long marked as slow."""
    pages = [
        page for page in PAGES if blocks(page, language) and page.stem not in FRAMEWORKS and named(page) not in GIVEN
    ]
    marks = {page: [] if named(page) in QUICK else [pytest.mark.slow] for page in pages}
    return [pytest.param(page, id=named(page), marks=marks[page]) for page in pages]


def in_shell(script, folder):
    """The script's output, run where nas-relucode and its Python come first."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PATH": places, "PYTHONPATH": python}
    command = ["bash", "-euo", "pipefail", "-c", script.replace("PYTHONPATH=$PWD", "PYTHONPATH=$PWD:$PYTHONPATH")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


@pytest.mark.parametrize("page", with_blocks("python"))
def test_the_python_of_a_page_runs_as_it_stands(
    page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from nas_relucode.indices.registry import INDICES
    from nas_relucode.qualities.registry import QUALITIES

    monkeypatch.chdir(tmp_path)
    with pytest.MonkeyPatch.context() as patch:  # what a page registers is forgotten
        for registry in (INDICES, QUALITIES):
            for name in ("share_of_large_cells", "largest_weight"):
                patch.setitem(registry, name, None)
                patch.delitem(registry, name)
        for code in blocks(page, "python"):  # each without the names of the others
            exec(compile(code, str(page), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", with_blocks("bash"))
def test_the_shell_of_a_page_runs_as_it_stands(page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for code in blocks(page, "python"):  # whose files the shell goes on with
        exec(compile(code, str(page), "exec"), {"__name__": "__main__"})
    for script in blocks(page, "bash"):
        in_shell(script, tmp_path)


@pytest.mark.slow
def test_the_first_study_goes_as_its_page_says(tmp_path: Path):
    (script,) = [
        "\n".join(line.removeprefix("$ ") for block in blocks(page, "console") for line in block.splitlines())
        for page in PAGES
        if named(page) == "docs/tutorials/first-study.md"
    ]
    printed = in_shell(script.replace("nas-relucode", f"{sys.executable} -m nas_relucode"), tmp_path)
    assert "Choose head=" in printed
    assert "All trials" in printed
    assert (tmp_path / "runs" / "digits" / "report.html").stat().st_size > 100_000
    assert (tmp_path / "chosen.pt").is_file()


def test_every_command_is_understood():
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("$ nas-relucode")]
    assert len(commands) >= 10
    for line in commands:
        read(shlex.split(line.removeprefix("$ nas-relucode"), comments=True))  # exits where it is misspelled


def test_every_study_that_a_page_names_exists():
    names = {
        name for page in PAGES for name in re.findall(r"nas-relucode (?:run|copy|report) (\w+)(?= )", page.read_text())
    }
    assert {"digits"} <= names <= builtin_files("studies").keys()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    """Of the site, tests/test_site.py follows all."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if file.is_relative_to(ROOT / "docs") and named(file).removeprefix("docs/").startswith(GENERATED):
            continue
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


def test_every_picture_is_written_by_a_program_and_shown_on_a_page():
    programs = "".join(
        path.read_text("utf-8") for name in ("docs/_generate", "benchmarks") for path in (ROOT / name).glob("*.py")
    )
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    for picture in (ROOT / "docs" / "img").glob("*.png"):
        assert re.search(rf'"{picture.stem}(\.png)?"', programs), picture.name
        assert f"/{picture.name})" in pages, picture.name


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size < 7_000
