"""The command line, from the outside: what it prints where, what it writes, how it exits."""

import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from nas_relucode import INDICES, build_network, load_data, load_search_space, load_settings, rank, score
from nas_relucode.cli import main
from nas_relucode.data import SOURCES
from nas_relucode.networks import BACKBONES

SPACE = 'heads = ["8", "4-4"]\nlearning_rates = [0.1]\n'
STUDY = """\
description = "tiny"

[data]
source = "digits"
classes = [0, 1]
train_samples = 100
validation = 0.3

[network]
backbone = "none"

[training]
epochs = 2
batch_size = 35

[search]
space = "space.toml"
"""
FILES = {"report.html", "report.md", "pareto.png", "pareto.json", "trials.csv"}
NETWORK = """\
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear({pixels}, 6), nn.ReLU(), nn.Linear(6, {classes}))
"""


@pytest.fixture(autouse=True, scope="module")
def machine() -> Iterator[None]:
    """One thread, as tiny networks on several wait for each other; Optuna's log and our storage as on a new machine."""
    verbosity, threads = optuna.logging.get_verbosity(), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPTUNA_STORAGE", raising=False)
        yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small study of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "own.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study has been run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "space.toml").write_text(SPACE)
    (folder / "own.toml").write_text(STUDY)
    with chdir(folder):
        assert main(["run", "own.toml", "-q", "--device", "cpu"]) == 0
    return folder


numbers = itertools.count()


