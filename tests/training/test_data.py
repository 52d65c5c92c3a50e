"""Data: the oracles are scikit-learn, torchvision, PIL and numpy reading the same files."""

import dataclasses
import time
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from nas_relucode.errors import InputError
from nas_relucode.training.data import ImageData, Split, load_data

RANDOM = np.random.default_rng(0)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def rows(*splits: Split) -> Counter[bytes]:
    """The multiset of labelled images, each as its bytes."""
    return Counter(
        image.numpy().tobytes() + bytes([int(label)])
        for split in splits
        for image, label in zip(split.inputs, split.labels, strict=True)
    )


def write_npz(folder: Path, **changes: np.ndarray | None) -> str:
    """An .npz file of 20 + 4 random 6x5 images of two classes; an array given as None is left out."""
    arrays = {
        "x_train": RANDOM.integers(0, 256, (20, 6, 5), dtype=np.uint8),
        "y_train": np.arange(20) % 2,
        "x_test": RANDOM.integers(0, 256, (4, 6, 5), dtype=np.uint8),
        "y_test": np.arange(4) % 2,
    } | changes
    path = folder / "images.npz"
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return str(path)


def write_png(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (7, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


# digits, and what holds of every source


def test_digits_are_those_of_scikit_learn_divided_by_16():
    data = load_data("digits", validation=0.25)
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)
    expected = Counter(i.tobytes() + bytes([y]) for i, y in zip(images, bunch.target, strict=True))
    assert rows(data.train, data.validation, data.test) == expected  # equal multisets: the splits are disjoint
    assert data.image_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.train.inputs.dtype == torch.float32
    assert data.train.labels.dtype == torch.int64
    assert data.train.inputs.min() == 0
    assert data.train.inputs.max() == 1


@given(seed=st.integers(0, 2**32 - 1), fraction=st.floats(0.05, 0.9))
def test_each_class_gives_its_fraction_and_the_test_split_stays(seed, fraction):
    whole = load_data("digits")
    data = load_data("digits", validation=fraction, seed=seed)
    assert torch.equal(data.test.inputs, whole.test.inputs)
    assert rows(data.train, data.validation) == rows(whole.train)
    every = np.bincount(load_digits().target)
    assert np.abs(np.bincount(data.test.labels) - every / 5).max() <= 1
    assert (
        np.abs(np.bincount(data.validation.labels, minlength=10) - np.bincount(whole.train.labels) * fraction).max()
        <= 1
    )


def test_the_seed_decides_the_validation_split():
    first, again, other = (load_data("digits", validation=0.2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.validation.inputs, again.validation.inputs)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert rows(first.validation) != rows(other.validation)


def test_a_random_part_of_the_samples_is_kept():
    whole = load_data("digits")
    parts = [load_data("digits", train_samples=50, test_samples=20, seed=seed) for seed in (0, 0, 1)]
    for part in parts:
        assert (len(part.train), len(part.test)) == (50, 20)
        assert rows(part.train) <= rows(whole.train)
        assert rows(part.test) <= rows(whole.test)
    assert rows(parts[0].train) == rows(parts[1].train) != rows(parts[2].train)


def test_all_is_train_validation_and_test_one_after_the_other():
    data = load_data("digits", validation=0.2)
    parts = [data.split(name) for name in ("train", "validation", "test")]
    assert torch.equal(data.split("all").inputs, torch.cat([part.inputs for part in parts]))
    assert torch.equal(data.split("all").labels, torch.cat([part.labels for part in parts]))
    with pytest.raises(InputError, match=r"unknown split 'val'\. Known: train, validation, test, all"):
        data.split("val")


def test_loading_does_not_change_the_random_states():
    before = torch.random.get_rng_state(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    load_data("digits", validation=0.2, train_samples=50)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002


# MNIST and CIFAR-10


def test_mnist_is_torchvisions_divided_by_255(mnist_root):
    data = load_data("mnist", data_root=mnist_root)
    for split, train in ((data.train, True), (data.test, False)):
        theirs = MNIST(str(mnist_root), train=train)
        assert torch.equal(split.inputs[:, 0], theirs.data / 255)
        assert torch.equal(split.labels, theirs.targets)
    assert len(data.validation) == 0


@pytest.mark.parametrize("size", [32, 33])
def test_mnist_is_padded_not_stretched(mnist_root, size):
    images = load_data("mnist", data_root=mnist_root, image_size=size, train_samples=1).test.inputs
    assert images.shape == (100, 1, size, size)
    assert torch.equal(images[:, 0, 2:30, 2:30], MNIST(str(mnist_root), train=False).data / 255)
    images[:, 0, 2:30, 2:30] = 0
    assert not images.any()


@pytest.mark.parametrize("classes", [[4, 9], ["4", "9"], [9, 4]])
def test_the_papers_classes_4_and_9_become_0_and_1(mnist_root, classes):
    data = load_data("mnist", data_root=mnist_root, classes=classes)
    theirs = MNIST(str(mnist_root), train=False)
    kept = (theirs.targets == 4) | (theirs.targets == 9)
    assert torch.equal(data.test.inputs[:, 0], theirs.data[kept] / 255)
    assert torch.equal(data.test.labels, (theirs.targets[kept] == int(classes[1])).long())
    assert data.classes == tuple(map(str, classes))


def test_the_papers_classes_frog_and_deer_become_0_and_1(data_root):
    path = data_root / "cifar10_subset.npz"
    data = load_data(str(path), classes=["frog", "deer"])
    assert data.classes == ("frog", "deer")
    with np.load(path) as file:
        names = file["classes"][file["y_train"]]
        kept = (names == "frog") | (names == "deer")
        expected = file["x_train"][kept].astype(np.float32) / 255
    assert np.array_equal(data.train.inputs.permute(0, 2, 3, 1), expected)
    assert np.array_equal(data.train.labels, names[kept] == "deer")


def test_the_cifar10_subset_names_its_classes(data_root):
    data = load_data(str(data_root / "cifar10_subset.npz"))
    assert data.classes == CIFAR10
    assert data.train.labels.bincount().tolist() == [1000] * 10
    assert data.test.labels.bincount().tolist() == [200] * 10


@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_absent_data_without_a_network_name_the_option_to_set(source, tmp_path, monkeypatch, capfd):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there: no network, on any machine
    monkeypatch.setattr(urllib.request, "_opener", None)  # it may have been made with other proxies
    start = time.perf_counter()
    refusal = rf"(?s)is not under {tmp_path} and could not be downloaded.*--data-root"
    with pytest.raises(InputError, match=refusal) as error:
        load_data(source, data_root=tmp_path)
    assert "data_root=" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    assert time.perf_counter() - start < 20
    assert capfd.readouterr() == ("", "")


def test_a_damaged_mnist_is_not_called_absent(mnist_root, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        raw.joinpath(file.name).write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InputError, match=rf"MNIST .*{tmp_path}") as raised:
        load_data("mnist", data_root=tmp_path)
    assert "is not under" not in str(raised.value)


# .npz files


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3)])
def test_npz_images_become_channels_first(tmp_path, shape):
    images = RANDOM.integers(0, 256, (20, *shape), dtype=np.uint8)
    data = load_data(write_npz(tmp_path, x_train=images, x_test=images[:4]))
    channels = shape[2] if len(shape) == 3 else 1
    assert data.image_shape == (channels, 6, 5)
    for channel in range(channels):
        expected = images.reshape(20, 6, 5, channels)[..., channel].astype(np.float32) / 255
        assert np.array_equal(data.train.inputs[:, channel], expected)
    assert data.train.labels.tolist() == [0, 1] * 10
    assert data.classes == ("0", "1")


