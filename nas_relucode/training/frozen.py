"""A frozen backbone runs once: its outputs are kept on disk, and a study over heads trains heads only."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.network_state import device_of, untouched
from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.training.data import ImageData, Split

TOLERANCE = 5e-3  # of the largest output: ten bits, as TF32 has on a GPU, over the layers of a VGG16


def frozen_features(backbone: nn.Module, data: ImageData, folder: Path, *, batch_size: int = 256) -> ImageData:
    """The data with the outputs of ``backbone`` in place of the images: float32, NCHW as it gives them, on the CPU.

    So ``build_network(head, features.image_shape, classes, backbone="none")`` is the head behind it; a row of outputs
    becomes an image of one pixel. ``backbone`` runs on its own device, in evaluation mode, and is left as it was.
    The outputs are written to ``folder`` once, a .npy a split, and are memory-mapped: what is not read is not in
    memory (``.to`` copies all of it). The next call takes them from there if the backbone's structure and weights and
    the data are the same, by a SHA-256 over all of them. What that misses, such as a plain number that the backbone
    computes with, two images a split tell: where its outputs for the first and the last one are not those kept, within
    half a percent of the largest (devices round differently), the file is made anew. So is one that cannot be used
    (cut short, of another shape); damage between these two rows goes unnoticed.

    Raises InputError for a backbone whose outputs are not (samples, channels[, height, width]).
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no folder. Name one for the backbone's outputs.")
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
        wanted = (len(split), *shape)
        path = folder / f"{stem}_{name}.npy"
        kept = _kept(path, wanted) if len(split) else torch.empty(wanted)
        if kept is None or (len(split) and not _alike(kept[[0, -1]], fresh[name])):
            write_atomically(path, lambda temporary: _write(temporary, backbone, split, wanted, batch_size))  # noqa: B023
            kept = _kept(path, wanted)
            assert kept is not None
        features[name] = Split(kept, None if split.labels is None else split.labels.cpu())
    return replace(data, **features)


def _kept(path: Path, wanted: tuple[int, ...]) -> Tensor | None:
    """The file's array, mapped; None if there is none of the wanted shape. Writing to it does not reach the file."""
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, cut short, or something else altogether
        return None
    if not isinstance(array, np.ndarray) or array.shape != wanted or array.dtype != np.float32:
        return None
    return torch.from_numpy(array)


def _alike(kept: Tensor, fresh: Tensor) -> bool:
    scale = float(fresh.abs().nan_to_num(0, 0).max())
    return torch.allclose(kept, fresh, rtol=0, atol=TOLERANCE * scale, equal_nan=True)


def _write(path: Path, backbone: nn.Module, split: Split, shape: tuple[int, ...], batch_size: int) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(split), batch_size):
        outputs = _outputs(backbone, split.inputs[start : start + batch_size])
        array[start : start + batch_size] = outputs.cpu().numpy()
    array.flush()


def _outputs(backbone: nn.Module, inputs: Tensor) -> Tensor:
    with untouched(backbone), torch.no_grad():
        outputs: Tensor = backbone(inputs.to(device_of(backbone)))
    if outputs.ndim not in (2, 4) or len(outputs) != len(inputs):
        raise InputError(
            f"the backbone gives outputs of shape {tuple(outputs.shape)} for {len(inputs)} images. "
            "Give one whose outputs are (samples, channels) or (samples, channels, height, width)."
        )
    return outputs.reshape(*outputs.shape[:2], *(outputs.shape[2:] or (1, 1))).float()


def _digest(backbone: nn.Module) -> str:
    """A SHA-256 of the structure, as its modules write it and with their classes, and of all weights and buffers."""
    found = hashlib.sha256(repr(backbone).encode())
    for module in backbone.modules():
        found.update(f"{type(module).__module__}.{type(module).__qualname__}".encode())
    for name, tensor in backbone.state_dict().items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