@pytest.fixture
def module(here: Path) -> Callable[[str], str]:
    """Writes a module into the current folder and returns its name, which no other test has used."""

    def write(text: str) -> str:
        name = f"my_networks_{next(numbers)}"
        (here / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture
def images(here: Path) -> str:
    """An .npz file: 30 training and 12 test images of 5 x 4 pixels, 3 classes."""
    rng = np.random.default_rng(0)
    write_images("images.npz", rng.integers(0, 256, (30, 5, 4)), rng.integers(0, 256, (12, 5, 4)))
    return "images.npz"


def write_images(path: str, train: np.ndarray, test: np.ndarray, classes: int = 3) -> None:
    np.savez(
        path,
        x_train=train.astype(np.uint8),
        y_train=np.arange(len(train)) % classes,
        x_test=test.astype(np.uint8),
        y_test=np.arange(len(test)) % classes,
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """What is said on stderr when a command can't be carried out; nothing stands on stdout, no traceback anywhere."""
    try:
        found = main(list(arguments))
    except SystemExit as error:  # argparse's own
        found = error.code
    captured = capsys.readouterr()
    assert found == code, captured.err
    assert captured.out == ""
    assert "error: " in captured.err
    assert "Traceback" not in captured.err
    return captured.err


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables in a text, a dictionary a row."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        headings, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.strip().split("\n")]
        found.append([dict(zip(headings, row, strict=True)) for row in rows])
    return found


# run, report


def test_run_prints_tables_and_writes_a_report(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "own.toml", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    front, equal = tables(captured.out)
    study = optuna.load_study(study_name="own", storage="sqlite:///runs/own/study.db")
    ranking = rank(study)
    assert [row["network"] for row in front] == [f"{head} @ 0.1" for head in ranking.front["head"]]
    assert [row["network"] for row in equal] == [f"{head} @ 0.1" for head in ranking.equal["head"]]
    assert [row["accuracy"] for row in front] == [f"{accuracy:.4f}" for accuracy in ranking.front["accuracy"]]
    assert f"at least {ranking.threshold:.4f}" in captured.out
    assert "Report: runs/own/report.html" in captured.out
    assert {path.name for path in Path("runs/own").iterdir()} - FILES <= {"study.db", "study.lock"}
    assert {path.name for path in Path("runs/own").iterdir()} >= FILES
    assert "0 of 2 trials are done" in captured.err
    assert len(re.findall(r"^trial \d: head ", captured.err, re.MULTILINE)) == 2


def test_run_again_trains_nothing_and_prints_the_same(finished: Path, capsys: pytest.CaptureFixture[str]):
    with chdir(finished):
        assert main(["report", "own"]) == 0
        report = capsys.readouterr()
        assert main(["run", "own.toml", "--device", "cpu"]) == 0
    again = capsys.readouterr()
    assert again.out == report.out
    assert "2 of 2 trials are done" in again.err
    assert "trial 0" not in again.err


def test_verbose_prints_a_line_an_epoch(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "own.toml", "-v", "--device", "cpu"]) == 0
    told = re.findall(r"^trial (\d), epoch (\d): accuracy [\d.]+, \d+ cells$", capsys.readouterr().err, re.MULTILINE)
    assert told == [(trial, epoch) for trial in "01" for epoch in "012"]


def test_run_takes_a_storage_a_name_and_a_folder_and_quiet_prints_results_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    where = ["--storage", "sqlite:///mine.db", "--study-name", "second", "--output", "somewhere/else"]
    assert main(["run", "own.toml", "-q", "--device", "cpu", *where]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert len(tables(captured.out)) == 2
    assert "Report: somewhere/else/report.html" in captured.out
    assert {path.name for path in Path("somewhere/else").iterdir()} == FILES
    assert optuna.get_all_study_names("sqlite:///mine.db") == ["second"]
    assert not Path("runs").exists()


def test_the_storage_may_stand_in_the_environment(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{finished}/runs/own/study.db")
    assert "unknown study 'nosuch'. Known: own." in refused(capsys, "report", "nosuch")


def test_report_writes_what_run_wrote(finished: Path, tmp_path: Path):
    with chdir(finished):
        assert main(["report", "own.toml", "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    again, before = ((folder / "trials.csv").read_text("utf-8") for folder in (tmp_path, finished / "runs" / "own"))
    assert again == before


@pytest.mark.parametrize("study", ["digits", "own.toml", "other"])
def test_study_name_says_which_study_whatever_is_given_beside_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], study: str
):
    storage = f"sqlite:///{finished}/runs/own/study.db"
    assert main(["report", study, "--storage", storage, "--study-name", "own", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("Pareto front of own:")


def test_report_of_an_unknown_study_names_the_known_ones(finished: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "report", "nosuch", "--storage", f"sqlite:///{finished}/runs/own/study.db")
    assert "unknown study 'nosuch'. Known: own." in message


def test_report_of_a_study_that_was_never_run_says_how_to_run_it(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "report", "digits")
    assert "runs/digits" in message
    assert "nas-relucode run digits" in message
    assert not Path("runs").exists()


def test_report_makes_no_storage(here: Path, capsys: pytest.CaptureFixture[str]):
    assert "typo.db" in refused(capsys, "report", "own", "--storage", "sqlite:///folder/typo.db")
    assert not Path("folder").exists()


def test_report_of_a_study_of_others_says_what_is_missing(here: Path, capsys: pytest.CaptureFixture[str]):
    optuna.create_study(storage="sqlite:///foreign.db", study_name="foreign", directions=["maximize", "minimize"])
    assert "relucode" in refused(capsys, "report", "foreign", "--storage", "sqlite:///foreign.db")


def test_run_with_other_settings_names_the_key_and_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.read_bytes() for path in (finished / "runs" / "own").iterdir()}
    (finished / "changed").mkdir(exist_ok=True)
    changed = STUDY.replace("epochs = 2", "epochs = 3").replace("space.toml", str(finished / "space.toml"))
    (finished / "changed" / "own.toml").write_text(changed)
    with chdir(finished):
        message = refused(capsys, "run", "changed/own.toml", "--device", "cpu")
    assert "training.epochs was 2 and is 3" in message
    assert {path: path.read_bytes() for path in (finished / "runs" / "own").iterdir()} == before


def test_where_every_candidate_is_pruned_run_says_why_and_exits_with_1(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("space.toml").write_text('heads = ["8"]\nlearning_rates = [1e36]\n')
    assert main(["run", "own.toml", "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "trial 0 (8 @ 1e+36, seed 0) was pruned: " in captured.err
    assert "finite" in captured.err
    assert "nothing to report" in captured.err
    assert "Traceback" not in captured.err


def test_an_interrupt_exits_with_1_and_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "optimize", interrupt)
        assert "same command" in refused(capsys, "run", "own.toml", "-q", "--device", "cpu", code=1)
    assert main(["run", "own.toml", "-q", "--device", "cpu"]) == 0


def test_optuna_can_read_what_run_wrote(finished: Path):
    study = optuna.load_study(study_name="own", storage=f"sqlite:///{finished}/runs/own/study.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert study.metric_names == ["accuracy", "cell_count"]
    assert study.best_trials


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (("epochs = 2", "epochs = = 2"), ["own.toml", "line 13"]),
        (("epochs = 2", "epoch = 2"), ["own.toml", "training", "unknown key 'epoch'", "epochs, batch_size"]),
        (("[training]", "[trainings]"), ["own.toml", "unknown key 'trainings'", "training"]),
        (("epochs = 2", 'epochs = "2"'), ["own.toml", "epochs", "'2'", "whole number"]),
        (("epochs = 2", "epochs = -1"), ["own.toml", "epochs -1"]),
        (('source = "digits"', 'source = "digit"'), ["unknown data 'digit'", "digits, mnist, cifar10"]),
        (('source = "digits"', ""), ["own.toml", "'source' is missing"]),
        (("classes = [0, 1]", "classes = [0, 10]"), ["class", "10", "0, 1, 2"]),
        (("classes = [0, 1]", 'classes = ["zero", "one"]'), ["unknown class 'zero'", "0, 1, 2"]),
        (("train_samples = 100", "train_samples = 0"), ["train_samples", "0"]),
        (("train_samples = 100", "train_samples = 100000"), ["train_samples", "100000"]),
        (("validation = 0.3", "validation = 0"), ["validation split is empty"]),
        (("validation = 0.3", "validation = 1.5"), ["validation 1.5"]),
        (('backbone = "none"', 'backbone = "vgg"'), ["unknown backbone 'vgg'", "none, small_conv, vgg16"]),
        (('backbone = "none"', 'backbone = "vgg16"'), ["8x8", "image_size"]),
        (('backbone = "none"', "width = 0"), ["width 0"]),
        (('space = "space.toml"', 'space = "table2"'), ["unknown search space 'table2'", "table1"]),
        (('space = "space.toml"', 'space = "nosuch.toml"'), ["nosuch.toml", "cannot be read"]),
        (('space = "space.toml"', 'space = "space.toml"\ntrials = 0'), ["trials 0"]),
        (('space = "space.toml"', 'space = "space.toml"\nseeds = [0, 0]'), ["seeds [0, 0]"]),
        (('space = "space.toml"', 'space = "space.toml"\n[objectives]\ncells = "minimize"'), ["'cells'", "cell_count"]),
        (('space = "space.toml"', 'space = "space.toml"\n[objectives]\naccuracy = "max"'), ["'max'", "maximize"]),
        (
            ('space = "space.toml"', 'space = "space.toml"\n[objectives]\n"head.9:cell_count" = "minimize"'),
            ["layer 'head.9'", "head.1"],
        ),
        (('space = "space.toml"', 'space = "space.toml"\n[codes]\nlayers = ["tail"]'), ["tail", "head.1"]),
        (('space = "space.toml"', 'space = "space.toml"\n[codes]\ngraph_theta = -1'), ["theta", "-1"]),
        (('space = "space.toml"', 'space = "space.toml"\n[codes]\ndistance_theta = -1'), ["theta", "-1"]),
    ],
)
def test_a_study_that_cannot_be_used_is_refused_before_anything_is_made(
    here: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], messages: list[str]
):
    assert change[0] in STUDY
    Path("own.toml").write_text(STUDY.replace(*change))
    error = refused(capsys, "run", "own.toml", "-q", "--device", "cpu")
    assert [message for message in messages if message not in error] == [], error
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("space", "messages"),
    [
        ('heads = ["256-x"]\nlearning_rates = [0.1]', ["head '256-x'", "256-128-128"]),
        ('heads = ["0"]\nlearning_rates = [0.1]', ["head '0'"]),
        ("heads = []\nlearning_rates = [0.1]", ["heads []"]),
        ('heads = ["8", "8"]\nlearning_rates = [0.1]', ["heads ['8', '8']"]),
        ('heads = ["8"]\nlearning_rates = [0]', ["learning rate 0"]),
        ('heads = ["8"]\nlearning_rates = [-0.1]', ["learning rate -0.1"]),
        ('heads = ["8"]\nlearning_rates = [inf]', ["learning rate inf"]),
        ('heads = ["8"]\nlearning_rates = {low = 0.1, high = 0.01}', ["0.1 .. 0.01"]),
        ('heads = ["8"]\nlearning_rates = {low = 0.01, high = 0.1}', ["interval", "trials"]),
        ('heads = "8"\nlearning_rates = [0.1]', ["heads", "'8'", "list"]),
        ('heads = ["8"]\nlearning_rate = [0.1]', ["unknown key 'learning_rate'", "learning_rates"]),
        ('heads = ["8"]', ["'learning_rates' is missing"]),
        ('heads = ["8"]\nlearning_rates = [0.1', ["space.toml", "not valid TOML"]),
    ],
)
def test_a_search_space_that_cannot_be_used_is_refused_before_anything_is_made(
    here: Path, capsys: pytest.CaptureFixture[str], space: str, messages: list[str]
):
    Path("space.toml").write_text(space)
    error = refused(capsys, "run", "own.toml", "-q", "--device", "cpu")
    assert [message for message in messages if message not in error] == [], error
    assert not Path("runs").exists()


def test_a_search_space_is_looked_for_beside_the_study_that_names_it(finished: Path, tmp_path: Path):
    beside = load_settings(str(finished / "own.toml"))
    (tmp_path / "inline.toml").write_text(STUDY.replace('space = "space.toml"', f"[search.space]\n{SPACE}"))
    assert beside.search_space == load_settings(str(tmp_path / "inline.toml")).search_space
    assert beside.search_space == load_search_space(str(finished / "space.toml"))


def test_an_unknown_study_is_refused_with_the_known_ones(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "run", "digit")
    assert "unknown study 'digit'. Known: cifar10_vgg16, digits" in message
    assert ".toml" in message


@pytest.mark.parametrize("name", ["nosuch.toml", "folder.toml", "latin.toml"])
def test_a_study_file_that_cannot_be_read_is_refused(here: Path, capsys: pytest.CaptureFixture[str], name: str):
    Path("folder.toml").mkdir()
    Path("latin.toml").write_bytes('description = "caf\xe9"'.encode("latin-1"))
    assert f"{name} cannot be read" in refused(capsys, "run", name)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_an_unknown_device_is_refused(here: Path, capsys: pytest.CaptureFixture[str], device: str):
    assert f"device '{device}'" in refused(capsys, "run", "own.toml", "--device", device)


def test_an_output_folder_that_is_a_file_is_refused_and_the_results_are_kept(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "taken").write_text("mine")
    with chdir(finished):
        message = refused(capsys, "report", "own", "--output", str(tmp_path / "taken"))
        assert "taken" in message
        assert (tmp_path / "taken").read_text() == "mine"
        assert "taken" in refused(capsys, "report", "own", "--output", str(tmp_path / "taken" / "below"))
        assert main(["report", "own", "--output", str(tmp_path / "free")]) == 0


def test_an_output_folder_that_is_a_file_is_refused_before_the_training(here: Path, capsys: pytest.CaptureFixture[str]):
    Path("taken").write_text("mine")
    assert "taken" in refused(capsys, "run", "own.toml", "-q", "--device", "cpu", "--output", "taken")
    assert not Path("runs/own/study.db").exists()


@pytest.mark.parametrize("storage", ["study.db", "sqlite:///taken/below/study.db", "nosuch://u:hunter2@host/db"])
def test_a_storage_that_cannot_be_used_is_refused(here: Path, capsys: pytest.CaptureFixture[str], storage: str):
    Path("taken").write_text("mine")
    message = refused(capsys, "run", "own.toml", "-q", "--device", "cpu", "--storage", storage)
    assert "storage" in message or "taken" in message
    assert "hunter2" not in message


# list, copy


def test_list_names_everything(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    table = capsys.readouterr().out
    assert main(["list", "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    checkout = Path(__file__).parents[1]
    for kind in ("studies", "search_spaces"):
        assert set(found[kind]) == {path.stem for path in (checkout / kind).glob("*.toml")}
    assert set(found["data"]) >= set(SOURCES)
    assert set(found["backbones"]) == set(BACKBONES)
    assert set(found["indices"]) == set(INDICES)
    assert all(found["indices"].values())
    lines = [line.split()[0] for line in table.splitlines() if line.startswith("  ")]
    assert lines == [name for group in found.values() for name in group]


@pytest.mark.parametrize("name", ["digits", "cifar10_vgg16"])
def test_a_copied_study_is_the_built_in_one(here: Path, capsys: pytest.CaptureFixture[str], name: str):
    assert main(["copy", name, "mine.toml"]) == 0
    assert "nas-relucode run mine.toml" in capsys.readouterr().out
    assert load_settings("mine.toml") == load_settings(name)


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


def test_copy_refuses_what_could_not_be_read_again(here: Path, capsys: pytest.CaptureFixture[str]):
    assert ".toml" in refused(capsys, "copy", "digits", "mine.txt")
    assert not Path("mine.txt").exists()


def test_copy_of_an_unknown_name_lists_the_known_ones(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "copy", "digit", "mine.toml")
    assert "'digit'" in message
    assert "digits" in message
    assert "table1" in message


def test_copy_into_a_folder_that_is_not_there_names_the_folder(here: Path, capsys: pytest.CaptureFixture[str]):
    message = refused(capsys, "copy", "digits", "nowhere/mine.toml")
    assert "nowhere" in message
    assert "mine-" not in message  # a temporary file's name, which nobody has given


# score


def test_score_is_that_of_the_library(images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]):
    model = module(NETWORK.format(pixels=20, classes=3))
    assert main(["score", "--model", f"{model}:make", "--data", images, "-f", "json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert set(found) == {"accuracy", "split", "samples", "joint", "layers", "saturated"}
    expected = score(sys.modules[model].make(), load_data(images))
    assert found == expected.as_dict()
    assert (found["split"], found["samples"]) == ("train", 30)
    assert set(found["joint"]) == set(INDICES)
    assert set(found["layers"]) == {"2"}


def test_score_prints_a_table_by_itself(images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]):
    model = module(NETWORK.format(pixels=20, classes=3))
    assert main(["score", "--model", f"{model}:make", "--data", images, "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    ((*rows,),) = tables(captured.out)
    assert [row["index"] for row in rows] == list(INDICES)
    assert set(rows[0]) == {"index", "joint", "2"}
    expected = score(sys.modules[model].make(), load_data(images))
    assert f"accuracy {expected.accuracy:.4f} on 30 samples (train)" in captured.out
    by_name = {row["index"]: row for row in rows}
    assert float(by_name["cell_count"]["joint"].rstrip("*")) == expected.joint["cell_count"]
    starred = {row["index"] for row in rows if row["joint"].endswith("*")}
    assert starred == set(expected.saturated["joint"])
    assert captured.err == ""


def test_the_table_of_one_index_and_a_layer_with_a_short_name_is_a_table(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module("import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())")
    arguments = ["--data", images, "--indices", "component_count", "--graph-theta", "20", "--device", "cpu"]
    assert main(["score", "--model", f"{model}:make", *arguments]) == 0
    rule = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| :-")]
    assert len(rule) == 1
    assert all(re.fullmatch(r":?-+:?", cell.strip()) for cell in rule[0].strip("|").split("|"))


@pytest.mark.parametrize(("split", "samples"), [("train", 30), ("test", 12), ("all", 42)])
def test_score_takes_the_files_own_splits_whole(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], split: str, samples: int
):
    model = module(NETWORK.format(pixels=20, classes=3))
    arguments = ["--model", f"{model}:make", "--data", images, "--split", split, "-f", "json", "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["samples"]) == (split, samples)


def test_score_takes_layers_and_indices(here: Path, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]):
    model = module(
        "from nas_relucode import build_network\n"
        "def make():\n    return build_network('6-5-4', (1, 8, 8), 10, backbone='small_conv')\n"
    )
    chosen = ["--layers", "backbone", "head.3", "--indices", "edge_count", "cell_count", "--split", "test"]
    arguments = ["--model", f"{model}:make", "--data", "digits", *chosen, "-f", "json", "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["layers"]) == ["backbone.1", "backbone.3", "head.3"]
    assert all(list(values) == ["edge_count", "cell_count"] for values in (found["joint"], *found["layers"].values()))


def test_score_takes_the_weights_of_a_file(
    here: Path, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module(
        "from nas_relucode import build_network\n"
        "def make():\n    return build_network('6', (1, 8, 8), 10, backbone='none')\n"
    )
    trained = build_network("6", (1, 8, 8), 10, backbone="none", seed=5)
    torch.save(trained.state_dict(), "weights.pt")
    arguments = ["--model", f"{model}:make", "--data", "digits", "-f", "json", "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    without = json.loads(capsys.readouterr().out)
    assert main(["score", *arguments, "--weights", "weights.pt"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == score(trained, load_data("digits")).as_dict() != without


def test_score_of_a_network_that_is_no_classifier_has_no_accuracy(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module("import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU(),"
                   " torch.nn.Unflatten(1, (5, 4)))")  # fmt: skip
    assert main(["score", "--model", f"{model}:make", "--data", images, "--device", "cpu"]) == 0
    assert "accuracy none on 30 samples" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "all"])
def test_score_runs_torchvisions_networks_on_real_images(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split: str
):
    monkeypatch.chdir(tmp_path)
    with np.load(data_root / "cifar10_subset.npz") as file:
        few = {key: file[key][:200] for key in ("x_train", "y_train", "x_test", "y_test")}
    np.savez("few.npz", **few, classes=np.arange(10).astype(str))
    arguments = ["--model", "torchvision.models:resnet18", "--data", "few.npz", "--layers", "layer4"]
    assert main(["score", *arguments, "--split", split, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == {"test": 200, "all": 400}[split]
    assert list(found["layers"]) == [
        "layer4.0.relu", "layer4.0.relu#2", "layer4.1.relu", "layer4.1.relu#2"
    ]  # fmt: skip


def test_what_a_module_prints_does_not_spoil_the_json(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    chatty = NETWORK.replace("def make():", "print('loading')\n\ndef make():\n    print('making')")
    model = module(chatty.format(pixels=20, classes=3))
    assert main(["score", "--model", f"{model}:make", "--data", images, "-f", "json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 30


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--indices", "cells"], ["unknown index 'cells'", "cell_count"]),
        (["--layers", "head"], ["head", "all, 2"]),
        (["--split", "valid"], ["unknown split 'valid'", "train"]),
        (["--split", "validation"], ["--split", "train, test or all"]),
        (["--data", "digit"], ["unknown data 'digit'", "digits, mnist, cifar10"]),
        (["--data", "nosuch.npz"], ["nosuch.npz does not exist"]),
        (["--classes", "0", "cat"], ["unknown class 'cat'", "0, 1, 2"]),
        (["--classes", "0"], ["classes", "two or more"]),
        (["--image-size", "0"], ["image_size 0"]),
        (["--image-size", "7"], ["7 x 7", "--image-size"]),
        (["--batch-size", "0"], ["batch size 0"]),
        (["--graph-theta", "-1"], ["theta", "-1"]),
        (["--distance-theta", "-1"], ["theta", "-1"]),
        (["--device", "abacus"], ["device 'abacus'"]),
        (["--model", "torchvision.models"], ["torchvision.models", "package.module:factory"]),
        (["--model", "nosuchmodule:make"], ["nosuchmodule:make", "No module named"]),
        (["--model", "torchvision.models:nosuch"], ["torchvision.models:nosuch", "nosuch"]),
        (["--model", "os:getcwd"], ["os:getcwd", "torch.nn.Module"]),
        (["--model", "sys:platform"], ["sys:platform", "not callable"]),
        (["--model", "torch.nn:Identity"], ["no ReLU", "Identity"]),
        (["--weights", "nosuch.pt"], ["nosuch.pt"]),
        (["--weights", "images.npz"], ["images.npz", "torch.save"]),
        (["--weights", "empty.pt"], ["empty.pt", "torch.save"]),
        (["--weights", "other.pt"], ["other.pt", "torch.save"]),
        (["--weights", "tensor.pt"], ["tensor.pt", "torch.save"]),
        (["--format", "yaml"], ["yaml", "table"]),
        (["--image-size", "big"], ["big", "--image-size"]),
    ],
)
def test_what_cannot_be_scored_is_refused(
    images: str,
    module: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    messages: list[str],
):
    torch.save(torch.nn.Linear(2, 2).state_dict(), "other.pt")
    torch.save(torch.zeros(3), "tensor.pt")
    Path("empty.pt").touch()
    model = module(NETWORK.format(pixels=20, classes=3))
    error = refused(capsys, "score", "--model", f"{model}:make", "--data", images, "--device", "cpu", *arguments)
    assert [message for message in messages if message not in error] == [], error


def test_labels_that_the_network_has_no_output_for_are_refused(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module(NETWORK.format(pixels=20, classes=2))
    message = refused(capsys, "score", "--model", f"{model}:make", "--data", images, "--device", "cpu")
    assert "the largest is 2, but the network has 2 outputs" in message


@pytest.mark.parametrize(
    "raised",
    ["RuntimeError('needs 32 x 32')", "RuntimeError()", "ValueError('needs 32 x 32')", "AssertionError('needs 32')"],
)
def test_a_network_that_does_not_take_the_images_is_named_with_their_shape(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], raised: str
):
    model = module(
        f"from torch import nn\nclass Picky(nn.Module):\n    def forward(self, x):\n        raise {raised}\n"
    )
    message = refused(capsys, "score", "--model", f"{model}:Picky", "--data", images, "--device", "cpu")
    assert f"{model}:Picky" in message
    assert "1 x 5 x 4" in message


@pytest.mark.parametrize("text", ["1 / 0", "import nosuchmodule", "def make(:", "raise RuntimeError", "exit(3)"])
def test_a_module_that_cannot_be_imported_is_named(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], text: str
):
    model = module(text)
    assert model in refused(capsys, "score", "--model", f"{model}:make", "--data", images, "--device", "cpu")
    assert str(Path.cwd()) not in sys.path


def test_weights_that_would_run_code_are_refused_and_run_nothing(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("it-ran",)

    model = module(NETWORK.format(pixels=20, classes=3))
    torch.save({"0.weight": Trap()}, "saved.pt")
    Path("pickled.pt").write_bytes(pickle.dumps(Trap()))
    for file in ("saved.pt", "pickled.pt"):
        arguments = ["--model", f"{model}:make", "--data", images, "--weights", file, "--device", "cpu"]
        assert file in refused(capsys, "score", *arguments)
        assert not Path("it-ran").exists()
    with Path("pickled.pt").open("rb") as opened:  # the trap works
        pickle.load(opened)
    assert Path("it-ran").is_dir()


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"x_train": np.array([{}, 1] * 3, dtype=object)}, ["cannot be read", "no objects"]),
        ({"y_test": None}, ["has no y_test", "x_train, y_train, x_test, y_test"]),
        ({"y_train": np.zeros(6)}, ["y_train", "float64", "integers"]),
        ({"y_train": np.array([0, 1, 2, 0, 1])}, ["6 images but 5 labels"]),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, ["y_train", "-1"]),
        ({"y_test": np.array([0, 1, 2, 0, 1, 3])}, ["y_test", "0..3"]),
        ({"x_train": np.zeros((6, 5, 4))}, ["x_train", "float64", "uint8"]),
        ({"x_train": np.zeros((6, 5, 4, 2), np.uint8)}, ["x_train", "(6, 5, 4, 2)", "1 or 3 channels"]),
        ({"x_test": np.zeros((6, 3, 3), np.uint8)}, ["different shapes"]),
    ],
)
def test_an_npz_file_that_holds_something_else_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], messages: list[str]
):
    images, labels = np.zeros((6, 5, 4), np.uint8), np.array([0, 1, 2] * 2)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels} | change
    np.savez("wrong.npz", **{key: array for key, array in arrays.items() if array is not None}, allow_pickle=True)
    error = refused(capsys, "score", "--model", "torch.nn:ReLU", "--data", "wrong.npz", "--device", "cpu")
    assert [message for message in ["wrong.npz", *messages] if message not in error] == [], error


# the process itself


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "OPTUNA_STORAGE"} | {
        "OMP_NUM_THREADS": "1"
    }
    command = [sys.executable, "-m", "nas_relucode", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_module_is_the_command_line_and_its_json_stands_alone_on_stdout(images: str, here: Path):
    (here / "mine.py").write_text(NETWORK.format(pixels=20, classes=3))
    result = start(here, "score", "--model", "mine:make", "--data", images, "-f", "json", "--device", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["samples"] == 30


def test_the_exit_code_of_the_process_is_2_and_no_traceback_is_shown(here: Path):
    result = start(here, "run", "nosuch")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("nas-relucode: error: unknown study 'nosuch'. Known: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_debug_shows_the_traceback_in_the_process(here: Path):
    result = start(here, "run", "nosuch", "--debug")
    assert result.returncode != 0
    assert "Traceback (most recent call last)" in result.stderr
    assert "unknown study 'nosuch'" in result.stderr


def test_debug_raises_what_would_have_been_a_message(here: Path):
    with pytest.raises(ValueError, match="unknown study 'nosuch'"):
        main(["run", "nosuch", "--debug"])


def test_an_error_nobody_thought_of_exits_with_1_and_names_debug(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("division by zero")

    model = module(NETWORK.format(pixels=20, classes=3))
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", broken)
        message = refused(capsys, "score", "--model", f"{model}:make", "--data", images, "-f", "json", code=1)
    assert "ZeroDivisionError: division by zero" in message
    assert "--debug" in message


@pytest.mark.parametrize(
    "arguments", [[], ["walk"], ["run"], ["score"], ["copy", "digits"], ["run", "digits", "--wrong"]]
)
def test_arguments_that_cannot_be_read_exit_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    assert "usage: nas-relucode" in refused(capsys, *arguments)


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]):
    for command in ([], ["run"], ["report"], ["score"], ["list"], ["copy"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
        assert "usage: nas-relucode" in capsys.readouterr().out


@pytest.mark.slow
def test_warnings_do_not_reach_the_terminal_of_a_user(here: Path):
    """Also those of libraries below ours, such as Optuna's about what it calls experimental."""
    result = start(here, "run", "own.toml", "-q", "--device", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(tables(result.stdout)) == 2
