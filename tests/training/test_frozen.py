"""A frozen backbone: the oracle is the backbone itself, run on every image."""

import numpy as np
import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.training.data import ImageData, Split, load_data
from nas_relucode.training.frozen import frozen_features
from nas_relucode.training.loop import Epoch, Recipe, train
from nas_relucode.training.networks import build_backbone, build_network


class Counting(nn.Module):
    """Counts the images that pass through it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.shown = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown += len(images)
        return self.inner(images)


@pytest.fixture
def data() -> ImageData:
    return load_data("digits", train_samples=100, test_samples=10, validation=0.2)


def backbone(seed: int = 0) -> Counting:
    return Counting(build_backbone((1, 8, 8), backbone="small_conv", seed=seed))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_features_are_the_backbones_outputs(data, tmp_path, batch_size):
    features = frozen_features(backbone(), data, tmp_path, batch_size=batch_size)
    assert features.image_shape == (16, 2, 2)
    assert (features.name, features.classes) == (data.name, data.classes)
    for name in ("train", "validation", "test"):
        with torch.no_grad():
            expected = backbone()(data.split(name).inputs)
        torch.testing.assert_close(features.split(name).inputs, expected)
        assert torch.equal(features.split(name).labels, data.split(name).labels)
    assert [name.rpartition("_")[2] for name in names(tmp_path)] == ["test.npy", "train.npy", "validation.npy"]
    for path in tmp_path.iterdir():
        assert np.load(path, allow_pickle=False).dtype == np.float32


def test_a_head_on_features_trains_as_behind_its_frozen_backbone(data, tmp_path):
    recipe = Recipe(epochs=3, batch_size=8, momentum=0.9)
    whole = build_network("8-4", (1, 8, 8), 10, backbone="small_conv", seed=3, backbone_seed=0)
    whole.backbone.requires_grad_(False)
    features = frozen_features(build_backbone((1, 8, 8), backbone="small_conv", seed=0), data, tmp_path)
    head = build_network("8-4", features.image_shape, 10, backbone="none", seed=3)
    losses: list[list[float]] = []
    for network, split in ((whole, data.train), (head, features.train)):
        epochs: list[Epoch] = []
        train(network, split, learning_rate=0.1, recipe=recipe, on_epoch=epochs.append)
        losses.append([epoch.loss for epoch in epochs[1:]])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_the_backbone_runs_once(data, tmp_path):
    first, second = backbone(), backbone()
    before = frozen_features(first, data, tmp_path)
    images = len(data.train) + len(data.validation) + len(data.test)
    assert first.shown == images + 6  # the first and the last of each split are compared
    after = frozen_features(second, data, tmp_path, batch_size=3)
    assert second.shown == 6
    assert torch.equal(before.train.inputs, after.train.inputs)


def test_other_weights_structures_and_data_have_files_of_their_own(data, tmp_path):
    frozen_features(backbone(), data, tmp_path)
    frozen_features(backbone(seed=1), data, tmp_path)
    wider = nn.Sequential(*build_backbone((1, 8, 8), backbone="small_conv"), nn.MaxPool2d(2))
    frozen_features(wider, data, tmp_path)
    other = ImageData(data.name, data.classes, data.train, data.validation, Split(data.test.inputs * 0.5, None))
    assert frozen_features(backbone(), other, tmp_path).test.labels is None
    assert len(names(tmp_path)) == 12


class Scaled(nn.Module):
    """Multiplies by a factor that is neither a weight nor part of the repr."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.inner = backbone()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * self.inner(images)


def test_a_plain_number_that_the_backbone_computes_with_is_noticed(data, tmp_path):
    before = frozen_features(Scaled(1.0), data, tmp_path)
    after = frozen_features(Scaled(1.1), data, tmp_path)
    for name in ("train", "validation", "test"):
        torch.testing.assert_close(after.split(name).inputs, 1.1 * before.split(name).inputs)
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("row", [0, -1])
def test_a_damaged_first_or_last_row_is_noticed_and_rounding_is_not(data, tmp_path, row):
    before = frozen_features(backbone(), data, tmp_path).train.inputs.clone()
    path = next(path for path in tmp_path.iterdir() if "train" in path.name)
    whole = path.read_bytes()
    array = np.load(path)
    np.save(path, array * np.float32(1 + 1e-4))
    rounded = path.read_bytes()
    frozen_features(backbone(), data, tmp_path)
    assert path.read_bytes() == rounded
    array[row] = 0
    np.save(path, array)
    assert torch.equal(frozen_features(backbone(), data, tmp_path).train.inputs, before)
    assert path.read_bytes() == whole


