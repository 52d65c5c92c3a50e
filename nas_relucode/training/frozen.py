"""A frozen backbone runs once: its outputs are kept on disk, so a study of heads trains only the heads."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.network_state import device_of, run, untouched
from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.training.data import ImageData, Split

TOLERANCE = 5e-3  # of the largest output: leaves room for a GPU's TF32 (ten bits) over the layers of a VGG16


def frozen_features(backbone: nn.Module, data: ImageData, folder: Path, *, batch_size: int = 256) -> ImageData:
    """The data set with the outputs of ``backbone`` in the place of the images, float32 on the CPU.

    Outputs (samples, channels, height, width) are kept as images, outputs (samples, channels) as images of one pixel.
    ``build_network(head, features.image_shape, classes, backbone="none")`` is then the head behind the backbone. The
    backbone runs on its own device in evaluation mode and is left as it was.

    The outputs are written to ``folder`` once, one ``.npy`` a split, and are memory-mapped: only what is read is in
    memory (``.to`` copies everything). The next call reads them from there if a SHA-256 of the backbone's structure
    and weights and of the data is the same. To notice what the digest misses, such as a plain number that the backbone
    computes with, the first and the last image of each split are run again. If an output differs from the stored one
    by more than half a percent of the largest (devices round differently), the file is written anew; so is a file that
    cannot be used (truncated, of another shape). Damage to other rows of a file goes unnoticed.

    Raises InputError for a backbone whose outputs have another shape.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Name one for the backbone's outputs.")
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    fresh = {name: _outputs(backbone, split.inputs[[0, -1]]).cpu() for name, split in splits.items() if len(split)}
    if not fresh:
        raise InputError("there are no images to run the backbone on. Give at least one.")
    shape = tuple(next(iter(fresh.values())).shape[1:])
    key = f"{_digest(backbone)}{data.digest()}"
    stem = hashlib.sha256(key.encode()).hexdigest()[:32]
    features: dict[str, Any] = {}
    for name, split in splits.items():
        split_shape = (len(split), *shape)
        path = folder / f"{stem}_{name}.npy"
        outputs = _stored_outputs(path, split_shape) if len(split) else torch.empty(split_shape)
        if outputs is None or (len(split) and not _close(outputs[[0, -1]], fresh[name])):
            write_atomically(path, lambda temporary: _write(temporary, backbone, split, split_shape, batch_size))  # noqa: B023
            outputs = _stored_outputs(path, split_shape)
            assert outputs is not None
        features[name] = Split(outputs, None if split.labels is None else split.labels.cpu())
    return replace(data, **features)


def _stored_outputs(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The file's array, mapped copy-on-write; None if the file holds no float32 array of this shape."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # missing, truncated, or a foreign file
        return None
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float32:
        return None
    return torch.from_numpy(array)


def _close(stored: Tensor, fresh: Tensor) -> bool:
    scale = float(fresh.abs().nan_to_num(0, 0).max())
    return torch.allclose(stored, fresh, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _write(path: Path, backbone: nn.Module, split: Split, shape: tuple[int, ...], batch_size: int) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(split), batch_size):
        outputs = _outputs(backbone, split.inputs[start : start + batch_size])
        array[start : start + batch_size] = outputs.cpu().numpy()
    array.flush()


def _outputs(backbone: nn.Module, inputs: Tensor) -> Tensor:
    with untouched(backbone), torch.no_grad():
        outputs: Tensor = run(backbone, inputs.to(device_of(backbone)))
    if outputs.ndim not in (2, 4) or len(outputs) != len(inputs):
        raise InputError(
            f"the backbone gives outputs of shape {tuple(outputs.shape)} for {len(inputs)} images. "
            "Give one whose outputs are (samples, channels) or (samples, channels, height, width)."
        )
    return outputs.reshape(*outputs.shape[:2], *(outputs.shape[2:] or (1, 1))).float()


def _digest(backbone: nn.Module) -> str:
    """A SHA-256 of the structure (the modules' reprs and classes) and of all weights and buffers."""
    sha256 = hashlib.sha256(repr(backbone).encode())
    for module in backbone.modules():
        sha256.update(f"{type(module).__module__}.{type(module).__qualname__}".encode())
    for name, tensor in backbone.state_dict().items():
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()
