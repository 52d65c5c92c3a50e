"""Figures of small studies: their numbers are counted again from activations, and embeddings are reused."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from small_studies import run, settings_in
from torch import Tensor, nn

from nas_relucode import InputError, train
from nas_relucode.cells import load_code_space, save_code_space
from nas_relucode.cells.classes import knn_accuracy
from nas_relucode.cells.code_spaces import CodeSpace
from nas_relucode.paper import figure_study as module
from nas_relucode.paper.figure_study import draw_figure
from nas_relucode.paper.numbers import read_numbers
from nas_relucode.study.curves import curves_frame, kept_spaces
from nas_relucode.study.record import ATTRIBUTE
from nas_relucode.study.runner import load_study_data
from nas_relucode.study.settings import CodeSettings, DataSettings, FigureSettings, NetworkSettings, StudySettings
from nas_relucode.training import build_autoencoder
from nas_relucode.training.recipe import Recipe

REBUILD = Recipe(epochs=2, batch_size=32, loss="sigmoid")
DIGITS = ["4", "9"]


def autoencoders(folder: Path, **changes: Any) -> StudySettings:
    """Two trainings of a small autoencoder on the digits 4 and 9."""
    parts = {
        "data": DataSettings(source="digits", classes=(4, 9), train_samples=150, test_samples=20, validation=0.2),
        "network": NetworkSettings(decoder="16"),
        "training": REBUILD,
        "codes": CodeSettings(kept_epochs=(0, 1, 2)),
        "objectives": {"validation_loss": "minimize", "cell_count": "minimize"},
        "figure": FigureSettings(epochs=(1, 2), expect="falls"),
    }
    return settings_in(folder, ("16-8",), "[0.5, 0.1]", **(parts | changes))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[optuna.Study, Path]:
    folder = tmp_path_factory.mktemp("autoencoders")
    study = run(autoencoders(folder), f"sqlite:///{folder}/study.db", folder=folder)
    draw_figure(study, FigureSettings(epochs=(1, 2), expect="falls"), folder)
    return study, folder


def test_a_grid_for_each_learning_rate_and_its_numbers_are_written(drawn: tuple[optuna.Study, Path]):
    _, folder = drawn
    for name in ("embedding_0.5", "embedding_0.1", "separability", "clustering_0.5", "clustering_0.1"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    points = pd.read_csv(folder / "embedding.csv")
    assert set(points["epoch"]) == {1, 2}
    assert set(points["layer"]) == {"FC-0", "FC-1"}
    kept = kept_spaces(drawn[0], folder)
    for saved in kept:
        if saved.epoch:
            panel = points.query("label == @saved.label and epoch == @saved.epoch and layer == 'FC-1'")
            space = saved.load().layer("head.3")
            assert sorted(panel["size"]) == sorted(space.cells.sizes)
    assert "claim" in (folder / "claim.txt").read_text()


def test_separability_is_that_of_each_layers_codes(drawn: tuple[optuna.Study, Path]):
    study, folder = drawn
    kept = kept_spaces(study, folder)
    frame = read_numbers(kept, DIGITS).separability
    assert len(frame) == len(kept) * 3  # two layers and joint
    for saved in kept:
        space = saved.load().layer("head.1")
        assert space.class_counts is not None
        (row,) = frame.query("label == @saved.label and epoch == @saved.epoch and layer == 'FC-0'").to_dict("records")
        assert row["knn_accuracy"] == knn_accuracy(space.codes, space.class_counts)
        assert (row["depth"], row["cells"], row["samples"]) == (1, len(space.cells), 120)


@pytest.mark.slow
def test_embeddings_are_reused_and_a_damaged_one_is_computed_again(
    drawn: tuple[optuna.Study, Path], monkeypatch: pytest.MonkeyPatch
):
    study, folder = drawn
    figure = FigureSettings(epochs=(1, 2), expect="falls")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".svg", ".csv")}
    files = sorted((folder / "embeddings").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:50])
    calls = []

    def embed(*arguments: Any, **settings: Any) -> Any:
        calls.append(settings["layer"])
        return real(*arguments, **settings)

    real = module.embed
    monkeypatch.setattr(module, "embed", embed)
    draw_figure(study, figure, folder)
    assert len(calls) == 1
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_the_released_codes_counts_are_those_of_the_saved_activations(tmp_path: Path):
    codes = CodeSettings(kept_epochs=(1, 2), preset="released_code", while_training=True)
    settings = autoencoders(tmp_path, codes=codes)
    study = run(settings, f"sqlite:///{tmp_path}/study.db", folder=tmp_path)
    counts = read_numbers(kept_spaces(study, tmp_path), DIGITS).by_class
    counts = counts[counts["learning_rate"] == 0.5].set_index(["epoch", "layer", "class"])["cells"]

    # The same training by hand: the outputs of the encoder's ReLUs before each step are saved and counted.
    data = load_study_data(settings.data).train
    assert data.labels is not None
    network, saved, epochs = build_autoencoder((1, 8, 8), head="16-8", decoder="16"), [], []
    for relu in (network.head[1], network.head[3]):
        relu.register_forward_hook(lambda module, inputs, out: saved.append(out.detach().numpy().copy()))

    def on_batch(rows: Tensor) -> None:
        saved.clear()
        network(data.inputs[rows])
        epochs[-1].append([*saved, data.labels[rows].numpy()])

    train(network, data, learning_rate=0.5, recipe=REBUILD, on_batch=on_batch, on_epoch=lambda epoch: epochs.append([]))
    for number, batches in enumerate(epochs[:2], start=1):
        arrays = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        np.savez(tmp_path / f"activations_{number}.npz", first=arrays[0], second=arrays[1], labels=arrays[2])
        with np.load(tmp_path / f"activations_{number}.npz") as file:
            for layer, name in (("first", "FC-0"), ("second", "FC-1")):
                bits = 1 * (file[layer].astype("int") > 0)
                for label, digit in enumerate(DIGITS):
                    class_bits = bits[file["labels"] == label]
                    assert counts[number, name, digit] == len(np.unique(class_bits, axis=0))


def test_an_epoch_that_was_not_kept_is_refused_with_those_that_were(drawn: tuple[optuna.Study, Path]):
    study, folder = drawn
    with pytest.raises(InputError, match=r"after epoch 7\. Give some of: 0, 1, 2"):
        draw_figure(study, FigureSettings(epochs=(1, 7)), folder)


def test_codes_without_labels_are_refused(drawn: tuple[optuna.Study, Path], tmp_path: Path):
    study, folder = drawn
    (tmp_path / "codes").mkdir()
    for saved in kept_spaces(study, folder):
        space = load_code_space(saved.path)
        save_code_space(CodeSpace(space.cells, settings=space.settings), tmp_path / "codes" / saved.path.name)
    with pytest.raises(InputError, match="no labels"):
        draw_figure(study, FigureSettings(), tmp_path)


def test_a_missing_code_space_is_named(drawn: tuple[optuna.Study, Path], tmp_path: Path):
    with pytest.raises(InputError, match=r"16-8_.*is missing"):
        draw_figure(drawn[0], FigureSettings(), tmp_path)


def test_a_study_without_kept_codes_has_curves_and_no_grid(tmp_path: Path):
    settings = settings_in(tmp_path, ("8",), "[0.1, 0.05]", seeds=(0, 1, 2), training=Recipe(epochs=2, batch_size=32))
    study = run(settings, f"sqlite:///{tmp_path}/study.db", folder=tmp_path)
    with pytest.raises(InputError, match="kept_epochs"):
        draw_figure(study, FigureSettings(), tmp_path)
    drawn = draw_figure(study, FigureSettings(kind="curves"), tmp_path)
    curves = pd.read_csv(tmp_path / "curves.csv", dtype={"head": str})
    pd.testing.assert_frame_equal(curves, curves_frame(study), check_dtype=False)
    counts = curves[curves["layer"] == "FC-0"].set_index(["learning_rate", "seed", "epoch"])["cell_count"]
    for trial in study.trials:
        for point in trial.user_attrs[ATTRIBUTE]["curve"]:
            at = (trial.params["learning_rate"], trial.params["seed"], point["epoch"])
            assert counts[at] == point["layers"]["head.1"]["cell_count"]
    assert "interval" in " ".join(drawn.sentences)
    assert {path.name for path in drawn.files} == {
        *("curves.png", "curves.svg", "curves.csv", "comparison.csv", "claim.txt")
    }


def test_an_embedding_is_computed_again_for_other_settings(drawn: tuple[optuna.Study, Path]):
    study, folder = drawn
    saved = kept_spaces(study, folder)[1]
    space = saved.load()
    few, many = (
        module._embedding(saved, space, "head.1", FigureSettings(neighbours=count), folder) for count in (3, 30)
    )
    assert (few.settings["neighbours"], many.settings["neighbours"]) == (3, 30)
    assert not np.array_equal(few.points, many.points)


@pytest.mark.slow
def test_pictures_show_the_first_seed_and_tables_all_seeds(tmp_path: Path):
    settings = autoencoders(tmp_path, search=settings_in(tmp_path, ("16-8",), "[0.1]", seeds=(4, 2)).search)
    study = run(settings, f"sqlite:///{tmp_path}/study.db", folder=tmp_path)
    draw_figure(study, FigureSettings(epochs=(2,)), tmp_path)
    assert set(pd.read_csv(tmp_path / "embedding.csv")["seed"]) == {4}
    assert set(pd.read_csv(tmp_path / "separability.csv")["seed"]) == {2, 4}


@pytest.mark.slow
def test_a_diverged_candidate_is_named_and_the_others_are_drawn(tmp_path: Path):
    parts = {"seeds": (0, 1), "training": Recipe(epochs=1, batch_size=32)}
    study = run(
        settings_in(tmp_path, ("8",), "[1e22, 0.1]", **parts), f"sqlite:///{tmp_path}/study.db", folder=tmp_path
    )
    drawn = draw_figure(study, FigureSettings(kind="curves"), tmp_path)
    assert [sentence for sentence in drawn.sentences if "1e+22" in sentence and "finite" in sentence]
    assert (tmp_path / "claim.txt").read_text().count("is not shown") == 2


@pytest.mark.slow
def test_curves_of_moving_weights_and_of_autoencoders_are_drawn(tmp_path: Path):
    parts = {"seeds": (0, 1), "training": Recipe(epochs=2, batch_size=32)}
    codes = CodeSettings(preset="released_code", while_training=True)
    study = run(
        settings_in(tmp_path, ("8",), "[0.1, 0.05]", codes=codes, **parts),
        f"sqlite:///{tmp_path}/study.db",
        folder=tmp_path,
    )
    assert "occupied cells" in " ".join(draw_figure(study, FigureSettings(kind="curves"), tmp_path).sentences)
    settings = autoencoders(tmp_path, search=settings_in(tmp_path, ("16-8",), "[0.5, 0.1]", seeds=(0, 1)).search)
    study = run(settings, f"sqlite:///{tmp_path}/study.db", "autoencoders", folder=tmp_path / "of")
    assert "Nothing is compared" in draw_figure(study, FigureSettings(kind="curves"), tmp_path / "of").sentences[0]


def test_a_study_of_another_program_has_nothing_to_draw(tmp_path: Path):
    with pytest.raises(InputError, match=r"no complete trial of nas_relucode\.Objective"):
        draw_figure(optuna.create_study(), FigureSettings(kind="curves"), tmp_path)


def test_layers_of_a_network_without_a_head_keep_their_names(tmp_path: Path):
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert module.layer_names([name for name, _ in network.named_modules() if name]) == {"0": "0", "1": "1"}
