"""The settings of a study: what makes no sense is refused, and a study is gone on with as it was begun."""

import dataclasses
import gzip
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from command_line import SPACE, STUDY, refused, write_study
from small_studies import reread, run, settings_in

from nas_relucode.errors import InputError
from nas_relucode.ranking.selecting import select
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.record import candidate_of, record_of
from nas_relucode.study.search_space import load_search_space
from nas_relucode.study.settings import CodeSettings, DataSettings, StudySettings, load_settings
from nas_relucode.training.loop import Recipe
from nas_relucode.workers.status import status_of


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "gp"}, r"unknown sampler 'gp'. Known: tpe, nsga2, random"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, r"seeds \[1, 1\]"),
        ({"seeds": (-1,)}, "seed -1 is out of range"),
        ({"seeds": (0, 2**64)}, "seed 18446744073709551616 is out of range"),
        ({"trials": 0}, "trials 0"),
        ({"accuracy_floor": 1.5}, "accuracy_floor 1.5"),
        ({"objectives": {"accuracy": "up"}}, "'up'. Known: maximize, minimize"),
        ({"objectives": {"cells": "minimize"}}, "unknown objective 'cells'. Known: accuracy, validation_loss, "),
        ({"objectives": {}}, "objectives is empty"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        settings_in(tmp_path, **changes)


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
        ("heads = []\nlearning_rates = [0.1]", ["[] of head"]),
        ('heads = ["8", "8"]\nlearning_rates = [0.1]', ["['8', '8'] of head"]),
        ('heads = ["8"]\nlearning_rates = [0]', ["learning rate 0"]),
        ('heads = ["8"]\nlearning_rates = [-0.1]', ["learning rate -0.1"]),
        ('heads = ["8"]\nlearning_rates = [inf]', ["learning rate inf"]),
        ('heads = ["8"]\nlearning_rates = {low = 0.1, high = 0.01}', ["0.1 .. 0.01"]),
        ('heads = ["8"]\nlearning_rates = {low = 0.01, high = 0.1}', ["interval", "trials"]),
        ('heads = "8"\nlearning_rates = [0.1]', ["heads", "'8'", "list"]),
        ('heads = ["8"]\nlearning_rate = [0.1]', ["unknown key 'learning_rate'", "learning_rates"]),
        ('heads = ["8"]', ["no learning_rate", "Add one"]),
        ("learning_rates = [0.1]", ["head", "factory"]),
        ("[parameters]\ndepth = [1, 2]", ["depth", "factory"]),
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


def test_a_search_space_is_looked_for_beside_the_study_that_names_it(tmp_path: Path):
    write_study(tmp_path)
    beside = load_settings(str(tmp_path / "own.toml"))
    (tmp_path / "inline.toml").write_text(STUDY.replace('space = "space.toml"', f"[search.space]\n{SPACE}"))
    assert beside.search_space == load_settings(str(tmp_path / "inline.toml")).search_space
    assert beside.search_space == load_search_space(str(tmp_path / "space.toml"))


def test_the_folder_of_a_study_is_kept_by_a_copy_and_is_no_key_of_its_file(tmp_path: Path):
    write_study(tmp_path)
    settings = load_settings(tmp_path / "own.toml")
    assert dataclasses.replace(settings, description="another").folder == str(tmp_path)
    (tmp_path / "own.toml").write_text(f'folder = "elsewhere"\n{STUDY}')
    with pytest.raises(InputError, match="folder"):
        load_settings(tmp_path / "own.toml")


# Settings that have changed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("finished")
    run(settings_in(folder), f"sqlite:///{folder}/study.db")
    return folder


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("training.epochs was 1 and is 2", {"training": Recipe(epochs=2, batch_size=35)}),
        ("search.seeds was", {"seeds": (0, 1)}),
        ("search.space.parameters.head was", {"heads": ("8", "4")}),
        ("search.space.parameters.learning_rate was", {"rates": "[0.2]"}),
        ("accuracy_floor was None and is 0.5", {"accuracy_floor": 0.5}),
        ("objectives.cell_count was 'minimize' and is None", {"objectives": {"accuracy": "maximize"}}),
        ("codes.graph_theta was 1 and is 2", {"codes": CodeSettings(graph_theta=2)}),
    ],
)
def test_a_study_with_other_settings_is_refused_and_nothing_is_changed(
    tmp_path: Path, finished: Path, key: str, changes: dict[str, Any]
):
    url = f"sqlite:///{finished}/study.db"
    before = (finished / "study.db").read_bytes()
    with pytest.raises(InputError, match="'own' has other settings") as raised:
        run(settings_in(tmp_path, **changes), url)
    assert key in str(raised.value)
    assert "--study-name" in str(raised.value)
    assert (finished / "study.db").read_bytes() == before


