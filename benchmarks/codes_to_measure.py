"""The codes that are measured: those of a network trained on MNIST or digits, and none of uniformly random bits.

Cells of a trained network lie near each other where inputs do, and their bits depend on each other; both decide how
long a search takes. The inputs are therefore 2-D slices through three samples, small patches of such slices,
segments between samples, samples, and samples with noise, in equal parts as far as there are samples.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import nas_relucode as rc
from nas_relucode.codes.bits import Codes, Layer
from nas_relucode.training.names import parse_head

HERE = Path(__file__).parent
DATA_ROOT = HERE.parent.parent / "shared" / "data"
CACHE = Path(tempfile.gettempdir()) / "nas_relucode_benchmarks"
BATCH = 10_000  # inputs taken at once

Kind = Callable[[Tensor, int, torch.Generator], Tensor]


def source(data_root: Path) -> str:
    """MNIST where its files lie under ``data_root``, scikit-learn's digits elsewhere."""
    return "mnist" if (data_root / "MNIST" / "raw").is_dir() else "digits"


def trained(data: rc.ImageData, head: str) -> nn.Module:
    """A perceptron with the hidden layers ``head``, trained long enough that most test images are classified."""
    network = rc.build_network(head, data.image_shape, len(data.classes), backbone="none")
    some = rc.Split(data.train.inputs[:10_000], data.train.labels[:10_000])
    epochs = 2 if len(some) > 5_000 else 20
    rc.train(network, some, learning_rate=0.05, recipe=rc.Recipe(epochs=epochs, batch_size=64, momentum=0.9))
    return network


def distinct_cells(cells: int, head: str, data_root: Path = DATA_ROOT) -> Codes:
    """Exactly ``cells`` distinct codes of a trained network, in random order."""
    return _cached(f"distinct {cells}", head, data_root, lambda data, network: _distinct(data, network, cells))


def samples(count: int, head: str, data_root: Path = DATA_ROOT) -> Codes:
    """The codes of ``count`` inputs in random order: some of them are equal."""
    return _cached(f"samples {count}", head, data_root, lambda data, network: _samples(data, network, count))


def _cached(what: str, head: str, data_root: Path, make: Callable[[rc.ImageData, nn.Module], np.ndarray]) -> Codes:
    name = source(data_root)
    made_by = f"{what} {head} {name} {torch.__version__} {Path(__file__).read_text('utf-8')}"
    path = CACHE / f"{hashlib.sha256(made_by.encode()).hexdigest()[:24]}.npy"
    if not path.exists():
        data = rc.load_data(name, data_root=data_root)
        words = make(data, trained(data, head))
        CACHE.mkdir(exist_ok=True)
        partial = path.with_suffix(f".{np.random.default_rng().integers(2**32)}.npy")
        np.save(partial, words)
        partial.rename(path)
    return as_codes(np.load(path), head)


def as_codes(words: np.ndarray, head: str) -> Codes:
    """The packed codes of the layers of ``head``, whose widths are multiples of 64."""
    layers, start = [], 0
    for place, width in enumerate(parse_head(head)):
        layers.append(Layer(f"head.{2 * place + 1}", (width,), start))
        start += width // 64
    return Codes(words, tuple(layers))


def _samples(data: rc.ImageData, network: nn.Module, count: int) -> np.ndarray:
    images, generator = data.train.inputs, torch.Generator().manual_seed(0)
    parts = []
    for place, kind in enumerate(KINDS):
        wanted = count * (place + 1) // len(KINDS) - count * place // len(KINDS)
        for start in range(0, wanted, BATCH):
            parts.append(_words(network, kind(images, min(BATCH, wanted - start), generator)))
    return np.random.default_rng(0).permutation(np.concatenate(parts))


def _distinct(data: rc.ImageData, network: nn.Module, cells: int) -> np.ndarray:
    images, generator = data.train.inputs, torch.Generator().manual_seed(0)
    found = np.empty((0, 0), np.uint64)
    for place, kind in enumerate(KINDS):
        wanted = cells * (place + 1) // len(KINDS)
        while len(found) < wanted:
            new = [_words(network, kind(images, BATCH, generator)) for _ in range(1 + (wanted - len(found)) // BATCH)]
            before = len(found)
            found = _unique(np.concatenate([found, *new] if before else new))
            if kind is _some and len(found) - before < BATCH // 100:
                break  # there are no more samples; noise makes up for them
    return np.random.default_rng(0).permutation(found)[:cells]


def _words(network: nn.Module, inputs: Tensor) -> np.ndarray:
    return rc.capture(network, inputs, layers="head").words


def _unique(words: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(words).view(np.dtype((np.void, words.itemsize * words.shape[1])))[:, 0]
    return words[np.unique(rows, return_index=True)[1]]


def _slices(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.cat([_plane(images, rows, 1.5, generator) for rows in _chunks(count, 2_500)])


def _patches(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.cat([_plane(images, rows, 0.2, generator) for rows in _chunks(count, 500)])


def _segments(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    chunks = []
    for rows in _chunks(count, 100):
        a, b = _some(images, 2, generator)
        chunks.append(torch.lerp(a, b, torch.linspace(0, 1, rows)[:, None, None, None]))
    return torch.cat(chunks)


def _some(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return images[torch.randint(len(images), (count,), generator=generator)]


def _noise(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    chosen = _some(images, count, generator)
    return chosen + 0.1 * torch.randn(chosen.shape, generator=generator)


def _plane(images: Tensor, count: int, side: float, generator: torch.Generator) -> Tensor:
    """Points of a square with this side in the plane through three samples, whose triangle has sides of 1."""
    a, b, c = _some(images, 3, generator)
    corner = torch.rand(2, generator=generator) * (1.5 - side) - 0.25
    u, v = (corner + side * torch.rand(count, 2, generator=generator)).T[:, :, None, None, None]
    return a + u * (b - a) + v * (c - a)


def _chunks(count: int, size: int) -> list[int]:
    return [min(size, count - start) for start in range(0, count, size)]


KINDS: tuple[Kind, ...] = (_slices, _patches, _segments, _some, _noise)
