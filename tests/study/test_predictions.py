"""Predictions are compact, without pickles, and read back exactly or with an error that names the trial."""

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
    from_bytes,
    predict,
    read_predictions,
    to_bytes,
    upload_predictions,
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
    predictions = predict(network, split, batch_size=64)
    assert network.training
    with torch.no_grad():
        expected = network.eval()(split.inputs).argmax(dim=1)
    assert predictions.classes.tolist() == expected.tolist()
    assert predictions.correct.tolist() == (expected == split.labels).tolist()
    assert predictions.correct.mean() == pytest.approx(accuracy(network, split), abs=1e-12)


def test_predictions_need_labels():
    with pytest.raises(InputError, match="no labels"):
        predict(nn.Linear(2, 2), Split(torch.zeros(3, 2), None))


def test_the_digest_differs_for_other_samples_and_another_order():
    first = Predictions.from_classes([0, 1, 1], [0, 1, 0])
    assert first.labels == Predictions.from_classes([1, 1, 1], [0, 1, 0]).labels
    assert first.labels == Predictions.from_classes([0, 1, 1], np.array([0, 1, 0], np.int32)).labels
    others = ([1, 0, 0], [0, 1], [0, 1, 0, 0])
    assert first.labels not in [
        Predictions.from_classes(np.zeros(len(labels), int), labels).labels for labels in others
    ]


@pytest.mark.parametrize(("classes", "dtype"), [(1, "uint8"), (256, "uint8"), (257, "uint16"), (70_000, "uint32")])
def test_the_type_is_the_smallest_that_holds_the_classes(classes, dtype):
    assert Predictions.from_classes([0, classes - 1], [0, 0]).classes.dtype == dtype


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=40))
def test_predictions_are_read_back_as_written(rows):
    classes, labels = [row[0] for row in rows], [row[1] for row in rows]
    predictions = Predictions.from_classes(np.array(classes, int), np.array(labels, int))
    assert same(from_bytes(to_bytes(predictions)), predictions)


def test_a_prediction_takes_9_bits_at_most():
    generator = np.random.default_rng(0)
    predictions = Predictions.from_classes(generator.integers(256, size=10_000), generator.integers(256, size=10_000))
    assert len(to_bytes(predictions)) < 10_000 * 9 / 8 + 1500


@pytest.mark.parametrize(("classes", "labels"), [([0, 1], [0]), ([[0], [1]], [[0], [1]]), ([-1], [0]), ([0.5], [0])])
def test_values_that_are_not_class_numbers_are_refused(classes, labels):
    with pytest.raises(InputError, match="predictions"):
        Predictions.from_classes(classes, labels)


def test_an_artifact_belongs_to_its_trial_and_has_a_file_name(tmp_path):
    storage, store = optuna.storages.InMemoryStorage(), FileSystemArtifactStore(tmp_path)
    study = optuna.create_study(storage=storage)
    study = optuna.create_study(storage=storage)
    trial, predictions = study.ask(), Predictions.from_classes([0, 1, 2], [0, 1, 1])
    artifact = upload_predictions(predictions, trial, store)
    study.tell(trial, 0.0)
    (meta,) = get_all_artifact_meta(study.trials[0], storage=storage)
    assert (meta.artifact_id, meta.filename) == (artifact, FILE)
    assert [file.name for file in tmp_path.iterdir()] == [artifact]
    assert same(read_predictions(artifact, store, "trial 0"), predictions)


def test_any_class_with_write_and_open_reader_is_a_store():
    class Memory(dict):
        def write(self, artifact_id, content_body):
            self[artifact_id] = content_body.read()

        def open_reader(self, artifact_id):
            return io.BytesIO(self[artifact_id])

    store, predictions = Memory(), Predictions.from_classes([0, 1], [1, 1])
    artifact = upload_predictions(predictions, optuna.create_study().ask(), store)
    assert same(read_predictions(artifact, store, "trial 0"), predictions)


def test_the_error_for_a_missing_artifact_names_it(tmp_path):
    with pytest.raises(InputError, match=r"predictions of trial 7, artifact abc, are not in this store"):
        read_predictions("abc", FileSystemArtifactStore(tmp_path), "trial 7")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip" * 50])
def test_the_error_for_a_damaged_artifact_names_it(tmp_path, content):
    (tmp_path / "abc").write_bytes(content)
    with pytest.raises(InputError, match=r"trial 7, artifact abc: the file is damaged"):
        read_predictions("abc", FileSystemArtifactStore(tmp_path), "trial 7")


def test_a_changed_byte_is_an_error_or_changes_nothing():
    predictions = Predictions.from_classes(np.arange(60) % 7, np.arange(60) % 5)
    content = to_bytes(predictions)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        try:
            read = from_bytes(bytes(damaged))
        except InputError:
            continue
        assert same(read, predictions), place


def test_a_truncated_file_is_refused():
    content = to_bytes(Predictions.from_classes(np.arange(60) % 7, np.arange(60) % 5))
    for keep in range(0, len(content), 7):
        with pytest.raises(InputError, match="damaged"):
            from_bytes(content[:keep])


def test_pickles_are_not_read():
    file = io.BytesIO()
    np.savez(file, header=np.array([{}], dtype=object), classes=np.array([0]), correct=np.array([0]))
    with pytest.raises(InputError, match="damaged or holds no predictions"):
        from_bytes(file.getvalue())


@pytest.mark.parametrize(
    "parts", [{"classes": np.zeros(3, np.int64)}, {"correct": np.zeros(2, np.uint8)}, {"version": 9}]
)
def test_inconsistent_parts_are_refused(parts):
    file = io.BytesIO()
    version = parts.pop("version", 1)
    header = b'{"version": %d, "samples": 3, "labels": "x"}' % version
    arrays = {"classes": np.zeros(3, np.uint8), "correct": np.zeros(1, np.uint8)} | parts
    np.savez(file, header=np.frombuffer(header, np.uint8), **arrays)
    with pytest.raises(InputError, match="do not fit"):
        from_bytes(file.getvalue())