@pytest.mark.parametrize("size", [3, 16])
def test_images_are_resized_as_pil_does(tmp_path, size):
    images = RANDOM.integers(0, 256, (20, 6, 5), dtype=np.uint8)
    data = load_data(write_npz(tmp_path, x_train=images), image_size=size)
    pil = [np.asarray(Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR)) for i in images]
    assert np.abs(data.train.inputs[:, 0].numpy() * 255 - np.stack(pil)).max() < 1.01  # PIL rounds twice
    assert data.test.inputs.shape == (4, 1, size, size)


def test_normalising_uses_the_training_images_of_each_channel(tmp_path):
    images = RANDOM.integers(0, (40, 100, 255), (20, 6, 5, 3), dtype=np.uint8)
    path = write_npz(tmp_path, x_train=images, x_test=255 - images[:4])
    plain, ours = (load_data(path, validation=0.2, normalise=normalise) for normalise in (False, True))
    mean, deviation = (f(plain.train.inputs.numpy(), axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    for name in ("train", "validation", "test"):
        expected = (plain.split(name).inputs.numpy() - mean) / deviation
        np.testing.assert_allclose(ours.split(name).inputs, expected, rtol=2e-3, atol=1e-4)  # std of n or n - 1


def test_a_constant_channel_stays_finite_when_normalised(tmp_path):
    path = write_npz(tmp_path, x_train=np.full((20, 6, 5), 7, np.uint8))
    assert load_data(path, normalise=True).train.inputs.abs().max() < 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None, "x_test": None}, "has no x_test, y_test. It needs the arrays x_train, y_train"),
        ({"x_train": np.array([{}] * 20)}, "cannot be read.*plain arrays"),
        ({"x_train": np.zeros((20, 6, 5))}, r"x_train in .* is float64 of shape \(20, 6, 5\). Images are uint8"),
        ({"x_test": np.zeros((4, 30), np.uint8)}, r"x_test in .* of shape \(4, 30\). Images are uint8, NHW or NHWC"),
        ({"x_train": np.zeros((20, 6, 5, 2), np.uint8)}, r"\(20, 6, 5, 2\).* with 1 or 3 channels"),
        ({"x_train": np.zeros((20, 3, 6, 5), np.uint8)}, r"\(20, 3, 6, 5\).* NHWC"),
        ({"x_test": np.zeros((4, 9, 9), np.uint8)}, "x_train and x_test in .* different shapes"),
        ({"y_train": np.arange(20) / 2}, "y_train in .* is float64 .* Labels are integers"),
        (
            {"y_test": np.zeros((4, 1), int)},
            r"y_test in .* of shape \(4, 1\). Labels are integers, one for each sample",
        ),
        ({"y_train": np.arange(20) % 2 - 1}, r"y_train in .* out of range: labels lie in -1\.\.0"),
        ({"y_test": np.arange(4)}, r"y_test in .* labels lie in 0\.\.3, but must lie in 0\.\.1"),
        ({"classes": np.array(["cat"])}, r"y_train in .* labels lie in 0\.\.1, but must lie in 0\.\.0"),
        ({"y_train": np.arange(20) * 50_000}, "y_train in .*950000"),
        ({"y_train": np.arange(19) % 2}, "has 20 images but 19 labels for train"),
        ({"y_train": np.arange(20).astype("m8[s]")}, "y_train in .* is timedelta64"),
        ({"classes": np.array("ab")}, "classes in .* a list of different strings"),
        ({"classes": np.array(["a", "a"])}, "classes in .* a list of different strings"),
        ({"x_train": np.zeros((0, 6, 5), np.uint8), "y_train": np.zeros(0, int)}, "has no training images"),
    ],
)
def test_npz_files_that_do_not_fit_are_explained(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        load_data(write_npz(tmp_path, **changes))


@pytest.mark.parametrize("kept", [0, 100, 1000, -1])
def test_a_truncated_npz_file_is_named(tmp_path, kept):
    path = Path(write_npz(tmp_path))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=rf"{path} cannot be read"):
        load_data(str(path))


