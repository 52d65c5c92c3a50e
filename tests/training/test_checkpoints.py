"""Checkpoints: what was written comes back, and nothing else is taken for a checkpoint or overwritten."""

import io
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.training import checkpoints
from nas_relucode.training.checkpoints import load_checkpoint, save_checkpoint
from nas_relucode.training.data import load_data
from nas_relucode.training.loop import Recipe, train
from nas_relucode.training.networks import build_network

SETTINGS = {"head": "16", "learning_rate": 0.1, "layers": ("head.1", "head.3")}


def written(path, **changed):
    state = {"epoch": 3, "network": {"weight": torch.arange(4.0)}}
    return save_checkpoint(path, state, **({"settings": SETTINGS, "results": {"curve": [0.1, None]}} | changed))


def test_what_was_written_comes_back(tmp_path):
    state, results = load_checkpoint(written(tmp_path / "run.pt"), settings=SETTINGS)
    assert state["epoch"] == 3
    assert torch.equal(state["network"]["weight"], torch.arange(4.0))
    assert results == {"curve": [0.1, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_missing_file_is_read_as_none(tmp_path):
    assert load_checkpoint(tmp_path / "run.pt", settings=SETTINGS) is None


def test_a_later_checkpoint_takes_the_place_of_an_earlier_one(tmp_path):
    written(tmp_path / "run.pt")
    path = written(tmp_path / "run.pt", results="later", settings=dict(reversed(SETTINGS.items())))
    assert load_checkpoint(path, settings=SETTINGS)[1] == "later"


def test_a_run_read_from_disk_ends_with_the_same_bits(tmp_path):
    data = load_data("digits", train_samples=100).train
    recipe = Recipe(epochs=4, batch_size=32, momentum=0.9)
    path = tmp_path / "run.pt"

    def build() -> nn.Module:
        return build_network("8", (1, 8, 8), 10, backbone="small_conv")

    def keep(epoch) -> None:
        save_checkpoint(path, epoch.state(), settings=SETTINGS, results=[epoch.loss])
        if epoch.number == 2 and network is stopped:
            raise KeyboardInterrupt

    network = stopped = build()
    with pytest.raises(KeyboardInterrupt):
        train(network, data, learning_rate=0.1, recipe=recipe, on_epoch=keep)
    state, results = load_checkpoint(path, settings=SETTINGS)
    assert state["epoch"] == 2
    assert len(results) == 1
    network, whole = build(), build()
    train(network, data, learning_rate=0.1, recipe=recipe, on_epoch=keep, resume=state)
    train(whole, data, learning_rate=0.1, recipe=recipe)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert load_checkpoint(path, settings=SETTINGS)[0]["epoch"] == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SETTINGS | {"learning_rate": 0.2}, r"of other settings: learning_rate was 0\.1 and is 0\.2"),
        (SETTINGS | {"seed": 1}, r"seed was 'nothing' and is 1"),
        ({"head": "16"}, r"layers was \['head\.1', 'head\.3'\] and is 'nothing'; learning_rate was 0\.1"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_and_kept(tmp_path, settings, message):
    path = written(tmp_path / "run.pt")
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        load_checkpoint(path, settings=settings)
    with pytest.raises(InputError, match=message):
        written(path, settings=settings)
    assert path.read_bytes() == before


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_checkpoint_that_was_cut_short_or_altered_is_refused_and_kept(tmp_path, data):
    """One whose body alone was altered is refused on loading, and replaced on saving, which reads only the head."""
    path = tmp_path / "run.pt"
    path.unlink(missing_ok=True)
    whole = written(path).read_bytes()
    body = whole.index(b"PK")
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        broken = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    path.write_bytes(broken)
    refused = pytest.raises(InputError, match=r"run\.pt (is not a checkpoint|is cut short|was cut short or altered)")
    with refused:
        load_checkpoint(path, settings=SETTINGS)
    if len(broken) == len(whole) and broken[:body] == whole[:body]:
        assert written(path).read_bytes() == whole
        return
    with refused:
        written(path)
    assert path.read_bytes() == broken


def test_saving_reads_only_the_head_of_the_earlier_checkpoint(tmp_path, monkeypatch):
    path = written(tmp_path / "run.pt")
    head = path.read_bytes().index(b"PK")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the state was loaded"))
    read = []
    opened = checkpoints._read_head

    def watched(path, file):
        head = opened(path, file)
        read.append(file.tell())
        return head

    monkeypatch.setattr(checkpoints, "_read_head", watched)
    monkeypatch.setattr(checkpoints.hashlib, "file_digest", lambda *_: pytest.fail("the body was read"))
    written(path)
    assert read == [head]


def test_the_head_holds_the_settings_as_a_line_of_json(tmp_path):
    lines = written(tmp_path / "run.pt").read_bytes().split(b"\n")
    assert json.loads(lines[2]) == json.loads(json.dumps(SETTINGS))


def test_settings_that_are_not_plain_values_are_refused(tmp_path):
    for wrong in ({"weight": torch.zeros(1)}, {(1, 2): 3}):
        with pytest.raises(InputError, match="settings cannot be written as JSON"):
            written(tmp_path / "run.pt", settings=wrong)
    assert not list(tmp_path.iterdir())


def test_an_earlier_checkpoint_is_kept_if_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = written(tmp_path / "run.pt")
    before = path.read_bytes()

    def failing(content, file):
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="the disk is full"):
        written(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_files_are_refused_and_kept(tmp_path):
    foreign = io.BytesIO()
    torch.save({"settings": SETTINGS}, foreign)
    for content in (foreign.getvalue(), b"some text", pickle.dumps(SETTINGS)):
        path = tmp_path / "foreign"
        path.write_bytes(content)
        for use in (lambda: load_checkpoint(path, settings=SETTINGS), lambda: written(path)):  # noqa: B023
            with pytest.raises(InputError, match=r"foreign is not a checkpoint\. Delete it to start anew"):
                use()
        assert path.read_bytes() == content
    path.write_bytes(b"nas-relucode checkpoint 1\n" + bytes(99))
    with pytest.raises(InputError, match="foreign is a checkpoint of another version"):
        load_checkpoint(path, settings=SETTINGS)
    with pytest.raises(InputError, match="not a file"):
        load_checkpoint(tmp_path, settings=SETTINGS)


def test_no_code_in_a_checkpoint_is_run(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code of the file was run",))

    monkeypatch.setattr("nas_relucode.training.checkpoints._plain", lambda value, where: value)
    path = written(tmp_path / "run.pt", results=Trap())
    with pytest.raises(InputError, match="holds more than tensors and plain values"):
        load_checkpoint(path, settings=SETTINGS)


def test_numbers_of_numpy_are_written_as_plain_ones(tmp_path):
    path = written(tmp_path / "run.pt", results=[np.float64(0.5), np.int64(2), np.float32(0.25), np.bool_(True)])
    results = load_checkpoint(path, settings=SETTINGS)[1]
    assert results == [0.5, 2, 0.25, True]
    assert [type(value) for value in results] == [float, int, float, bool]


def test_a_value_that_a_checkpoint_cannot_hold_is_named(tmp_path):
    with pytest.raises(InputError, match=r"results\.curve\.1 is an ndarray, which a checkpoint cannot hold"):
        written(tmp_path / "run.pt", results={"curve": [1, np.zeros(2)]})
    assert not list(tmp_path.iterdir())
