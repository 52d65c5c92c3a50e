"""`nas-relucode codes`: a code space over shards on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_relucode.cells.code_spaces import code_space, load_code_space
from nas_relucode.cli.main import main
from nas_relucode.training.data import load_data
from nas_relucode.training.networks import build_network


def network() -> torch.nn.Module:
    return build_network("6-4", (1, 8, 8), 10, backbone="none", seed=3)


def codes(output: Path, *arguments: str) -> int:
    return main(["codes", "--model", f"{__name__}:network", "--data", "digits", "--output", str(output), *arguments])


def test_the_cells_are_those_of_score_for_any_number_of_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    digits = load_data("digits").train
    whole = code_space(network(), (digits.inputs, digits.labels))
    summaries = []
    for shards in (1, 3):
        assert codes(tmp_path / f"{shards}.npz", "--shards", str(shards), "-q", "-f", "json") == 0
        summaries.append(json.loads(capsys.readouterr().out))
    assert [one["cells"] for one in summaries] == 2 * [len(whole.cells)]
    one, three = (load_code_space(tmp_path / f"{shards}.npz") for shards in (1, 3))
    assert np.array_equal(one.codes.words, whole.codes.words)
    assert np.array_equal(three.cells.cell_of, whole.cells.cell_of)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "3.npz").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shards", "0"], "shards"),
        (["--split", "validation"], "train, test or all"),
        (["--layers", "nowhere"], "nowhere"),
        (["--device", "nowhere"], "nowhere"),
        (["--weights", "missing.pt"], "missing.pt"),
        (["--seed", "9" * 23], "out of range"),
        (["--outputs", "-3"], "-3"),
        (["--outputs", "0"], "0"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert codes(tmp_path / "space.npz", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "space.npz").exists()


def test_an_output_in_a_missing_folder_is_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert codes(tmp_path / "nowhere" / "space.npz") == 2
    assert "folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--shards", "--image-size"])
def test_options_of_data_sets_are_refused_beside_shards_whatever_their_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
):
    np.savez(tmp_path / "0.npz", inputs=np.zeros((3, 1, 8, 8), np.float32))
    assert codes(tmp_path / "c.npz", "--data", str(tmp_path / "0.npz"), option, "0") == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize(("data", "output"), [("shards", "shards/c.npz"), ("shards/0.npz", "shards/0.npz")])
def test_an_output_among_the_shards_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: str, output: str
):
    monkeypatch.chdir(tmp_path)
    Path("shards").mkdir()
    np.savez("shards/0.npz", inputs=np.zeros((3, 1, 8, 8), np.float32))
    before = Path("shards/0.npz").read_bytes()
    assert codes(Path(output), "--data", data) == 2
    assert output in capsys.readouterr().err
    assert [file.name for file in Path("shards").iterdir()] == ["0.npz"]
    assert Path("shards/0.npz").read_bytes() == before


def test_shards_of_other_weights_are_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert codes(tmp_path / "space.npz", "-q") == 0
    state = {name: value + 1 for name, value in network().state_dict().items()}
    torch.save(state, tmp_path / "other.pt")
    before = (tmp_path / "space.npz").read_bytes()
    assert codes(tmp_path / "space.npz", "-q", "--weights", str(tmp_path / "other.pt")) == 2
    assert "weights" in capsys.readouterr().err
    assert (tmp_path / "space.npz").read_bytes() == before


def test_a_number_of_shards_is_refused_where_the_data_are_shards(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/a.npz", inputs=np.zeros((4, 1, 8, 8), np.float32))
    assert codes(tmp_path / "space.npz", "--data", str(tmp_path / "data"), "--shards", "0") == 2
    assert "Leave out --shards" in capsys.readouterr().err