def test_an_npz_file_that_is_another_file_is_named(tmp_path):
    path = tmp_path / "images.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))  # .npy under the name of .npz
    with pytest.raises(InputError, match=rf"{path} cannot be read"):
        load_data(str(path))
    with pytest.raises(InputError, match=r"none\.npz.*there is no"):
        load_data(str(tmp_path / "none.npz"))


def folder(root, classes, count):
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(root / name / f"{number}.png")


def test_an_image_is_read_at_its_depth_or_refused_with_its_mode(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (12, 8, 8)).astype(np.uint16)
    for number, image in enumerate(deep):
        path = tmp_path / "ab"[number % 2] / f"{number:02}.tif"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    images = load_data(str(tmp_path)).split("all").inputs
    assert images.shape[1:] == (3, 8, 8)
    assert np.isclose(np.sort(images[:, 0].ravel()), np.sort(deep.ravel() / 65535)).all()
    Image.fromarray(deep[0].astype(np.float32)).save(path)
    with pytest.raises(InputError, match=rf"{path} has the mode F"):
        load_data(str(tmp_path))


def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path):
    folder(tmp_path, ["cat", "dog"], 6)
    for hidden in (".ipynb_checkpoints/0.png", "cat/.ipynb_checkpoints/0.png", "dog/._0.png", "__MACOSX/cat/0.png"):
        path = tmp_path / hidden
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    data = load_data(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert len(data.split("all")) == 12


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_one_bad_image_is_named(tmp_path, content):
    folder(tmp_path, ["cat", "dog"], 6)
    bad = tmp_path / "dog" / "bad.png"
    bad.write_bytes((tmp_path / "cat" / "0.png").read_bytes()[:44] if content is None else content)
    with pytest.raises(InputError, match=rf"{bad} cannot be read as an image"):
        load_data(str(tmp_path))


def test_imagenets_val_takes_the_place_of_test(tmp_path):
    for part, count in (("train", 6), ("val", 2)):
        folder(tmp_path / part, ["cat", "dog"], count)
    data = load_data(str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 0, 4)


def test_class_names_may_be_bytes(tmp_path):
    assert load_data(write_npz(tmp_path, classes=np.array([b"cat", b"dog"]))).classes == ("cat", "dog")


# folders of images


def test_a_folder_with_train_and_test_is_taken_as_it_is(tmp_path):
    for part, base in (("train", 0), ("test", 100)):
        for name, red in (("dog", 20), ("cat", 10)):
            for number in range(3):
                write_png(tmp_path / part / name / f"{number}.png", (red, base, number))
    data = load_data(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.image_shape == (3, 5, 7)
    for split, base in ((data.train, 0), (data.test, 100)):
        colours = (split.inputs * 255).round()
        assert (colours == colours[:, :, :1, :1]).all()
        expected = [(10.0 * (1 + label), float(base), float(number)) for label in (0, 1) for number in range(3)]
        assert sorted(map(tuple, colours[:, :, 0, 0].tolist())) == expected
        assert torch.equal(split.labels, (colours[:, 0, 0, 0] / 10 - 1).long())


def test_a_folder_without_a_test_split_gives_a_fifth_of_each_class_to_the_test_split(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            write_png(tmp_path / name / f"{number}.png", (label, number, 0))
    data = load_data(str(tmp_path))
    assert (data.train.labels.bincount().tolist(), data.test.labels.bincount().tolist()) == ([8, 8], [2, 2])
    every = {(int(i[0, 0, 0] * 255 + 0.5), int(i[1, 0, 0] * 255 + 0.5)) for i in data.split("all").inputs}
    assert every == {(label, number) for label in range(2) for number in range(10)}


def test_images_of_different_sizes_need_an_image_size(tmp_path):
    for number in range(5):
        write_png(tmp_path / "cat" / f"{number}.png", (255, 0, 0), size=(7 + number, 5))
    with pytest.raises(InputError, match=r"images of different sizes\. Set image_size"):
        load_data(str(tmp_path))
    data = load_data(str(tmp_path), image_size=6)
    assert data.image_shape == (3, 6, 6)
    assert torch.allclose(data.train.inputs[:, 0], torch.tensor(1.0))
    assert not data.train.inputs[:, 1:].any()


def test_train_and_test_of_different_sizes_or_classes_are_refused(tmp_path):
    write_png(tmp_path / "train" / "cat" / "0.png", (0, 0, 0))
    write_png(tmp_path / "test" / "cat" / "0.png", (0, 0, 0), size=(9, 9))
    with pytest.raises(InputError, match=r"different sizes\. Set image_size"):
        load_data(str(tmp_path))
    write_png(tmp_path / "test" / "dog" / "0.png", (0, 0, 0))
    with pytest.raises(InputError, match=r"different classes: \('cat',\), \('cat', 'dog'\)"):
        load_data(str(tmp_path), image_size=8)


def test_a_folder_with_train_but_no_test_is_not_taken_for_classes(tmp_path):
    for part in ("train", "other"):
        for number in range(5):
            write_png(tmp_path / part / "cat" / f"{number}.png", (0, 0, 0))
    with pytest.raises(InputError, match=rf"{tmp_path}") as raised:
        load_data(str(tmp_path))
    assert "test" in str(raised.value).replace(str(tmp_path), "")


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path} is not a folder of images.*CLASS/image.png"):
        load_data(str(tmp_path))


# arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"source": "svhn"},
            "unknown data 'svhn'. Known: digits, mnist, cifar10, cifar10_small, an .npz file, or a folder",
        ),
        ({"validation": 1.0}, r"validation 1\.0 .*below 1"),
        ({"validation": -0.1}, r"validation -0\.1"),
        ({"validation": float("nan")}, "validation nan"),
        ({"validation": 0.001}, "1437 images are too few to set 0.001 of each class aside"),
        ({"validation": 0.2, "seed": -1}, "seed -1"),
        ({"classes": ["cat", 3]}, "unknown class 'cat'. Known: 0, 1, 2"),
        ({"classes": [10, 3]}, "unknown class '10'. Known: 0, 1, 2"),
        ({"classes": [-1, 3]}, "unknown class '-1'"),
        ({"classes": [True, False]}, "unknown class"),
        ({"classes": [3]}, r"classes \[3\] are not two or more different classes"),
        ({"classes": [3, "3"]}, r"classes \[3, '3'\] are not two or more different"),
        ({"image_size": 0}, "image_size 0 is out of range"),
        ({"image_size": 16_385}, "image_size 16385 is out of range"),
        ({"image_size": 10**24}, f"image_size {10**24} is out of range"),
        ({"image_size": 16_384}, "16384 needs .* GiB"),  # before anything is resized
        ({"train_samples": 0}, r"train_samples is 0, but there are 1437 images. Give 1\.\.1437"),
        ({"test_samples": 361}, r"test_samples is 361, but there are 360 images. Give 1\.\.360"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        load_data(**{"source": "digits"} | arguments)


def test_too_few_images_to_stratify_are_counted(tmp_path):
    path = write_npz(tmp_path, y_train=np.array([0] * 19 + [1]))
    with pytest.raises(InputError, match=r"20 images are too few to set 0\.2 of each class aside"):
        load_data(path, validation=0.2)


def test_classes_without_a_training_image_are_refused(tmp_path):
    path = write_npz(tmp_path, classes=np.array(["cat", "dog", "frog", "deer"]))
    with pytest.raises(InputError, match="frog"):
        load_data(path, classes=["frog", "deer"])


def test_class_numbers_may_be_numpys():
    assert load_data("digits", classes=list(np.array([4, 9]))).classes == ("4", "9")


def test_another_number_of_labels_than_of_inputs_is_refused():
    with pytest.raises(InputError, match=r"3 inputs, but labels of shape \(2,\). Give one label for each input"):
        Split(torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_data_move_to_the_gpu_whole():
    data: ImageData = load_data("digits", validation=0.2)
    for name in ("train", "validation", "test", "all"):
        there, here = data.to("cuda").split(name), data.split(name)
        assert there.inputs.is_cuda
        assert there.labels.is_cuda
        assert torch.equal(there.inputs.cpu(), here.inputs)


def test_data_print_as_a_short_table():
    data = load_data("digits", validation=0.25)
    lines = repr(data).splitlines()
    assert lines[0] == "ImageData digits: 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), on cpu"
    assert [line.split()[:2] for line in lines[2:]] == [["train", "1,077"], ["validation", "360"], ["test", "360"]]
    assert all(line.endswith("(1, 8, 8)") for line in lines[2:])
    assert repr(data.train) == "Split of 1,077 samples with labels: inputs (1, 8, 8), float32, on cpu"
    hostile = dataclasses.replace(data, name="a\x1b[31m", classes=("\x1b[2J", "b\nc"))
    assert "\x1b" not in repr(hostile)
    assert len(repr(hostile).splitlines()) == len(lines)
    assert "without labels" in repr(Split(data.train.inputs, None))
    page = dataclasses.replace(data, name="<own>", classes=tuple(map(str, range(12))))._repr_html_()
    assert "ImageData &lt;own&gt;: 12 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)" in page
    assert "<tr><td>train</td><td>1,077</td><td>(1, 8, 8)</td></tr>" in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation": "0.2"},
        {"seed": "a"},
        {"image_size": 2.5},
        {"image_size": True},
        {"train_samples": 2.5},
        {"classes": 3},
        {"source": None},
    ],
    ids=str,
)
def test_settings_of_other_types_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}.*Give"):
        load_data(**{"source": "digits", **wrong})
