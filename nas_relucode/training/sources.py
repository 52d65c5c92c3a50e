"""Where images come from: data sets by name, .npz files, folders of images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nas_relucode.errors import InputError, first_line
from nas_relucode.npz_files import read_arrays
from nas_relucode.training.images import image_files, read_image
from nas_relucode.training.names import SOURCES

VALIDATION = ("val", "valid", "validation")  # names of a folder that takes the place of test/ where there is none


@dataclass(frozen=True, eq=False)
class Images:
    """Images as they were read, float32 in [0, 1] or uint8, (samples, channels, height, width), and their labels."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def take(self, rows: Tensor | np.ndarray) -> Images:
        """The images of these rows, in their order."""
        rows = torch.as_tensor(rows)
        return replace(self, images=self.images[rows], labels=self.labels[rows])


def read_source(source: str, root: Path, download: bool, image_size: int | None) -> tuple[Images, Images]:
    """The training and the test images of a source; those of a folder are resized while they are read."""
    if source in SOURCES:
        return READERS[source](root, download)
    path = Path(source)
    if path.suffix == ".npz":
        return _npz(path)
    if path.is_dir():
        return _folder(path, image_size)
    raise InputError(
        f"unknown data {source!r}. Known: {', '.join(SOURCES)}, an .npz file, or a folder of images that exists."
    )


def _digits(root: Path, download: bool) -> tuple[Images, Images]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images / 16).float().unsqueeze(1)  # grey levels 0..16
    every = Images(images, torch.from_numpy(bunch.target).long(), tuple(map(str, range(10))))
    return hold_out(every, 0.2, seed=0)


def _mnist(root: Path, download: bool) -> tuple[Images, Images]:
    from torchvision.datasets import MNIST

    def split(train: bool) -> Images:
        data = _torchvision(MNIST, root, train, download)
        return Images(data.data.unsqueeze(1), data.targets.long(), tuple(map(str, range(10))))

    return split(True), split(False)


def _cifar10(root: Path, download: bool) -> tuple[Images, Images]:
    from torchvision.datasets import CIFAR10  # reads the official batches only after their checksums agree

    def split(train: bool) -> Images:
        data = _torchvision(CIFAR10, root, train, download)
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return Images(images, torch.tensor(data.targets), tuple(data.classes))

    return split(True), split(False)


def _cifar10_small(root: Path, download: bool) -> tuple[Images, Images]:
    subset = root / "cifar10_subset.npz"
    if subset.is_file():
        return _npz(subset)
    train, test = _cifar10(root, download)
    return hold_out(train, 0.2, seed=0)[1], hold_out(test, 0.2, seed=0)[1]


READERS: dict[str, Callable[[Path, bool], tuple[Images, Images]]] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar10_small": _cifar10_small,
}


