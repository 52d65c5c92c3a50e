"""Which data are accepted, and how they are cut into batches."""

import collections
import re

import numpy as np
import pytest
import torch
from relu_networks import scripted
from torch.utils.data import DataLoader, Subset, TensorDataset

from nas_relucode import InputError, Split
from nas_relucode.codes.batches import (
    batches,
    drawn_apart,
    labels_of,
    lengths_of,
    moved,
    needed_arguments,
    read_batch,
    rows_of,
    samples_of,
)

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


def test_a_data_set_is_read_in_its_order_without_moving_the_random_state():
    class Squares(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(TensorDataset(X, Y))

    state = torch.get_rng_state()
    for data in (TensorDataset(X, Y), Subset(TensorDataset(X, Y), range(10)), Squares()):
        parts = list(batches(data, 4))
        assert [samples_of(part) for part in parts] == [4, 4, 2]
        assert torch.equal(joined(parts, 0), X)
        assert np.concatenate([labels_of(part) for part in parts]).tolist() == Y.tolist()
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_are_used_as_they_are():
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    assert [samples_of(batch) for batch in batches(loader, 100)] == [3, 3, 3, 1]
    some = [X[:7], X[7:]]
    assert batches(some, 2) is some
    generator = (part for part in some)
    assert batches(generator, 2) is generator


@pytest.mark.parametrize(
    "other", [X, (X, Y[:9]), (X, Y + 0.5), (X, X.long()), (X,), (X, Y, Y), (X, None), {"a": X, "b": Y}, "labels"]
)
def test_only_whole_numbers_one_a_sample_are_labels(other):
    assert labels_of(other) is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.int64, torch.float32, torch.bfloat16])
def test_labels_become_int64(dtype):
    labels = Y.to(dtype)
    given = [labels, labels[:, None], Y.tolist(), *([] if dtype == torch.bfloat16 else [labels.numpy()])]
    for batch in [*((X, some) for some in given), *({"x": X, name: labels} for name in ("label", "labels"))]:
        found = labels_of(batch)
        assert found.dtype == np.int64
        assert found.tolist() == Y.tolist()
    assert labels_of((X, Y > 4)).tolist() == (Y > 4).tolist()


@pytest.mark.parametrize(
    ("batch", "needed", "inputs"),
    [
        ((X, Y), 1, X),
        ((X, Y), 2, (X, Y)),
        ((X, Y, Y), 2, (X, Y)),
        ((X, X, Y), None, (X, X)),
        (((X, Y), Y), 2, (X, Y)),
        ({"x": X, "label": Y}, 1, {"x": X}),
        ({"x": X, "label": Y}, 2, {"x": X, "label": Y}),
        ({"x": X, "labels": Y + 0.5}, 1, {"x": X, "labels": Y + 0.5}),
    ],
)
def test_what_a_network_does_not_need_may_be_its_labels(batch, needed, inputs):
    parts = read_batch(batch, needed)
    assert str(parts.inputs) == str(inputs)
    assert (parts.labels is None) == (str(parts.inputs) == str(batch))
    assert parts.passed is (batch if needed is None else parts.inputs)


@pytest.mark.parametrize("batch", [(X, Y), [X, Y], {"x": X, "label": Y}, ((X, X), Y), (X, X, Y), X])
def test_other_inputs_are_passed_in_the_form_of_the_batch(batch):
    parts = read_batch(batch, None)
    assert str(parts.with_inputs(parts.inputs)) == str(batch)
    assert read_batch(batch, 2).labels is None or read_batch(batch, 2).with_inputs("others") == "others"


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
    for data in (5, None, "digits"):
        with pytest.raises(InputError, match=f"data is an? {type(data).__name__}. Give a tensor.*DataLoader"):
            batches(data, 4)
    with pytest.raises(InputError, match=r"labels are float32 of shape \(10,\) for 10 inputs. Give whole numbers"):
        batches((X, Y + 0.5), 4)
    with pytest.raises(InputError, match=r"labels are int64 of shape \(9,\) for 10 inputs"):
        batches((X, Y[:9]), 4)
    with pytest.raises(InputError, match="a dict of 'text' may have no samples"):
        samples_of({"text": "abc"})
    with pytest.raises(InputError, match="may have 9 or 10 samples"):
        samples_of({"a": X, "b": Y[:9]})


