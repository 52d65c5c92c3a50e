"""What an objective writes and reads: checkpoints to go on from, code spaces, features of a frozen backbone."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial

from nas_relucode import (
    ImageData,
    InputError,
    Objective,
    Recipe,
    SearchSpace,
    build_network,
    code_space,
    load_data,
    train,
)
from nas_relucode.cells import load_code_space
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.settings import CodeSettings, NetworkSettings
from nas_relucode.training.checkpoints import save_checkpoint
from nas_relucode.training.frozen import frozen_features
from nas_relucode.training.loop import accuracy
from nas_relucode.training.networks import build_backbone

SPACE = SearchSpace(heads=("8-4",), learning_rates=(0.1,))
RECIPE = Recipe(epochs=4, batch_size=32, momentum=0.9)
NETWORK, CODES = ({field.name for field in fields(kind)} for kind in (NetworkSettings, CodeSettings))
REBUILD = Recipe(epochs=3, batch_size=32, loss="sigmoid")


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", classes=[0, 1, 2], train_samples=200, test_samples=50, validation=0.25)


def make(data: ImageData, **settings: Any) -> Objective:
    """An objective whose settings of the network and of the codes are given by their own names."""
    network = {name: settings.pop(name) for name in NETWORK if name in settings}
    codes = {name: settings.pop(name) for name in CODES if name in settings}
    parts = {"network": NetworkSettings(**({"backbone": "none"} | network)), "codes": CodeSettings(**codes)}
    return Objective(data, SPACE, **({"recipe": RECIPE, "device": "cpu"} | parts | settings))


def record_by(objective: Objective) -> dict[str, Any]:
    trial = FixedTrial({"head": "8-4", "learning_rate": 0.1})
    objective(trial)
    record: dict[str, Any] = trial.user_attrs[ATTRIBUTE]
    del record["qualities"]["seconds"]
    return record


class StopAfter:
    """A callback that is interrupted once, after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.epochs = epoch, []  # type: ignore[var-annotated]

    def __call__(self, number: int, epoch: Any, point: dict[str, Any]) -> None:
        self.epochs.append(epoch.number)
        if self.epochs == list(range(self.epoch + 1)):
            raise KeyboardInterrupt


@pytest.mark.parametrize("settings", [{}, {"decoder": "8", "recipe": REBUILD, "objectives": ["validation_loss"]}])
def test_an_interrupted_trial_goes_on_at_its_last_epoch_and_finds_the_same(
    data: ImageData, tmp_path: Path, settings: dict[str, Any]
):
    undisturbed = record_by(make(data, **settings))
    stop = StopAfter(2)
    objective = make(data, folder=tmp_path, on_epoch=stop, **settings)
    with pytest.raises(KeyboardInterrupt):
        record_by(objective)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["head=8-4_learning_rate=0.1_seed=0.pt"]
    assert record_by(objective) == undisturbed
    assert stop.epochs == list(range(objective.recipe.epochs + 1))  # none was trained twice
    assert not (tmp_path / "checkpoints").exists()


OTHER = {
    "recipe": Recipe(epochs=5, batch_size=32, momentum=0.9),
    "width": 0.5,
    "backbone": "small_conv",
    "layers": "head.1",
    "preset": "released_code",
    "maps": "pooled",
    "split": "validation",
    "while_training": True,
    "kept_epochs": (1,),
    "frozen": True,
}


@pytest.mark.parametrize("change", [*OTHER, "data", "cut", "foreign"])
def test_a_checkpoint_that_is_not_the_trials_own_is_refused_and_kept(data: ImageData, tmp_path: Path, change: str):
    with pytest.raises(KeyboardInterrupt):
        record_by(make(data, folder=tmp_path, on_epoch=StopAfter(1)))
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    settings: dict[str, Any] = {"folder": tmp_path}
    if change in OTHER:
        settings[change] = OTHER[change]
    elif change == "data":
        data = load_data("digits", classes=[0, 1, 3], train_samples=200, test_samples=50, validation=0.25)
    elif change == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    else:
        checkpoint.write_bytes(b"mine")
    before = checkpoint.read_bytes()
    with pytest.raises(InputError, match=str(checkpoint)):
        record_by(make(data, **settings))
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_in_the_way_of_another_format_is_not_overwritten(data: ImageData, tmp_path: Path):
    name = "head=8-4_learning_rate=0.1_seed=0.pt"
    (tmp_path / "checkpoints").mkdir()
    save_checkpoint(tmp_path / "checkpoints" / name, {"epoch": 1}, settings={"another": "study"}, results=None)
    with pytest.raises(InputError, match="another"):
        record_by(make(data, folder=tmp_path))