def test_outputs_that_are_no_numbers_are_taken_from_the_file_too(data, tmp_path):
    class Counted(Counting):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).log().log()  # NaN, and infinite for some

    frozen_features(Counted(nn.Identity()), data, tmp_path)
    again = Counted(nn.Identity())
    frozen_features(again, data, tmp_path)
    assert again.shown == 6


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "shape", "dtype", "pickle"])
def test_a_file_that_cannot_be_used_is_written_anew(data, tmp_path, damage):
    before = frozen_features(backbone(), data, tmp_path).train.inputs.clone()
    path = next(path for path in tmp_path.iterdir() if "train" in path.name)
    whole = path.read_bytes()
    path.unlink()
    if damage in ("cut", "empty", "text"):
        path.write_bytes({"cut": whole[:-1], "empty": b"", "text": b"no features"}[damage])
    else:
        wrong = {"shape": np.zeros((3, 16, 2, 2), np.float32), "dtype": np.zeros((80, 16, 2, 2)), "pickle": [{}, 1]}
        with path.open("wb") as file:
            np.save(file, np.array(wrong[damage], dtype=object if damage == "pickle" else None), allow_pickle=True)
    assert torch.equal(frozen_features(backbone(), data, tmp_path).train.inputs, before)
    assert path.read_bytes() == whole
    assert len(names(tmp_path)) == 3


def test_features_are_mapped_and_the_file_cannot_be_written_through_them(data, tmp_path):
    features = frozen_features(backbone(), data, tmp_path)
    path = next(path for path in tmp_path.iterdir() if "train" in path.name)
    before = path.read_bytes()
    features.train.inputs.zero_()
    assert path.read_bytes() == before
    assert isinstance(np.load(path, mmap_mode="r", allow_pickle=False), np.memmap)


def test_no_file_is_left_if_the_backbone_fails(data, tmp_path):
    class Failing(Counting):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.shown > 10:
                raise RuntimeError("out of memory")
            return super().forward(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        frozen_features(Failing(backbone()), data, tmp_path, batch_size=8)
    assert names(tmp_path) == []


def test_the_backbone_is_unchanged(data, tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features = frozen_features(network, data, tmp_path)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    again = network.eval()(data.train.inputs)
    torch.testing.assert_close(features.train.inputs, again.detach())


def test_rows_of_outputs_are_images_of_one_pixel(data, tmp_path):
    features = frozen_features(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), data, tmp_path)
    assert features.image_shape == (5, 1, 1)


def test_empty_splits_stay_empty(tmp_path):
    data = load_data("digits", train_samples=10)
    features = frozen_features(backbone(), data, tmp_path)
    assert features.validation.inputs.shape == (0, 16, 2, 2)
    assert len(names(tmp_path)) == 2
    nothing = Split(torch.zeros(0, 1, 8, 8), torch.zeros(0).long())
    with pytest.raises(InputError, match="there are no images to run the backbone on"):
        frozen_features(backbone(), ImageData("none", ("0",), nothing, nothing, nothing), tmp_path)


def test_backbones_and_folders_that_cannot_be_used_are_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"outputs of shape \(128,\) for 2 images"):
        frozen_features(nn.Flatten(0), data, tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="file is not a folder"):
        frozen_features(backbone(), data, file)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_features_of_the_gpu_are_those_of_the_cpu(data, tmp_path):
    on_cpu = frozen_features(backbone(), data, tmp_path / "cpu")
    on_gpu = frozen_features(backbone().to("cuda"), data.to("cuda"), tmp_path / "gpu")
    torch.testing.assert_close(on_gpu.train.inputs, on_cpu.train.inputs, rtol=1e-2, atol=1e-2)