@pytest.mark.parametrize("first", ["path", "image", "boxes", "step"])
def test_samples_are_counted_whatever_part_of_a_dict_is_first(first):
    batch = {"path": ["a"] * 10, "image": X, "boxes": [torch.zeros(3, 4)] * 10, "step": torch.tensor(1)}
    batch = {first: batch.pop(first), **batch}
    assert lengths_of(batch) - {3} == {10}  # a list of boxes could be ten samples, or arguments of three
    rows = rows_of(batch, 10, [1, 4])
    assert torch.equal(rows["image"], X[[1, 4]])
    assert (rows["path"], len(rows["boxes"]), rows["step"]) == (["a", "a"], 2, torch.tensor(1))


def test_two_tensors_of_two_rows_are_columns_and_a_list_of_images_is_a_list_of_samples():
    columns = rows_of([X[:2], Y[:2]], 2, [1])
    assert torch.equal(columns[0], X[1:2])
    assert columns[1].tolist() == [1]
    images = list(torch.rand(4, 3, 5, 5))
    assert [id(image) for image in rows_of(images, 4, [2, 0])] == [id(images[2]), id(images[0])]


@pytest.mark.parametrize("labels", [Y, Y[:, None], Y[:, None].to(torch.uint8)])
def test_whole_numbers_one_per_sample_are_labels_in_a_column_too(labels):
    parts = read_batch([X, labels], 1)
    assert parts.labels.tolist() == Y.tolist()
    assert parts.inputs is X
    assert read_batch([X, labels], 2).labels is None  # a network of two arguments needs them


@pytest.mark.parametrize("rest", [(Y + 0.5,), (Y[:, None] + 0.5,), (torch.eye(10),), (Y, Y)])
def test_what_may_be_labels_or_arguments_is_refused_with_its_shape(rest):
    shape = re.escape(str(tuple(rest[0].shape)))
    with pytest.raises(InputError, match=f"{shape}.*needs 1 argument.*forward="):
        read_batch([X, *rest], 1)
    assert read_batch([X, *rest], 1 + len(rest)).arguments
    assert read_batch([X, *rest], None).lengths >= {10}  # the user's forward knows


def test_a_network_says_how_many_arguments_it_needs():
    class Two(torch.nn.Module):
        def forward(self, x, y, z=None, *rest, last=0): ...

    assert needed_arguments(Two()) == 2
    assert needed_arguments(torch.nn.Sequential()) == 1
    assert needed_arguments(scripted(torch.nn.ReLU())) == 1


def test_what_a_loader_draws_does_not_move_the_random_state():
    def draws():
        for _ in range(3):
            yield torch.rand(2)

    torch.manual_seed(5)
    expected = list(draws())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    parts = []
    for part in drawn_apart(draws()):
        parts.append(part)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(1)
        before = torch.get_rng_state()
    assert torch.equal(torch.stack(parts), torch.stack(expected))


def test_each_mistake_in_labels_has_its_own_remedy():
    inputs, classes = torch.rand(6, 2), torch.arange(6) % 3
    for labels, remedy in (
        (classes[:5], "as many labels as inputs"),
        (torch.nn.functional.one_hot(classes), r"one-hot.*argmax\(1\)"),
        (torch.rand(6), "only classifiers"),
        (["cat", "dog"] * 3, r"numpy\.unique"),
    ):
        with pytest.raises(InputError, match=remedy):
            batches((inputs, labels), 4)


def test_a_list_of_two_like_batches_of_whole_numbers_is_ambiguous():
    tokens = torch.arange(12).reshape(12, 1) % 5
    with pytest.raises(InputError, match=r"two batches, or inputs and their labels.*as a tuple, or iter"):
        batches([tokens[:6], tokens[6:]], 3)
    assert len(list(batches((tokens[:6], tokens[6:]), 3))) == 2
    assert len(list(batches([tokens[:4], tokens[4:8], tokens[8:]], 3))) == 3