def test_code_spaces_are_kept_after_the_epochs_that_are_named(data: ImageData, tmp_path: Path):
    record = record_by(make(data, folder=tmp_path, kept_epochs=[0, 3], preset="released_code"))
    network = build_network("8-4", data.image_shape, 3, backbone="none")
    taken = {}
    train(
        network,
        data.train,
        learning_rate=0.1,
        recipe=RECIPE,
        on_epoch=lambda epoch: taken.__setitem__(
            epoch.number,
            code_space(network, (data.train.inputs, data.train.labels), layers="head", preset="released_code"),
        ),
    )
    assert list(record["codes"]) == ["0", "3"]
    for epoch, name in record["codes"].items():
        kept, again = load_code_space(tmp_path / "codes" / name), taken[int(epoch)]
        assert np.array_equal(kept.cells.cell_of, again.cells.cell_of)
        assert np.array_equal(kept.class_counts, again.class_counts)
        assert len(kept.cells) == record["curve"][int(epoch)]["joint"]["cell_count"]


def test_another_studys_code_spaces_are_not_overwritten(data: ImageData, tmp_path: Path):
    mine = record_by(make(data, folder=tmp_path, kept_epochs=[1]))
    others = record_by(make(data, folder=tmp_path, kept_epochs=[1], preset="released_code"))
    assert mine["codes"]["1"] != others["codes"]["1"]
    assert len(list((tmp_path / "codes").iterdir())) == 2


def test_imagenet_weights_are_asked_for_where_they_are_named(data: ImageData):
    with pytest.raises(InputError, match="no ImageNet weights for backbone small_conv"):
        make(data, backbone="small_conv", weights="imagenet")


def test_heads_behind_a_frozen_backbone_are_trained_on_its_features(data: ImageData, tmp_path: Path):
    record = record_by(make(data, backbone="small_conv", frozen=True, folder=tmp_path))
    backbone = build_backbone(data.image_shape, backbone="small_conv")
    features = frozen_features(backbone, data, tmp_path / "again")
    head = build_network("8-4", features.image_shape, 3, backbone="none")
    train(head, features.train, learning_rate=0.1, recipe=RECIPE)
    assert record["accuracy"] == accuracy(head, features.validation)
    assert record["qualities"]["parameters"] == sum(p.numel() for net in (head, backbone) for p in net.parameters())
    files = sorted((tmp_path / "features").iterdir())
    times = [file.stat().st_mtime_ns for file in files]
    assert record_by(make(data, backbone="small_conv", frozen=True, folder=tmp_path)) == record
    assert [file.stat().st_mtime_ns for file in files] == times  # the backbone ran once


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"decoder": "8"}, "sigmoid or mse"),
        ({"decoder": "8", "recipe": REBUILD}, "no accuracy"),
        ({"decoder": "8", "recipe": REBUILD, "objectives": ["head.1:correct_cell_count"]}, "correct_cell_count"),
        ({"decoder": "8", "recipe": REBUILD, "objectives": ["cell_count"], "accuracy_floor": 0.5}, "accuracy_floor"),
        ({"decoder": "8", "recipe": REBUILD, "objectives": ["cell_count"], "frozen": True}, "no backbone"),
        ({"decoder": "eight", "recipe": REBUILD}, "list of layer widths"),
        ({"recipe": REBUILD}, "autoencoders"),
        ({"kept_epochs": [5]}, "epoch 5 is not trained: there are 4"),
        ({"kept_epochs": [1]}, "Name a folder"),
        ({"frozen": True}, "Name a folder"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_the_first_trial(data: ImageData, settings: Any, says: str):
    with pytest.raises(InputError, match=says):
        make(data, **settings)


def test_a_trial_that_diverges_leaves_no_checkpoint(data: ImageData, tmp_path: Path):
    space, network = SearchSpace(heads=("8",), learning_rates=(1e22,)), NetworkSettings(backbone="none")
    objective = Objective(data, space, network=network, recipe=RECIPE, device="cpu", folder=tmp_path)
    with pytest.raises(optuna.TrialPruned):
        objective(FixedTrial({"head": "8", "learning_rate": 1e22}))
    assert not (tmp_path / "checkpoints").exists()
