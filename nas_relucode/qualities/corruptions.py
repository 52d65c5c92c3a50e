"""Accuracy under the common corruptions of images: noise, blur, weather, compression (arXiv:1903.12261)."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_relucode.errors import InputError, unknown, whole_number
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import Batch, PixelRange, Pixels

LEAST_SIZE = 32  # pixels, of the library
SEEDED = ("impulse_noise", "glass_blur")  # take a seed of their own; the others use numpy's global random state
KEPT_BYTES = 2**29  # of corrupted images, which do not depend on the network

_kept: dict[tuple[str, str, int, int], np.ndarray] = {}  # the digest of images, corruption, severity, seed


def corruption_accuracy(
    network: nn.Module,
    data: Any,
    *,
    severities: int | Iterable[int] = (2, 4),
    names: str | Iterable[str] | None = None,
    pixel_range: PixelRange = (0.0, 1.0),
    seed: int = 0,
    forward: Forward | None = None,
) -> PerSample:
    """Accuracy under the common corruptions, the mean over their ``names`` (by default all) and ``severities``, 1 to 5.

    ``data`` are images (samples, 1 or 3 channels, height, width) of at least 32 x 32 pixels, with labels; they are
    rounded to 8 bits, as the library corrupts them (``pip install 'nas-relucode[qualities]'``). Each image has the same
    corruption for every network; corrupted images are kept in memory, up to 512 MiB, for the next network.
    """
    from nas_relucode.qualities.samples import changed_accuracy, strengths

    corruptions = _names(names)
    seed = whole_number("seed", seed)
    levels = [int(level) for level in strengths("severities", severities, least=1, most=5, whole=True)]

    def corrupted(batch: Batch, pixels: Pixels) -> Iterator[Tensor]:
        bytes_of_pixels = _bytes(pixels)
        for name in corruptions:
            for level in levels:
                yield _pixels(pixels, _corrupted(bytes_of_pixels, name, level, seed))

    return changed_accuracy(network, data, corrupted, pixel_range, forward=forward, images=True)


def _names(names: str | Iterable[str] | None) -> list[str]:
    try:
        from imagecorruptions import get_corruption_names
    except ImportError as error:
        raise InputError(
            "the common corruptions come with imagecorruptions-imaug, which is not installed. "
            "Run: pip install 'nas-relucode[qualities]'"
        ) from error
    known = get_corruption_names("all")
    wanted = get_corruption_names() if names is None else [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise InputError("names of corruptions are empty. Give at least one, or None for the 15 common ones.")
    for name in wanted:
        if name not in known:
            raise unknown("corruption", name, known)
    return wanted


def _bytes(pixels: Pixels) -> np.ndarray:
    """The images as the library takes them: uint8, (samples, height, width, channels)."""
    import torch

    channels, *size = pixels.images.shape[1:]
    if min(size) < LEAST_SIZE or channels not in (1, 3):
        raise InputError(
            f"images are {channels} x {size[0]} x {size[1]}. Corruptions need 1 or 3 channels and at least "
            f"{LEAST_SIZE} x {LEAST_SIZE} pixels: pad or resize them (load_data(image_size={LEAST_SIZE}))."
        )
    shares = (pixels.clipped(pixels.images) - pixels.low) / pixels.span
    rounded: np.ndarray = (255 * shares).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(rounded)


def _pixels(pixels: Pixels, corrupted: np.ndarray) -> Tensor:
    import torch

    shares = torch.from_numpy(corrupted).permute(0, 3, 1, 2).to(pixels.images) / 255
    return pixels.low + pixels.span * shares


def _corrupted(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupted images, uint8, of the same shape; kept from an earlier call where there was one."""
    key = hashlib.sha256(images.tobytes()).hexdigest() + str(images.shape), name, severity, seed
    if key not in _kept:
        state = np.random.get_state()  # noqa: NPY002
        try:
            corrupted = np.stack([_corrupt(image, name, severity, seed) for image in images])
        finally:
            np.random.set_state(state)  # noqa: NPY002
        if corrupted.nbytes > KEPT_BYTES:
            return corrupted
        while sum(kept.nbytes for kept in _kept.values()) + corrupted.nbytes > KEPT_BYTES:
            del _kept[next(iter(_kept))]
        _kept[key] = corrupted
    return _kept[key]


def _corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """One image; of a grey one, which the library makes three equal channels, the first. Its seed is its content."""
    from imagecorruptions import corrupt

    own = np.random.SeedSequence([seed, severity, zlib.crc32(name.encode()), zlib.crc32(image.tobytes())])
    np.random.seed(own.generate_state(4))  # noqa: NPY002
    options = {"seed": int(own.generate_state(1)[0])} if name in SEEDED else {}
    corrupted: np.ndarray = corrupt(image, severity, name, **options)
    return corrupted[..., : image.shape[2]]


QUALITIES = (
    Quality(
        "corruption_accuracy",
        "share",
        "maximize",
        "Accuracy under the 15 common corruptions (noise, blur, weather, compression) at severities 2 and 4.",
        corruption_accuracy,
        needs_labels=True,
        needs_images=True,
        held_out=True,
    ),
)
