"""Data sets as whole tensors of images and labels, split into train, validation and test (Table 1)."""

from __future__ import annotations

import contextlib
import hashlib
import html
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nas_relucode.errors import InputError, a_type, finite_number, unknown, whole_number
from nas_relucode.texts import html_table, plain
from nas_relucode.training.sources import Images, hold_out, interpolate, read_source, scaled

LARGEST_SIZE = 16_384  # pixels


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs (samples, ...) as float32 and labels (samples,) as int64, on one device."""

    inputs: Tensor
    labels: Tensor | None

    def __post_init__(self) -> None:
        for name, values in {"inputs": self.inputs, "labels": self.labels}.items():
            if not isinstance(values, Tensor) and (values is not None or name == "inputs"):
                raise InputError(f"the {name} of a Split are {a_type(values)}. Give a tensor: torch.as_tensor(...).")
        if not self.inputs.ndim:
            raise InputError("the inputs of a Split are a single number. Give a tensor (samples, ...).")
        if self.labels is not None and (self.labels.is_floating_point() or self.labels.is_complex()):
            raise InputError(f"the labels of a Split are {self.labels.dtype}. Give whole numbers: labels.long().")
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


@dataclass(frozen=True, eq=False)
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
        names = ", ".join([*map(plain, self.classes[:10]), *(["..."] if len(self.classes) > 10 else [])])
        return f"ImageData {plain(self.name)}: {len(self.classes)} classes ({names}), on {self.train.inputs.device}"

    def _table(self) -> list[tuple[str, str, str]]:
        rows = [(name, f"{len(split):,}", str(tuple(split.inputs.shape[1:]))) for name, split in self._splits.items()]
        return [("split", "samples", "images"), *rows]

    @property
    def _splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.train.inputs.shape[1:]
        return channels, height, width

    def split(self, name: str) -> Split:
        """The split ``name``: ``train``, ``validation``, ``test``, or ``all`` of them concatenated in this order."""
        if name == "all":
            labels = [split.labels for split in self._splits.values() if split.labels is not None]
            return Split(torch.cat([split.inputs for split in self._splits.values()]), torch.cat(labels))
        if name not in self._splits:
            raise unknown("split", name, [*self._splits, "all"])
        return self._splits[name]

    def digest(self) -> str:
        """A SHA-256 of every image and label; equal data sets have equal digests."""
        sha256 = hashlib.sha256()
        for split in self._splits.values():
            for tensor in (split.inputs, split.labels):
                if tensor is not None:
                    sha256.update(repr(tuple(tensor.shape)).encode())
                    sha256.update(tensor.cpu().contiguous().numpy())
        return sha256.hexdigest()

    def to(self, device: torch.device | str) -> ImageData:
        """The same data with every tensor on ``device``."""
        return ImageData(self.name, self.classes, *(split.to(device) for split in self._splits.values()))


def load_data(
    source: str | Path,
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
    if not isinstance(source, str | Path):
        raise InputError(f"source is {source!r}. Give the name of a data set, an .npz file or a folder of images.")
    source = str(source)
    validation = finite_number("validation", validation, most=1, below=True)
    whole_number("seed", seed, most=2**32 - 1)
    for name, value, most in (
        ("image_size", image_size, LARGEST_SIZE),
        ("train_samples", train_samples, None),
        ("test_samples", test_samples, None),
    ):
        if value is not None:
            whole_number(name, value, least=0 if most is None else 1, most=most)  # how many there are is known later
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Iterable)):
        raise InputError(f"classes are {classes!r}. Give a list of numbers or names.")
    train, test = read_source(source, Path(data_root), download, image_size)
    if classes is not None:
        train, test = _subset(train, classes), _subset(test, classes)
    train = _random_subset(train, train_samples, seed, "train_samples")
    test = _random_subset(test, test_samples, seed, "test_samples")
    if image_size is not None:
        _check_memory((len(train.images) + len(test.images)) * train.images.shape[1], image_size)
        resize = _pad if source == "mnist" else interpolate
        train, test = (replace(part, images=resize(part.images, image_size)) for part in (train, test))
    train, held_out = hold_out(train, validation, seed) if validation else (train, train.take(np.arange(0)))
    empty = set(range(len(train.classes))) - set(train.labels.tolist())
    if classes is not None and empty:
        names = ", ".join(train.classes[label] for label in sorted(empty))
        raise InputError(f"{source} has no training image of the classes {names}. Leave them out of classes.")
    splits = [Split(scaled(part.images), part.labels) for part in (train, held_out, test)]
    return ImageData(source, train.classes, *(_normalised(splits) if normalise else splits))


def _normalised(splits: Sequence[Split]) -> list[Split]:
    """The splits less the first one's mean, and divided by its standard deviation, channel by channel."""
    mean = splits[0].inputs.mean(dim=(0, 2, 3), keepdim=True)
    deviation = splits[0].inputs.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-8)
    return [Split((split.inputs - mean) / deviation, split.labels) for split in splits]


def _subset(part: Images, classes: Sequence[int | str]) -> Images:
    """The images of these classes, which are numbered anew."""
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
    return Images(part.images[rows], new_labels[part.labels[rows]], names)


def _random_subset(part: Images, samples: int | None, seed: int, setting: str) -> Images:
    """So many random images, or all; ``setting`` is the name of the number in errors."""
    if samples is None:
        return part
    if not 1 <= samples <= len(part.images):
        raise InputError(
            f"{setting} is {samples}, but there are {len(part.images)} images. Give 1..{len(part.images)}."
        )
    generator = torch.Generator().manual_seed(seed)
    return part.take(torch.randperm(len(part.images), generator=generator)[:samples])


def _pad(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[2:]
    if size < max(height, width):
        return interpolate(images, size)
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
