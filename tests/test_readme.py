"""README.md and the pages that it leads to are true: their Python runs, their commands and links exist."""

import re
import shlex
from pathlib import Path

import pytest

from nas_relucode.cli.main import main
from nas_relucode.toml_files import builtin_files

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_python_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    own, first = blocks("README.md", "python")
    study, *others = blocks("docs/python.md", "python")
    monkeypatch.chdir(tmp_path)
    for code in (first, own, *others, study):  # each without the names of the others
        capsys.readouterr()
        exec(compile(code, "block of Python", "exec"), {"__name__": "__main__"})
    accuracy, cells, edges = capsys.readouterr().out.splitlines()[0].split()
    assert 0 <= float(accuracy) <= 1 <= float(cells)
    assert float(edges) >= 0
    assert (tmp_path / "space.npz").is_file()
    assert (tmp_path / "slice.png").is_file()
    assert (tmp_path / "runs" / "mine" / "report.html").stat().st_size > 100_000


def test_every_command_is_understood(capsys):
    lines = [
        line
        for page in ("README.md", "docs/command-line.md")
        for block in blocks(page, "console")
        for line in block.splitlines()
        if "nas-relucode" in line and line.startswith("$ nas-relucode")
    ]
    assert len(lines) >= 10
    for line in lines:
        words = shlex.split(line.removeprefix("$ nas-relucode"), comments=True)
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0, line


def test_every_study_that_a_page_names_exists():
    named = {
        name for page in PAGES for name in re.findall(r"nas-relucode (?:run|copy|report) (\w+)(?= )", page.read_text())
    }
    assert {"digits", "mnist_small"} <= named <= builtin_files("studies").keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), flags=re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target