def _torchvision(dataset: type, root: Path, train: bool, download: bool):  # type: ignore[no-untyped-def]
    """The data set under ``root``, downloaded if it is missing or ``download``; torchvision's progress is not shown."""
    if not download:
        try:
            return dataset(root=str(root), train=train, download=False)
        except (OSError, RuntimeError, ValueError) as error:
            if "not found" not in str(error):  # torchvision says so of missing files
                raise InputError(
                    f"{dataset.__name__} under {root} cannot be read ({error}). Delete its files there and run again."
                ) from error
    folders = root / dataset.__name__ / "raw", root / dataset.__name__, root
    missing = [folder for folder in folders if not folder.exists()]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return dataset(root=str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        for folder in missing:
            with contextlib.suppress(OSError):  # not there, or something was downloaded into it
                folder.rmdir()
        why = first_line(error).rstrip(":")[:200]
        raise InputError(
            f"{dataset.__name__} is not under {root} and could not be downloaded ({why}). Name the folder that holds "
            "it (data_root=, --data-root on the command line), or try again with a network connection."
        ) from error


def _npz(path: Path) -> tuple[Images, Images]:
    keys = ["x_train", "y_train", "x_test", "y_test"]
    arrays = read_arrays(
        path,
        f"Give an .npz file with {', '.join(keys)}; write plain arrays with numpy.savez_compressed.",
        [*keys, "classes"],
    )
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise InputError(f"{path} has no {', '.join(missing)}. It needs the arrays {', '.join(keys)}.")
    names = _class_names(path, arrays["classes"]) if "classes" in arrays else None
    names = _checked_labels(path, arrays, names)

    def split(name: str) -> Images:
        images, labels = _nchw(arrays[f"x_{name}"], f"x_{name} in {path}"), arrays[f"y_{name}"]
        if len(images) != len(labels):
            raise InputError(
                f"{path} has {len(images)} images but {len(labels)} labels for {name}. Give one label for each image."
            )
        return Images(images, torch.from_numpy(labels.astype(np.int64)), names)

    train, test = split("train"), split("test")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(f"x_train and x_test in {path} hold images of different shapes. Resize them to one shape.")
    return train, test


def _checked_labels(path: Path, arrays: dict[str, np.ndarray], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the classes, by default their numbers. Raises InputError for labels that are none of them."""
    for key in ("y_train", "y_test"):
        if arrays[key].ndim != 1 or arrays[key].dtype.kind not in "iu":
            raise InputError(
                f"{key} in {path} is {arrays[key].dtype} of shape {arrays[key].shape}. "
                "Labels are integers, one for each sample."
            )
    if not len(arrays["y_train"]):
        raise InputError(f"{path} has no training images. Give at least one.")
    # Without names the largest label decides how many classes there are, at most one for each training image.
    count = len(names) if names else min(int(arrays["y_train"].max()) + 1, len(arrays["y_train"]))
    for key in ("y_train", "y_test"):
        if len(arrays[key]) and not 0 <= arrays[key].min() <= arrays[key].max() < count:
            raise InputError(
                f"{key} in {path} is out of range: labels lie in {arrays[key].min()}..{arrays[key].max()}, "
                f"but must lie in 0..{count - 1}. Number the classes from 0, or store their names as 'classes'."
            )
    return names or tuple(map(str, range(count)))


def _class_names(path: Path, array: np.ndarray) -> tuple[str, ...]:
    names = tuple(array.astype(str).tolist()) if array.ndim == 1 and array.dtype.kind in "USiu" else ()
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"classes in {path} is {array.dtype} of shape {array.shape}. It holds the names of the classes: a list of "
            "different strings, or leave it out."
        )
    return names


def _nchw(array: np.ndarray, name: str) -> Tensor:
    channels_fit = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in (1, 3))
    if array.dtype != np.uint8 or not channels_fit or 0 in array.shape[1:]:
        raise InputError(
            f"{name} is {array.dtype} of shape {array.shape}. Images are uint8, NHW or NHWC with 1 or 3 channels."
        )
    array = array[..., None] if array.ndim == 3 else array
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _folder(path: Path, image_size: int | None) -> tuple[Images, Images]:
    if not (path / "train").is_dir():
        return hold_out(_image_folder(path, image_size), 0.2, seed=0)
    held = [name for name in ("test", *VALIDATION) if (path / name).is_dir()]
    if len(held) != 1:
        raise InputError(
            f"{path} holds train/ and {' and '.join(held) or 'no test/ or val/'}. Lay it out as train/CLASS/* and "
            "test/CLASS/* (or val/CLASS/* in its place); what to validate on is held out of train/."
        )
    train, test = (_image_folder(path / name, image_size) for name in ("train", held[0]))
    if train.classes != test.classes:
        raise InputError(f"{path}/train and {path}/{held[0]} hold different classes: {train.classes}, {test.classes}.")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(f"{path} holds images of different sizes. Set image_size to resize them.")
    return train, test


def _image_folder(path: Path, image_size: int | None) -> Images:
    """The images of ``CLASS/*``, at any depth; hidden files and folders, whose names start with a dot, are skipped."""
    files = image_files(path)
    images = []
    for names in files.values():
        for file in names:
            image = torch.from_numpy(read_image(file)).permute(2, 0, 1)
            images.append(image if image_size is None else interpolate(image.unsqueeze(0), image_size)[0])
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{path} holds images of different sizes. Set image_size to resize them.")
    if len({image.dtype for image in images}) > 1:
        images = [scaled(image) for image in images]
    labels = np.repeat(np.arange(len(files)), [len(names) for names in files.values()])
    return Images(torch.stack(images), torch.from_numpy(labels), tuple(files))


def hold_out(part: Images, fraction: float, seed: int) -> tuple[Images, Images]:
    """The images without a fraction of each class, and that fraction."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(part.images))
    try:
        kept, held_out = train_test_split(rows, test_size=fraction, random_state=seed, stratify=part.labels.numpy())
    except ValueError as error:
        images = f"{len(rows)} image{' is' if len(rows) == 1 else 's are'}"
        raise InputError(f"{images} too few to set {fraction:g} of each class aside ({error}).") from error
    return part.take(np.sort(kept)), part.take(np.sort(held_out))


def interpolate(images: Tensor, size: int) -> Tensor:
    """Bilinear, with antialiasing where images shrink; float32 in [0, 1]."""
    return functional.interpolate(scaled(images), (size, size), mode="bilinear", antialias=True)


def scaled(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images
