"""Data sets as whole tensors of images and labels, split into train, validation and test (Table 1)."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nas_relucode.errors import InputError, unknown
from nas_relucode.npz_files import read_arrays
from nas_relucode.texts import html_table
from nas_relucode.training.images import image_files, read_image
from nas_relucode.training.names import SOURCES

LARGEST_SIZE = 16_384  # pixels
VALIDATION = ("val", "valid", "validation")  # names of a folder that takes the place of test/ where there is none


@dataclass(frozen=True)
class Split:
    """Inputs (samples, ...) as float32 and labels (samples,) as int64, on one device."""

    inputs: Tensor
    labels: Tensor | None

    def __post_init__(self) -> None:
        if self.labels is not None and self.labels.shape != self.inputs.shape[:1]:
            raise InputError(
                f"there are {len(self.inputs)} inputs, but labels of shape {tuple(self.labels.shape)}. "
                "Give one label for each input."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        labels = "without labels" if self.labels is None else "with labels"
        shape, dtype = tuple(self.inputs.shape[1:]), str(self.inputs.dtype).removeprefix("torch.")
        return f"Split of {len(self):,} samples {labels}: inputs {shape}, {dtype}, on {self.inputs.device}"

    def to(self, device: torch.device | str) -> Split:
        """The same samples on ``device``."""
        return Split(self.inputs.to(device), None if self.labels is None else self.labels.to(device))


@dataclass(frozen=True)
class ImageData:
    """A data set in three splits. Objectives see train and validation; the test split is for the report only.

    >>> load_data("digits", validation=0.25, classes=[4, 9])
    ImageData digits: 2 classes (4, 9), on cpu
    split       samples  images
    train           216  (1, 8, 8)
    validation       73  (1, 8, 8)
    test             72  (1, 8, 8)
    """

    name: str  # what the data are called
    classes: tuple[str, ...]
    train: Split  # images float32, NCHW, in [0, 1] unless normalised; labels 0 .. classes - 1
    validation: Split  # may be empty
    test: Split  # takes no part in any choice

    def __repr__(self) -> str:
        rows = [f"{name:<10}  {samples:>7}  {images}" for name, samples, images in self._table()]
        return "\n".join([self._title(), *rows])

    def _repr_html_(self) -> str:
        """The table as a notebook shows it."""
        return f"<p>{html.escape(self._title())}</p>{html_table(self._table())}"

    def _title(self) -> str:
        names = ", ".join([*self.classes[:10], *(["..."] if len(self.classes) > 10 else [])])
        return f"ImageData {self.name}: {len(self.classes)} classes ({names}), on {self.train.inputs.device}"

    def _table(self) -> list[tuple[str, str, str]]:
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        rows = [(name, f"{len(split):,}", str(tuple(split.inputs.shape[1:]))) for name, split in splits.items()]
        return [("split", "samples", "images"), *rows]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.inputs.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        """The split ``name``: ``train``, ``validation``, ``test``, or ``all`` of them concatenated in this order."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if name == "all":
            labels = [split.labels for split in splits.values() if split.labels is not None]
            return Split(torch.cat([split.inputs for split in splits.values()]), torch.cat(labels))
        if name not in splits:
            raise unknown("split", name, [*splits, "all"])
        return splits[name]

    def digest(self) -> str:
        """A SHA-256 of every image and label; equal data sets have equal digests."""
        sha256 = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.inputs, split.labels):
                if tensor is not None:
                    sha256.update(repr(tuple(tensor.shape)).encode())
                    sha256.update(tensor.cpu().contiguous().numpy())
        return sha256.hexdigest()

    def to(self, device: torch.device | str) -> ImageData:
        """The same data with every tensor on ``device``."""
        parts = (self.train, self.validation, self.test)
        train, validation, test = (part.to(device) for part in parts)
        return replace(self, train=train, validation=validation, test=test)


