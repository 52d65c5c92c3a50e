"""`list`, `copy` and `check`: the built-in studies and spaces, as files to be edited."""

import json
import re
from pathlib import Path

import pytest
from command_line import STUDY, refused

from nas_relucode.cli.arguments import TOPICS
from nas_relucode.cli.main import main
from nas_relucode.indices.registry import INDICES
from nas_relucode.study.explained import REPLACED, TABLES, keys_of
from nas_relucode.study.search_space import load_search_space
from nas_relucode.study.settings import load_settings
from nas_relucode.toml_files import builtin_files
from nas_relucode.training.names import BACKBONES, SOURCES

pytestmark = pytest.mark.usefixtures("without_figure")


def test_list_shows_every_name_of_all_topics_or_of_one(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert main(["list", "-f", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    checkout = Path(__file__).parents[2]
    for kind in ("studies", "search_spaces"):
        assert set(listed[kind]) == {path.stem for path in (checkout / kind).glob("*.toml")}
    assert set(listed["data"]) >= set(SOURCES)
    assert set(listed["backbones"]) == set(BACKBONES)
    assert set(listed["indices"]) == set(INDICES)
    assert all(listed["indices"].values())
    lines = [line.split()[0] for line in table.splitlines() if line.startswith("  ")]
    assert lines == [name for group in listed.values() for name in group]
    for topic, group in zip(TOPICS, listed, strict=True):
        assert main(["list", topic, "-f", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {group: listed[group]}


@pytest.mark.parametrize("name", builtin_files("studies"))
def test_a_copied_study_is_the_built_in_one_with_its_search_space(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
):
    assert main(["copy", name, "mine.toml"]) == 0
    assert "nas-relucode run mine.toml" in capsys.readouterr().out
    assert load_settings("mine.toml").as_dict() == load_settings(name).as_dict()


@pytest.mark.parametrize("name", ["digits", "figure2a"])
def test_a_copied_study_has_every_key_with_a_comment_and_each_default_may_be_uncommented(here: Path, name: str):
    assert main(["copy", name, "mine.toml"]) == 0
    lines = Path("mine.toml").read_text().splitlines()
    for table, dataclass in TABLES.items():
        for key in [] if dataclass is dict else keys_of(dataclass):
            if (table, key.name) not in REPLACED:
                places = [n for n, line in enumerate(lines) if re.match(rf"#?{key.name} =", line)]
                assert any(re.match(r"# .{10,}", lines[place - 1]) for place in places), key.name
    last = lines.index("#[figure]") if "#[figure]" in lines else None  # a table that cannot be written in one line
    uncommented = [re.sub(r"^#(\w+ = )", r"\1", line) for line in lines[:last]]
    Path("all.toml").write_text("\n".join(uncommented))
    assert load_settings("all.toml").as_dict() == load_settings(name).as_dict()


def test_check_says_what_a_study_would_run_and_trains_nothing(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["check", "own.toml", "-f", "json", "--device", "cpu"]) == 0
    checked = json.loads(capsys.readouterr().out)
    inputs, classes = 64, 2
    assert checked["parameters"] == {
        "head=4-4": (inputs + 1) * 4 + (4 + 1) * 4 + (4 + 1) * classes,
        "head=8": (inputs + 1) * 8 + (8 + 1) * classes,
    }
    assert (checked["networks"], checked["trials"]) == (2, 2)
    assert all(timing["epoch"] > 0 for timing in checked["timings"])
    seconds = [timing["epoch"] * 2 + timing["rest"] for timing in checked["timings"]]  # of 2 epochs
    assert checked["seconds"] == pytest.approx(checked["start"] + 2 * sum(seconds) / len(seconds))
    assert not Path("runs").exists()
    assert main(["check", "own.toml", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in ("2 networks", "2 trials", "head=4-4", "290", "accuracy (maximize)"))
    assert "1 seed each: 2 trials of 2 epochs" in text


def test_a_study_file_may_begin_with_a_mark_of_its_encoding(here: Path):
    expected = load_settings("own.toml").as_dict()
    Path("own.toml").write_text(STUDY, "utf-8-sig")
    assert load_settings("own.toml").as_dict() == expected


def test_a_copied_search_space_is_the_built_in_one_and_is_not_called_a_study(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["copy", "table1", "mine.toml"]) == 0
    assert load_search_space("mine.toml") == load_search_space("table1")
    assert "nas-relucode run" not in capsys.readouterr().out  # which would refuse it


def test_copy_never_overwrites(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "copy", "digits", "own.toml")
    assert "own.toml exists" in message
    assert Path("own.toml").read_text() == STUDY


@pytest.mark.parametrize(("name", "example"), [("mine.txt", "mine.toml"), (".toml", "name.toml")])
def test_copy_refuses_a_file_name_that_could_not_be_read_again(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, example: str
):
    message = refused(capsys, "copy", "digits", name)
    assert name in message
    assert f"e.g. {example}." in message
    assert not Path(name).exists()


def test_copy_of_an_unknown_name_names_the_closest_one_and_how_to_list_them(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    message = refused(capsys, "copy", "digit", "mine.toml")
    for part in ("'digit'", "Did you mean 'digits'?", "nas-relucode list"):
        assert part in message


def test_copy_into_a_folder_that_is_not_there_names_the_folder(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "copy", "digits", "nowhere/mine.toml")
    assert "nowhere" in message
    assert "mine-" not in message  # a temporary file's name, which nobody has given
