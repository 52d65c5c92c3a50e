"""Predictions: compact, without pickles, and either what was kept or an error that names the trial."""

import io

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.study.predictions import (
    FILE,
    Predictions,
    find_predictions,
    from_bytes,
    keep_predictions,
    predict,
    to_bytes,
)
from nas_relucode.training.data import Split
from nas_relucode.training.loop import accuracy


def same(one: Predictions, other: Predictions) -> bool:
    arrays = [(one.classes, other.classes), (one.correct, other.correct)]
    return one.labels == other.labels and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randn(700, 5, generator=generator), torch.arange(700) % 3)


def test_predictions_are_those_of_plain_pytorch_and_their_mean_is_the_accuracy(split):
    network = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    found = predict(network, split, batch_size=64)
    assert network.training
    with torch.no_grad():
        expected = network.eval()(split.inputs).argmax(dim=1)
    assert found.classes.tolist() == expected.tolist()
    assert found.correct.tolist() == (expected == split.labels).tolist()
    assert found.correct.mean() == pytest.approx(accuracy(network, split), abs=1e-12)


def test_without_labels_nothing_is_right():
    with pytest.raises(InputError, match="no labels"):
        predict(nn.Linear(2, 2), Split(torch.zeros(3, 2), None))


def test_the_digest_tells_other_samples_and_another_order():
    first = Predictions.of([0, 1, 1], [0, 1, 0])
    assert first.labels == Predictions.of([1, 1, 1], [0, 1, 0]).labels
    assert first.labels == Predictions.of([0, 1, 1], np.array([0, 1, 0], np.int32)).labels
    others = ([1, 0, 0], [0, 1], [0, 1, 0, 0])
    assert first.labels not in [Predictions.of(np.zeros(len(labels), int), labels).labels for labels in others]


@pytest.mark.parametrize(("classes", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (70_000, "uint32")])
def test_the_type_is_the_smallest_that_holds_the_classes(classes, dtype):
    assert Predictions.of([0, classes - 1], [0, 0]).classes.dtype == dtype


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=40))
def test_what_is_written_is_what_is_read(rows):
    classes, labels = [row[0] for row in rows], [row[1] for row in rows]
    found = Predictions.of(np.array(classes, int), np.array(labels, int))
    assert same(from_bytes(to_bytes(found)), found)


def test_a_prediction_takes_9_bits_at_most():
    generator = np.random.default_rng(0)
    found = Predictions.of(generator.integers(256, size=10_000), generator.integers(256, size=10_000))
    assert len(to_bytes(found)) < 10_000 * 9 / 8 + 1500


@pytest.mark.parametrize(("classes", "labels"), [([0, 1], [0]), ([[0], [1]], [[0], [1]]), ([-1], [0]), ([0.5], [0])])
def test_what_are_no_class_numbers_is_refused(classes, labels):
    with pytest.raises(InputError, match="predictions"):
        Predictions.of(classes, labels)


def test_an_artifact_lies_with_its_trial_under_the_name_that_the_dashboard_shows(tmp_path):
    study, store = optuna.create_study(), FileSystemArtifactStore(tmp_path)
    trial, found = study.ask(), Predictions.of([0, 1, 2], [0, 1, 1])
    artifact = keep_predictions(found, trial, store)
    study.tell(trial, 0.0)
    (meta,) = get_all_artifact_meta(study.trials[0], storage=study._storage)
    assert (meta.artifact_id, meta.filename) == (artifact, FILE)
    assert [file.name for file in tmp_path.iterdir()] == [artifact]
    assert same(find_predictions(artifact, store, "trial 0"), found)


def test_a_store_of_another_kind_will_do():
    class Memory(dict):
        def write(self, artifact_id, content_body):
            self[artifact_id] = content_body.read()

        def open_reader(self, artifact_id):
            return io.BytesIO(self[artifact_id])

    store, found = Memory(), Predictions.of([0, 1], [1, 1])
    artifact = keep_predictions(found, optuna.create_study().ask(), store)
    assert same(find_predictions(artifact, store, "trial 0"), found)


def test_a_lost_artifact_is_named(tmp_path):
    with pytest.raises(InputError, match=r"predictions of trial 7, artifact abc, are not in this store"):
        find_predictions("abc", FileSystemArtifactStore(tmp_path), "trial 7")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip" * 50])
def test_a_damaged_artifact_is_named(tmp_path, content):
    (tmp_path / "abc").write_bytes(content)
    with pytest.raises(InputError, match=r"trial 7, artifact abc: the file is damaged"):
        find_predictions("abc", FileSystemArtifactStore(tmp_path), "trial 7")


def test_a_changed_byte_is_an_error_or_changes_nothing():
    found = Predictions.of(np.arange(60) % 7, np.arange(60) % 5)
    content = to_bytes(found)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            read = from_bytes(bytes(damaged))
        except InputError:
            continue
        assert same(read, found), place


def test_a_file_that_was_cut_short_is_refused():
    content = to_bytes(Predictions.of(np.arange(60) % 7, np.arange(60) % 5))
    for keep in range(0, len(content), 7):
        with pytest.raises(InputError, match="damaged"):
            from_bytes(content[:keep])


def test_pickles_are_not_read():
    file = io.BytesIO()
    np.savez(file, header=np.array([{}], dtype=object), classes=np.array([0]), correct=np.array([0]))
    with pytest.raises(InputError, match="damaged, or holds no predictions"):
        from_bytes(file.getvalue())


@pytest.mark.parametrize(
    "parts", [{"classes": np.zeros(3, np.int64)}, {"correct": np.zeros(2, np.uint8)}, {"version": 9}]
)
def test_parts_that_do_not_fit_are_refused(parts):
    file = io.BytesIO()
    version = parts.pop("version", 1)
    header = b'{"version": %d, "samples": 3, "labels": "x"}' % version
    arrays = {"classes": np.zeros(3, np.uint8), "correct": np.zeros(1, np.uint8)} | parts
    np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
    with pytest.raises(InputError, match="do not fit"):
        from_bytes(file.getvalue())