def test_another_description_is_no_other_study(tmp_path: Path, finished: Path):
    study = run(settings_in(tmp_path, description="said better"), f"sqlite:///{finished}/study.db")
    assert study.user_attrs["settings"]["description"] == settings_in(tmp_path).description


def test_the_order_of_the_objectives_belongs_to_the_settings(tmp_path: Path, finished: Path):
    other_way_round = {"cell_count": "minimize", "accuracy": "maximize"}
    with pytest.raises(InputError, match="objectives"):
        run(settings_in(tmp_path, objectives=other_way_round), f"sqlite:///{finished}/study.db")


def test_a_study_is_not_resumed_with_other_data(tmp_path: Path, url: str):
    rng = np.random.default_rng(0)
    file = tmp_path / "images.npz"

    def images(samples: int) -> StudySettings:
        x, y = rng.integers(0, 256, (samples, 4, 4)).astype(np.uint8), np.arange(samples) % 2
        np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
        settings = settings_in(tmp_path)
        return dataclasses.replace(settings, data=DataSettings(source=str(file)))

    run(images(40), url)
    with pytest.raises(InputError, match=r"other settings: data\.sha256 was"):
        run(images(50), url)


def test_a_study_of_an_earlier_version_goes_on(tmp_path: Path, url: str):
    settings = settings_in(tmp_path)
    study = run(settings, url)
    then = study.user_attrs["settings"]
    del then["network"]["weights"], then["codes"]["kept_epochs"], then["figure"], then["search"]["together"]
    for name in ("mode", "maps", "also", "batch_size"):
        del then["codes"][name]
    study.set_user_attr("settings", then)
    run(settings, url)
    assert len(reread(url)) == 2
    changed = dataclasses.replace(settings, codes=CodeSettings(kept_epochs=(1,)))
    with pytest.raises(InputError, match="kept_epochs"):
        run(changed, url)


def test_a_study_that_an_earlier_version_stored_is_complete_and_its_records_are_read(tmp_path: Path, url: str):
    """... settings and trials: tests/data/README.md says how it was stored."""
    dump = gzip.decompress((Path(__file__).parents[1] / "data" / "study_version_1.sql.gz").read_bytes()).decode()
    connection = sqlite3.connect(tmp_path / "study.db")
    connection.executescript(dump)
    connection.close()
    epochs: list[int] = []
    settings = settings_in(tmp_path, seeds=(0, 1))
    study = run(settings, url, on_epoch=lambda number, epoch, point: epochs.append(number))
    assert (len(study.trials), epochs) == (4, [])  # nothing is trained again
    selection = select(study)
    assert set(selection.networks["network"]) == {"head=8", "head=4-4"}
    for trial in study.trials:
        candidate = candidate_of(record_of(trial))
        assert {**candidate.params, "seed": candidate.seed} == trial.params
    with pytest.raises(InputError, match=r"parameters\.head was"):
        run(settings_in(tmp_path, ("8",), seeds=(0, 1)), url)


def test_finalist_seeds_may_be_added_to_a_finished_study(tmp_path: Path, url: str):
    """Those in question are trained with further seeds, one after the other, until none is or each has all."""
    asked: list[list[int]] = []

    def further(study: optuna.Study, seeds: list[int], *, margin: float) -> list[Candidate]:
        asked.append(seeds)
        assert margin == settings.margin
        params = {"head": "8", "learning_rate": 0.1}
        return [] if len(asked) > 4 else [Candidate(params, seed) for seed in seeds]

    settings = settings_in(tmp_path, seeds=(0, 1))
    assert len(run(settings, url, further=further).trials) == 4
    assert asked == []
    settings = dataclasses.replace(settings, search=dataclasses.replace(settings.search, finalist_seeds=4))
    trials = run(settings, url, further=further).trials
    seeds = [record_of(trial)["seed"] for trial in trials if record_of(trial)["params"]["head"] == "8"]
    assert (len(trials), sorted(seeds)) == (6, [0, 1, 2, 3])
    assert asked[0] == [0, 1, 2, 3]
    assert len({record_of(trial)["validation_loss"] for trial in trials if trial.params["head"] == "8"}) == 4
    assert len(run(settings, url, further=further).trials) == 6
    assert status_of(optuna.load_study(study_name="own", storage=url)).size == 6
