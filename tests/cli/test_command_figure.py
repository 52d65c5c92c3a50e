"""nas-relucode figure: the paper's figures by number, small ones of one's own, and what is refused."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from command_line import refused

from nas_relucode.cli.figure import figure_studies
from nas_relucode.cli.main import main
from nas_relucode.study.settings import load_settings
from nas_relucode.toml_files import builtin_files

STUDY = """\
[data]
source = "digits"
classes = [4, 9]
train_samples = 150
validation = 0.2

[network]
decoder = "16"

[training]
epochs = 1
batch_size = 32
loss = "mse"

[search.space]
heads = ["12-6"]
learning_rates = [0.5]

[codes]
kept_epochs = [0, 1]

[objectives]
validation_loss = "minimize"

[figure]
expect = "falls"
"""
FIGURES = {"1": 1, "2": 2, "3": 1, "4": 2, "5": 1, "6": 1}  # number -> studies that it is drawn from


@pytest.fixture
def mine(here: Path) -> Path:
    (here / "mine.toml").write_text(STUDY)
    return here


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("small", [True, False])
def test_every_figure_of_the_paper_has_its_studies_in_both_sizes(figure: str, small: bool):
    studies = figure_studies(figure, small)
    assert len(studies) == FIGURES[figure]
    for name in studies:
        settings = load_settings(name)
        assert settings.figure is not None
        assert set(settings.figure.epochs) <= set(settings.codes.kept_epochs)
        if small:
            full = load_settings(name.removesuffix("_small"))
            assert full.search_space.parameters["head"] == settings.search_space.parameters["head"]
            assert full.figure is not None
            assert full.figure.epochs == settings.figure.epochs
            assert (full.network.decoder, full.data.classes) == (settings.network.decoder, settings.data.classes)


def test_the_full_sizes_are_the_papers():
    for name in builtin_files("studies"):
        if name.startswith("figure") and not name.endswith("_small"):
            settings = load_settings(name)
            assert (settings.training.batch_size, settings.training.momentum, settings.network.width) == (256, 0, 1)
            assert settings.figure is not None
            assert settings.figure.kind == "curves" or settings.figure.epochs == (1, 5, 10)


@pytest.mark.slow
def test_a_figure_of_ones_own_is_run_drawn_and_drawn_again(mine: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["figure", "mine.toml", "--device", "cpu", "--epochs", "1"]) == 0
    output = capsys.readouterr()
    assert "The claim that" in output.out
    assert str(Path("runs/mine/embedding.png")) in output.out
    assert "0 of 1 trials are done" in output.err
    assert Path("runs/mine/embedding.png").is_file()
    assert main(["figure", "mine.toml", "--device", "cpu", "-q"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert main(["run", "mine.toml", "--device", "cpu", "-q"]) == 0
    output = capsys.readouterr()
    assert "no accuracy to rank by" in output.out
    assert "nas-relucode figure mine.toml" in output.out
    assert "autoencoders" in refused(capsys, "report", "mine.toml")


def test_codes_read_as_in_the_released_code_make_a_study_of_their_own(mine: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nas_relucode.cells.embedding._umap", lambda rows, **settings: rows[:, :2])
    assert main(["figure", "mine.toml", "--device", "cpu", "-q", "--released-code", "--output", "there"]) == 0
    assert Path("there/mine_released/cells_by_class.csv").is_file()
    study = optuna.load_study(study_name="mine_released", storage="sqlite:///runs/mine_released/study.db")
    codes = study.user_attrs["settings"]["codes"]
    assert (codes["preset"], codes["while_training"]) == ("released_code", True)
    files = Path("there/mine_released/embeddings").iterdir()
    settings = [json.loads(str(np.load(file)["made"])) for file in files]
    assert {(each["preset"], each["neighbours"]) for each in settings} == {("released_code", 2)}
    assert "random" in {each["init"] for each in settings}  # where there are more than a few points


def test_a_figure_that_cannot_be_drawn_is_refused_before_anything_is_trained(
    mine: Path, capsys: pytest.CaptureFixture[str]
):
    assert "unknown figure '7'. Known: 1, 2, 3, 4, 5, 6" in refused(capsys, "figure", "7")
    assert "no [figure]" in refused(capsys, "figure", "own.toml")
    assert "epoch 2 is not trained" in refused(capsys, "figure", "mine.toml", "--epochs", "1", "2")
    assert "one size" in refused(capsys, "figure", "mine.toml", "--small")
    assert "Leave out --study-name" in refused(capsys, "figure", "4", "--study-name", "x")
    (mine / "mine.toml").write_text(STUDY.replace('expect = "falls"', 'expect = "grows"'))
    assert "unknown expect 'grows'" in refused(capsys, "figure", "mine.toml")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kept_epochs = [0, 1]", "kept_epochs = [0]", "epoch 1 is not trained, or its codes are not kept"),
        ("kept_epochs = [0, 1]", "", "needs code spaces"),
        ('expect = "falls"', "neighbours = 0", "neighbours 0"),
        ('expect = "falls"', "min_dist = 2.0", "min_dist 2.0"),
        ('expect = "falls"', 'points = "samples"\npreset = "released_code"', "a point for each class and code"),
        ('expect = "falls"', 'kind = "curves"', "curves show every epoch"),
    ],
)
def test_a_figure_that_the_study_cannot_give_is_refused_before_it_is_trained(
    mine: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
):
    (mine / "mine.toml").write_text(STUDY.replace(old, new))
    assert says in refused(capsys, "figure", "mine.toml", "--epochs", "1", "-q", "--device", "cpu")
    assert not Path("runs").exists()


@pytest.mark.slow
def test_how_a_figure_is_drawn_may_be_changed_after_the_training(mine: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["run", "mine.toml", "--device", "cpu", "-q"]) == 0
    (mine / "mine.toml").write_text(STUDY.replace('expect = "falls"', 'expect = "rises"\nneighbours = 5'))
    assert main(["figure", "mine.toml", "--device", "cpu"]) == 0
    assert "1 of 1 trials are done" in capsys.readouterr().err
