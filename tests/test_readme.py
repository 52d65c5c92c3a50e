"""The README is true: its Python runs as it stands, and its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from nas_relucode.cli.main import main
from nas_relucode.toml_files import builtin_files

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    study, codes, polyhedra, training = blocks("python")
    monkeypatch.chdir(tmp_path)
    for code in (training, polyhedra, codes, study):  # each without the names of the others
        capsys.readouterr()
        exec(compile(code, README, "exec"), {"__name__": "__main__"})
    accuracy, cells, edges = capsys.readouterr().out.splitlines()[0].split()
    assert 0 <= float(accuracy) <= 1 <= float(cells)
    assert float(edges) >= 0
    assert (tmp_path / "space.npz").is_file()
    assert (tmp_path / "slice.png").is_file()
    assert (tmp_path / "runs" / "mine" / "report.html").stat().st_size > 1_000_000


def test_every_command_of_the_readme_is_understood(capsys):
    lines = [line for block in blocks("console") for line in block.splitlines() if "nas-relucode" in line]
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.removeprefix("$ nas-relucode"), comments=True)
        with pytest.raises(SystemExit) as stop:
            main([*words, "--help"])
        assert stop.value.code == 0, line


def test_every_study_of_the_readme_exists():
    named = re.findall(r"nas-relucode (?:run|copy|report) (\w+)(?= )", README.read_text("utf-8"))
    assert set(named) <= builtin_files("studies").keys()
