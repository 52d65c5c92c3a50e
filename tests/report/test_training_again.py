"""Training a network of a study again: the command and the settings that it reads."""

import shlex
import tomllib
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hand_made import hand_made, study_of
from hypothesis import given
from hypothesis import strategies as st
from small_studies import run, settings_in

from nas_relucode.cli.main import main
from nas_relucode.report.training_again import (
    may_be_written,
    settings_file,
    settings_toml,
    study_argument,
    to_toml,
    train_command,
)
from nas_relucode.report.write import write_report
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.settings import DataSettings, load_settings
from nas_relucode.toml_files import builtin_files

pytestmark = pytest.mark.usefixtures("without_figure")

scalars = st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
texts = st.text(st.characters(codec="utf-8"), max_size=8)
leaves = scalars | texts | st.lists(scalars, max_size=3) | st.lists(texts, max_size=3)
tables = st.recursive(st.dictionaries(texts, leaves, max_size=4), lambda inner: st.dictionaries(texts, inner | leaves))


@given(tables)
def test_what_is_written_as_toml_reads_back(table: dict[str, Any]):
    assert tomllib.loads(to_toml(table)) == table


def with_settings(name: str, settings: dict[str, Any]) -> optuna.Study:
    study = study_of([hand_made("8")], name=name)
    study.set_user_attr("settings", settings)
    return study


@pytest.mark.parametrize("name", builtin_files("studies"))
def test_the_settings_of_every_built_in_study_read_back(name: str, tmp_path: Path):
    settings = load_settings(name)
    stored = settings.as_dict()
    stored["data"]["sha256"] = "0" * 64
    study = with_settings(name, stored)
    text = settings_toml(study, tmp_path)
    assert text is not None
    (tmp_path / "own.toml").write_text(text, "utf-8")
    assert load_settings(str(tmp_path / "own.toml")).as_dict() == settings.as_dict()
    assert study_argument(study, tmp_path) == name
    stored["training"]["epochs"] += 1
    assert study_argument(with_settings(name, stored), tmp_path) == str(tmp_path / f"{name}.toml")


def test_a_file_of_data_is_named_from_the_settings_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    stored = settings_in(tmp_path, data=DataSettings(source="mine/data.npz")).as_dict()
    folder = Path("runs/own")
    folder.mkdir(parents=True)
    text = settings_toml(with_settings("own", stored), folder)
    assert text is not None
    (folder / "own.toml").write_text(text, "utf-8")
    source = load_settings(str(folder / "own.toml")).data.source
    assert Path(source).resolve() == tmp_path / "mine" / "data.npz"


@pytest.mark.parametrize("settings", [None, {"data": {"source": "digits"}, "mine": 1}, {"description": "x"}, "text"])
def test_studies_not_made_by_run_study_have_no_command(settings: Any, tmp_path: Path):
    study = with_settings("own", settings)
    assert settings_toml(study, tmp_path) is None
    assert study_argument(study, tmp_path) is None
    assert "nas-relucode train" not in report_text(study, tmp_path)
    assert not (tmp_path / "own.toml").exists()


def report_text(study: optuna.Study, folder: Path) -> str:
    return write_report(study, folder)["report.md"].read_text("utf-8")


def test_a_blank_in_a_name_is_quoted():
    line = train_command("my runs/study.toml", Candidate({"head": "8", "learning_rate": 1e-05}))
    assert shlex.split(line)[2] == "my runs/study.toml"
    assert "learning_rate=1e-05" in line


def test_the_command_in_the_report_trains_what_the_trial_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    study = run(settings_in(tmp_path, ("8",), seeds=(0, 1)), f"sqlite:///{tmp_path}/study.db")
    text = report_text(study, Path("own"))
    lines = [line for line in text.splitlines() if line.startswith("nas-relucode train")]
    assert len(lines) == 2
    for line, trial in zip(lines, study.trials, strict=True):
        arguments = shlex.split(line)[1:]
        assert main([*arguments, "--device", "cpu"]) == 0
        accuracy = trial.user_attrs[ATTRIBUTE]["accuracy"]
        assert f"validation accuracy {accuracy:.4f}" in capsys.readouterr().out
        assert torch.load(arguments[-1], weights_only=True)


def test_a_users_own_file_of_that_name_is_not_overwritten(tmp_path: Path):
    study = with_settings("own", settings_in(tmp_path).as_dict())
    file = settings_file(study, tmp_path)
    assert file == tmp_path / "own.toml"
    assert may_be_written(study, file)
    file.write_text(settings_toml(study, tmp_path) or "", "utf-8")
    assert may_be_written(study, file)
    assert not may_be_written(with_settings("another", settings_in(tmp_path).as_dict()), file)
    file.write_text("# mine\n[data]\n", "utf-8")
    assert not may_be_written(study, file)
    assert "own.toml" not in write_report(study, tmp_path)
    assert file.read_text("utf-8") == "# mine\n[data]\n"
    assert study_argument(study, tmp_path) is None
    assert "nas-relucode train" not in report_text(study, tmp_path)


def test_a_users_own_file_of_the_same_settings_is_what_the_commands_name(tmp_path: Path):
    study = with_settings("own", settings_in(tmp_path).as_dict())
    file = settings_file(study, tmp_path)
    file.write_text("# mine\n" + (settings_toml(study, tmp_path) or "").split("\n", 1)[1], "utf-8")
    assert "own.toml" not in write_report(study, tmp_path)
    assert study_argument(study, tmp_path) == str(file)
