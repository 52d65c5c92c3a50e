"""Shards are read in order, checked, and distinguished by their content."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode import InputError, load_data
from nas_relucode.cells.shards import ShardBatches, code_space_of_shards, cut_into_shards, holds_shards, list_shards

IMAGES = np.arange(24, dtype=np.uint8).reshape(6, 4)
LABELS = np.array([0, 1, 2, 0, 1, 2])


class Rows:
    """The part of a Ray Dataset that is used: batches of columns, and the setting that keeps their order."""

    def __init__(self, **columns):
        self.columns = columns
        self.context = SimpleNamespace(execution_options=SimpleNamespace(preserve_order=False))
        self.in_order = []

    def iter_batches(self, *, batch_size, batch_format):
        assert batch_format == "numpy"
        for start in range(0, len(self.columns["inputs"]), batch_size):
            self.in_order.append(self.context.execution_options.preserve_order)
            yield {name: values[start : start + batch_size] for name, values in self.columns.items()}


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 12))
def test_the_batches_of_the_shards_are_those_of_the_whole(samples, batch_size, shards):
    inputs = torch.arange(samples)
    cut = cut_into_shards((inputs, inputs % 3), shards, batch_size=batch_size)
    assert len(cut) <= shards
    of_shards = [batch for shard in cut for batch in ShardBatches(shard, batch_size)]
    whole = list(ShardBatches((inputs, inputs % 3), batch_size))
    assert [tuple(part.tolist() for part in batch) for batch in of_shards] == [
        tuple(part.tolist() for part in batch) for batch in whole
    ]


def test_data_that_cannot_be_cut_are_refused():
    with pytest.raises(InputError, match="list cannot be cut"):
        cut_into_shards([(torch.zeros(3, 2), torch.zeros(3))], 2)
    with pytest.raises(InputError, match="shards 0"):
        cut_into_shards(torch.zeros(3, 2), 0)


def test_a_folders_shards_come_in_the_order_of_their_names(tmp_path):
    for name in ("b.npz", "a.npz", "c.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in list_shards(tmp_path)] == ["a.npz", "b.npz"]
    assert list_shards(str(tmp_path / "a.npz")) == [tmp_path / "a.npz"]
    dataset = Rows(inputs=IMAGES)
    assert list_shards(dataset) == [dataset]


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2)), "shards are a tuple"),
        (torch.zeros(2, 3), "shards are a Tensor"),
        (load_data("digits").test, "shards are a Split"),
        ([], "there are no shards"),
    ],
)
def test_whole_data_are_refused_as_shards(shards, message):
    with pytest.raises(InputError, match=message):
        list_shards(shards)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \.npz file in"):
        list_shards(tmp_path)


@pytest.mark.parametrize("source", ["file", "compressed", "ray"])
def test_images_from_files_and_ray_are_scaled_and_keep_their_labels(source, tmp_path):
    if source == "ray":
        shard = Rows(inputs=IMAGES, labels=LABELS)
    else:
        shard = tmp_path / "a.npz"
        (np.savez if source == "file" else np.savez_compressed)(shard, inputs=IMAGES, labels=LABELS)
    batches = list(ShardBatches(shard, 4))
    assert [len(inputs) for inputs, _ in batches] == [4, 2]
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), torch.from_numpy(IMAGES).float() / 255)
    assert torch.cat([labels for _, labels in batches]).tolist() == LABELS.tolist()


def test_files_without_labels_give_inputs_only(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=IMAGES.astype(">f4"))
    (inputs,) = ShardBatches(tmp_path / "a.npz", 10)
    assert torch.equal(inputs, torch.from_numpy(IMAGES).float())


def test_rays_rows_keep_their_order_and_its_setting_is_restored():
    dataset = Rows(inputs=IMAGES)
    reading = iter(ShardBatches(dataset, 4))
    next(reading)
    assert dataset.context.execution_options.preserve_order
    reading.close()
    assert not dataset.context.execution_options.preserve_order
    ShardBatches(dataset, 4).read()
    assert dataset.in_order == [True] * 3


def test_the_digest_depends_on_the_content_and_not_on_the_batches(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=IMAGES, labels=LABELS)
    inputs, labels = torch.from_numpy(IMAGES), torch.from_numpy(LABELS)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, labels), batch_size=5)
    shards = [tmp_path / "a.npz", Rows(inputs=IMAGES, labels=LABELS), (inputs, labels), (IMAGES, LABELS), loader]
    digests = {ShardBatches(shard, size).read() for shard in shards for size in (1, 4, 100)}
    assert len(digests) == 1
    passed = ShardBatches(shards[0], 4)
    list(passed)
    assert {passed.digest()} == digests
    altered = inputs.clone()
    altered[3, 2] += 1
    others = [
        (altered, labels),
        (inputs, labels.flip(0)),
        (inputs.flip(0), labels),
        (inputs.float(), labels),
        (inputs.reshape(6, 2, 2), labels),
        (inputs[:5], labels[:5]),
        inputs,
        {"inputs": inputs, "labels": labels},
    ]
    different = {ShardBatches(shard, 4).read() for shard in others}
    assert len(different | digests) == len(others) + 1


def test_the_digest_distinguishes_dtypes_that_numpy_lacks_and_read_only_arrays(tmp_path):
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert ShardBatches(values.bfloat16(), 4).read() != ShardBatches(-values.bfloat16(), 4).read()
    lent = values.numpy().copy()
    lent.flags.writeable = False
    assert ShardBatches(lent, 4).read() == ShardBatches(values, 4).read()
    assert torch.equal(torch.cat(list(ShardBatches(Rows(inputs=lent), 4))), values)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, "holds no inputs"),
        ({"inputs": np.array([object()] * 3)}, "cannot be read"),
        ({"inputs": np.array(["a", "b"])}, "inputs in .* are <U1"),
        ({"inputs": IMAGES[:0]}, r"shape \(0, 4\)"),
        ({"inputs": np.float32(3)}, r"shape \(\)"),
        ({"inputs": IMAGES, "labels": LABELS[:5]}, r"labels in .* shape \(5,\) for 6 inputs"),
        ({"inputs": IMAGES, "labels": LABELS.astype(float)}, "labels in .* are float64"),
        ({"inputs": IMAGES, "labels": LABELS - 1}, "whole numbers from 0"),
        ({"inputs": IMAGES, "labels": LABELS + 2**31}, "labels go up to"),
        ({"inputs": IMAGES.astype(complex)}, "inputs in .* are complex128"),
    ],
)
def test_other_files_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        ShardBatches(tmp_path / "a.npz", 4).read()
    assert holds_shards(tmp_path / "a.npz") == ("inputs" in arrays)
    assert holds_shards(tmp_path)


def test_files_that_are_damaged_or_absent_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no"):
        ShardBatches(tmp_path / "a.npz", 4).read()
    np.savez(tmp_path / "a.npz", inputs=IMAGES)
    content = (tmp_path / "a.npz").read_bytes()
    for keep in (0, 10, len(content) - 5):
        (tmp_path / "a.npz").write_bytes(content[:keep])
        with pytest.raises(InputError, match="cannot be read"):
            ShardBatches(tmp_path / "a.npz", 4).read()
        assert not holds_shards(tmp_path / "a.npz")
    assert not holds_shards("digits")


def test_shards_of_a_network_that_has_changed_since_are_refused(tmp_path):
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.shift = torch.nn.Linear(6, 8), 0.0
            self.register_buffer("mean", torch.zeros(8), persistent=False)

        def forward(self, x):
            return torch.relu(self.linear(x) + self.shift + self.mean)

    network, inputs = Shifted(), torch.randn(40, 6)
    code_space_of_shards(network, [inputs], folder=tmp_path)
    code_space_of_shards(network, [inputs], folder=tmp_path)
    for change in (lambda: network.mean.fill_(5.0), lambda: network.__setattr__("shift", 1.0)):
        change()
        with pytest.raises(InputError, match="other weights"):
            code_space_of_shards(network, [inputs], folder=tmp_path)
        network.mean.zero_()
        network.shift = 0.0
