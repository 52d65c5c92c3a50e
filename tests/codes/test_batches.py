"""Which data are accepted, and how they are cut into batches."""

import collections

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nas_relucode import InputError, Split
from nas_relucode.codes.batches import batches, labels_of, moved, samples_of

X = torch.arange(20.0).reshape(10, 2)
Y = torch.arange(10)


def joined(parts, key=None):
    return torch.cat([torch.as_tensor(part if key is None else part[key]) for part in parts])


@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_whole_tensors_are_cut_in_their_order(size):
    for data in (X, X.numpy(), Split(X, None), (X, None)):
        parts = list(batches(data, size))
        assert [len(part) for part in parts[:-1]] == [size] * (len(parts) - 1)
        assert torch.equal(joined(parts), X)


@pytest.mark.parametrize("data", [(X, Y), [X, Y], (X.numpy(), Y.numpy()), Split(X, Y), (X.tolist(), Y.tolist())])
def test_inputs_are_cut_with_their_labels(data):
    parts = list(batches(data, 4))
    assert torch.equal(joined(parts, 0), X)
    assert np.concatenate([labels_of(part) for part in parts]).tolist() == Y.tolist()


def test_dicts_of_tensors_are_cut_as_one():
    parts = list(batches({"a": X, "b": {"c": Y}}, 4))
    assert torch.equal(joined(parts, "a"), X)
    assert torch.equal(torch.cat([part["b"]["c"] for part in parts]), Y)
    labelled = list(batches(({"a": X}, Y), 4))
    assert labels_of(labelled[2]).tolist() == [8, 9]


def test_batches_are_used_as_they_are():
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    assert [samples_of(batch) for batch in batches(loader, 100)] == [3, 3, 3, 1]
    some = [X[:7], X[7:]]
    assert batches(some, 2) is some
    generator = (part for part in some)
    assert batches(generator, 2) is generator


@pytest.mark.parametrize(
    "other",
    [X, (X, Y[:9]), (X, Y.double()), (X, Y[:, None]), (X,), (X, Y, Y), (X, None), {"a": X, "b": Y}, "labels"],
)
def test_only_whole_numbers_one_a_sample_are_labels(other):
    assert labels_of(other) is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_become_int64(dtype):
    labels = labels_of((X, Y.to(dtype)))
    assert labels.dtype == np.int64
    assert labels.tolist() == Y.tolist()


def test_a_moved_batch_keeps_its_form():
    point = collections.namedtuple("Point", "x y")
    batch = (point(X.numpy(), [Y]), {"k": X}, "text")
    after = moved(batch, torch.device("meta"))
    assert type(after) is tuple
    assert isinstance(after[0], point)
    assert after[2] == "text"
    assert {after[0].x.device.type, after[0].y[0].device.type, after[1]["k"].device.type} == {"meta"}


def test_arrays_that_cannot_be_written_to_are_read():
    array = X.numpy().copy()
    array.flags.writeable = False
    assert torch.equal(moved(array, torch.device("cpu")), X)


def test_other_data_are_refused():
    for data in (5, None, "digits", TensorDataset(X, Y)):
        with pytest.raises(InputError, match=f"data is a {type(data).__name__}. Give a tensor.*DataLoader"):
            batches(data, 4)
    with pytest.raises(InputError, match=r"labels are float32 of shape \(10,\) for 10 inputs. Give whole numbers"):
        batches((X, Y.float()), 4)
    with pytest.raises(InputError, match=r"labels are int64 of shape \(9,\) for 10 inputs"):
        batches((X, Y[:9]), 4)
    with pytest.raises(InputError, match="a batch is a dict without a tensor"):
        samples_of({"text": "abc"})