@dataclass(frozen=True)
class _Images:
    """Images as they were read, float32 in [0, 1] or uint8, (samples, channels, height, width), and their labels."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def take(self, rows: Tensor | np.ndarray) -> _Images:
        rows = torch.as_tensor(rows)
        return replace(self, images=self.images[rows], labels=self.labels[rows])


def load_data(
    source: str,
    *,
    data_root: str | Path = "data",
    download: bool = False,
    classes: Sequence[int | str] | None = None,
    image_size: int | None = None,
    train_samples: int | None = None,
    test_samples: int | None = None,
    validation: float = 0.0,
    normalise: bool = False,
    seed: int = 0,
) -> ImageData:
    """A data set as whole tensors on the CPU.

    ``source`` is one of

    - ``digits``: scikit-learn's 8x8 digits, which need no download;
    - ``mnist``, ``cifar10``: torchvision's, under ``data_root``; downloaded if they are missing or if ``download``;
    - ``cifar10_small``: 1,000 training and 200 test images of each class, from ``cifar10_subset.npz`` under
      ``data_root`` if there is one, else drawn from CIFAR-10;
    - an ``.npz`` file with x_train, y_train, x_test, y_test (uint8, NHWC or NHW; ``classes``, their names, is
      optional);
    - a folder of images: ``train/CLASS/*`` and ``test/CLASS/*`` (or, as ImageNet has it, ``val/CLASS/*``), or
      ``CLASS/*``; hidden files and folders are skipped, grey images of 16 bits are read at their depth.

    ``classes`` keeps these classes (numbers or names) and numbers them 0, 1, ... in the order given. ``image_size``
    makes images square, in pixels: MNIST is padded with zeros, others are resized. ``train_samples`` and
    ``test_samples`` keep a random subset. ``validation`` is the fraction of the training images to hold out, class by
    class. ``normalise`` subtracts the training images' mean and divides by their standard deviation, channel by
    channel. Of a source without a test split (digits, ``CLASS/*``) a fifth of the images become the test split, the
    same ones for every ``seed``.

    Raises InputError for a source that cannot be read, and for settings that do not fit it.

    >>> data = load_data("digits", validation=0.25, classes=[4, 9])
    >>> data.image_shape, data.classes, len(data.train), len(data.validation), len(data.test)
    ((1, 8, 8), ('4', '9'), 216, 73, 72)
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation {validation!r} is not a fraction. Give a number of at least 0 and below 1.")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed {seed!r} is out of range. Give a whole number from 0 to 2**32 - 1.")
    if image_size is not None and not 1 <= image_size <= LARGEST_SIZE:
        raise InputError(f"image_size {image_size} is out of range. Give 1 to {LARGEST_SIZE} pixels.")
    train, test = _load(source, Path(data_root), download, image_size)
    if classes is not None:
        train, test = _subset(train, classes), _subset(test, classes)
    train = _random_subset(train, train_samples, seed, "train_samples")
    test = _random_subset(test, test_samples, seed, "test_samples")
    if image_size is not None:
        _check_memory(sum(len(part.images) for part in (train, test)) * train.images.shape[1], image_size)
        resize = _pad if source == "mnist" else _interpolate
        train, test = (replace(part, images=resize(part.images, image_size)) for part in (train, test))
    train, held_out = _hold_out(train, validation, seed) if validation else (train, train.take(np.arange(0)))
    parts = (train, held_out, test)
    images_of_parts = [_scaled(part.images) for part in parts]
    if normalise:
        mean = images_of_parts[0].mean(dim=(0, 2, 3), keepdim=True)
        deviation = images_of_parts[0].std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-8)
        images_of_parts = [(images - mean) / deviation for images in images_of_parts]
    empty = set(range(len(train.classes))) - set(train.labels.tolist())
    if classes is not None and empty:
        names = ", ".join(train.classes[label] for label in sorted(empty))
        raise InputError(f"{source} has no training image of the classes {names}. Leave them out of classes.")
    splits = [Split(images, part.labels) for images, part in zip(images_of_parts, parts, strict=True)]
    return ImageData(source, train.classes, *splits)


def _load(source: str, root: Path, download: bool, image_size: int | None) -> tuple[_Images, _Images]:
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


def _digits(root: Path, download: bool) -> tuple[_Images, _Images]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images / 16).float().unsqueeze(1)  # grey levels 0..16
    every = _Images(images, torch.from_numpy(bunch.target).long(), tuple(map(str, range(10))))
    return _hold_out(every, 0.2, seed=0)


def _mnist(root: Path, download: bool) -> tuple[_Images, _Images]:
    from torchvision.datasets import MNIST

    def split(train: bool) -> _Images:
        data = _torchvision(MNIST, root, train, download)
        return _Images(data.data.unsqueeze(1), data.targets.long(), tuple(map(str, range(10))))

    return split(True), split(False)


def _cifar10(root: Path, download: bool) -> tuple[_Images, _Images]:
    from torchvision.datasets import CIFAR10  # reads the official batches only after their checksums agree

    def split(train: bool) -> _Images:
        data = _torchvision(CIFAR10, root, train, download)
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return _Images(images, torch.tensor(data.targets), tuple(data.classes))

    return split(True), split(False)


def _cifar10_small(root: Path, download: bool) -> tuple[_Images, _Images]:
    subset = root / "cifar10_subset.npz"
    if subset.is_file():
        return _npz(subset)
    train, test = _cifar10(root, download)
    return _hold_out(train, 0.2, seed=0)[1], _hold_out(test, 0.2, seed=0)[1]


READERS: dict[str, Callable[[Path, bool], tuple[_Images, _Images]]] = {
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
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return dataset(root=str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{dataset.__name__} is not under {root} and could not be downloaded ({error}). "
            "Name the folder that holds it with --data-root, or try again with a network connection."
        ) from error


def _npz(path: Path) -> tuple[_Images, _Images]:
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
    names = names or tuple(map(str, range(count)))

    def split(name: str) -> _Images:
        images, labels = _nchw(arrays[f"x_{name}"], f"x_{name} in {path}"), arrays[f"y_{name}"]
        if len(images) != len(labels):
            raise InputError(
                f"{path} has {len(images)} images but {len(labels)} labels for {name}. Give one label for each image."
            )
        return _Images(images, torch.from_numpy(labels.astype(np.int64)), names)

    train, test = split("train"), split("test")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(f"x_train and x_test in {path} hold images of different shapes. Resize them to one shape.")
    return train, test


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


def _folder(path: Path, image_size: int | None) -> tuple[_Images, _Images]:
    if not (path / "train").is_dir():
        return _hold_out(_image_folder(path, image_size), 0.2, seed=0)
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


def _image_folder(path: Path, image_size: int | None) -> _Images:
    """The images of ``CLASS/*``, at any depth; hidden files and folders, whose names start with a dot, are skipped."""
    files = image_files(path)
    images = []
    for names in files.values():
        for file in names:
            image = torch.from_numpy(read_image(file)).permute(2, 0, 1)
            images.append(image if image_size is None else _interpolate(image.unsqueeze(0), image_size)[0])
    if len({image.shape for image in images}) > 1:
        raise InputError(f"{path} holds images of different sizes. Set image_size to resize them.")
    if len({image.dtype for image in images}) > 1:
        images = [_scaled(image) for image in images]
    labels = np.repeat(np.arange(len(files)), [len(names) for names in files.values()])
    return _Images(torch.stack(images), torch.from_numpy(labels), tuple(files))


def _subset(part: _Images, classes: Sequence[int | str]) -> _Images:
    chosen: list[int] = []
    for name in classes:
        if name in part.classes:
            chosen.append(part.classes.index(str(name)))
        elif type(name) is not bool and name in range(len(part.classes)):
            chosen.append(int(name))
        else:
            raise unknown("class", str(name), part.classes)
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise InputError(f"classes {list(classes)} are not two or more different classes. Name each once.")
    new_labels = torch.full((len(part.classes),), -1)
    new_labels[chosen] = torch.arange(len(chosen))
    rows = torch.nonzero(new_labels[part.labels] >= 0).flatten()
    names = tuple(part.classes[number] for number in chosen)
    return _Images(part.images[rows], new_labels[part.labels[rows]], names)


def _random_subset(part: _Images, samples: int | None, seed: int, setting: str) -> _Images:
    if samples is None:
        return part
    if not 1 <= samples <= len(part.images):
        raise InputError(
            f"{setting} is {samples}, but there are {len(part.images)} images. Give 1..{len(part.images)}."
        )
    generator = torch.Generator().manual_seed(seed)
    return part.take(torch.randperm(len(part.images), generator=generator)[:samples])


def _hold_out(part: _Images, fraction: float, seed: int) -> tuple[_Images, _Images]:
    """The images without a fraction of each class, and that fraction."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(part.images))
    try:
        kept, held_out = train_test_split(rows, test_size=fraction, random_state=seed, stratify=part.labels.numpy())
    except ValueError as error:
        raise InputError(
            f"{len(rows)} images are too few to set {fraction:g} of each class aside ({error})."
        ) from error
    return part.take(np.sort(kept)), part.take(np.sort(held_out))


def _pad(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[2:]
    if size < max(height, width):
        return _interpolate(images, size)
    top, left = (size - height) // 2, (size - width) // 2
    return functional.pad(images, (left, size - width - left, top, size - height - top))


def _check_memory(maps: int, size: int) -> None:
    """Raises InputError if so many maps of size x size float32 numbers are more than the machine's memory."""
    needed = 4 * maps * size**2
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else needed
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        memory = memory if limit == resource.RLIM_INFINITY else min(memory, limit)
    if needed > memory:
        raise InputError(
            f"image_size {size} needs {needed / 2**30:.0f} GiB for all images, of {memory / 2**30:.0f} GiB of memory. "
            "Give a smaller image_size, or fewer samples."
        )


def _interpolate(images: Tensor, size: int) -> Tensor:
    """Bilinear, with antialiasing where images shrink; float32 in [0, 1]."""
    return functional.interpolate(_scaled(images), (size, size), mode="bilinear", antialias=True)


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images
