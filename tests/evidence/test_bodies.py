"""Bodies of evidence in folders: what is trained and measured for one body is never taken for another's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_relucode.errors import InputError
from nas_relucode.evidence import measuring
from nas_relucode.evidence.bodies import diverged, load_trained, train_body
from nas_relucode.evidence.families import FAMILIES, Family, load_family
from nas_relucode.evidence.measuring import measure_body, read_measured
from nas_relucode.npz_files import read_arrays

DIGITS = replace(
    FAMILIES["digits"], candidates=2, seeds=(0,), choices=FAMILIES["digits"].choices | {"epochs": (1,), "head": ("16",)}
)
OTHERS = {  # of the same numbers and seeds
    "drawn again": replace(DIGITS, draw=1),
    "on other data": replace(DIGITS, name="digits_again"),
}
ANY_FOLDER = pytest.mark.parametrize("name", ["digits", "weights", "elsewhere"])
DATA = load_family(DIGITS)


@pytest.fixture
def train_and_measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Family, Path], list[str]]:
    """Trains and measures a body, the latter in no time; returns what is done."""
    monkeypatch.setattr(measuring, "qualities_of", lambda *_: {})
    monkeypatch.setattr(measuring, "_indices", lambda *_: {"cell_count": 1.0})
    monkeypatch.setattr(measuring, "_baselines", lambda *_: {"validation_accuracy": 0.5})

    def both(family: Family, folder: Path) -> list[str]:
        done: list[str] = []
        train_body(family, DATA, folder, on_network=lambda number, seed: done.append(f"{number} trained"))
        measure_body(family, DATA, folder, on_network=lambda number, seed: done.append(f"{number} measured"))
        return done

    return both


def without_digests(folder: Path) -> None:
    """Leaves the files as earlier versions wrote them."""
    for file in folder.glob("*.pt"):
        content = torch.load(file, weights_only=True)
        del content["training"]
        torch.save(content, file)
    for file in folder.glob("*.npz"):
        arrays = read_arrays(file, "")
        del arrays["training"]
        np.savez(file, **arrays)  # type: ignore[arg-type]


@ANY_FOLDER
def test_a_body_is_trained_and_measured_once(tmp_path: Path, name: str, train_and_measure):
    folder = tmp_path / name
    assert train_and_measure(DIGITS, folder) == ["0 trained", "1 trained", "0 measured", "1 measured"]
    assert train_and_measure(DIGITS, folder) == []
    assert read_measured(DIGITS, folder, 0, 0).numbers["cell_count"] == 1
    assert read_measured(DIGITS, folder, 0, 0).samples == {}


@pytest.mark.parametrize("other", OTHERS)
@ANY_FOLDER
def test_what_another_body_left_in_a_folder_is_refused(tmp_path: Path, name: str, other: str, train_and_measure):
    folder, family = tmp_path / name, OTHERS[other]
    train_and_measure(DIGITS, folder)
    for reading in (
        lambda: train_body(family, DATA, folder),
        lambda: load_trained(family, DATA, folder, 0, 0),
        lambda: diverged(family, folder, 0, 0),
        lambda: read_measured(family, folder, 0, 0),
    ):
        with pytest.raises(InputError, match=f"{folder}/000_seed0.*{family.name}.*Give another folder"):
            reading()
    for file in folder.glob("*.pt"):  # as if it had been copied without its measurements
        file.unlink()
    train_body(family, DATA, folder)
    with pytest.raises(InputError, match=r"000_seed0\.npz"):
        measure_body(family, DATA, folder)


@pytest.mark.parametrize("folder", ["digits", "digits/weights"])
def test_files_of_earlier_versions_are_read_where_the_folder_names_their_body(
    tmp_path: Path, folder: str, train_and_measure
):
    train_and_measure(DIGITS, tmp_path / folder)
    without_digests(tmp_path / folder)
    assert train_and_measure(DIGITS, tmp_path / folder) == []
    assert load_trained(DIGITS, DATA, tmp_path / folder, 1, 0) is not None
    assert read_measured(DIGITS, tmp_path / folder, 1, 0).numbers["validation_accuracy"] == 0.5
    (tmp_path / "evidence").mkdir()
    moved = (tmp_path / folder).rename(tmp_path / "evidence" / "weights")
    with pytest.raises(InputError, match="000_seed0"):
        train_and_measure(DIGITS, moved)


def test_a_body_has_a_folder_of_its_own_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from nas_relucode.cli import evidence
    from nas_relucode.cli.main import main

    folders = []

    def body(family: Family, data: object, folder: Path, **options: object) -> None:
        folders.append(folder)
        raise InputError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "train_body", body)
    monkeypatch.setattr(evidence, "load_family", lambda *_, **__: DATA)
    monkeypatch.setattr(evidence, "others_of", lambda *_: None)
    bodies = ["mnist", "mnist_again", "digits"]
    for name in bodies:
        assert main(["evidence", "--body", name]) == 2
    assert len(set(folders)) == len(bodies)
    assert all(name in folder.parts for name, folder in zip(bodies, folders, strict=True))
    assert main(["evidence", "--body", "mnist", "--output", "there"]) == 2
    assert folders[-1] == Path("there/weights")
