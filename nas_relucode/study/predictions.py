"""Which samples a trained network classifies correctly, kept in its trial's record so that networks can be paired.

A bit per sample, compressed, as text: 10,000 samples at an accuracy of 0.95 take 0.5 KB. Networks are compared sample
by sample only if the digests of their samples agree.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from nas_relucode.errors import InputError


def kept_predictions(correct: Any, digest: str) -> dict[str, Any]:
    """Which samples are classified correctly, (samples,) bool, as plain values for a record.

    ``digest`` identifies the samples in their order, see `SamplesDigest`.

    >>> kept = kept_predictions(np.array([True, False, True]), "0a")
    >>> kept["samples"], correct_samples(kept).tolist()
    (3, [True, False, True])
    """
    bits = np.packbits(np.asarray(correct, bool))
    text = base64.b85encode(zlib.compress(bits.tobytes(), 9)).decode("ascii")
    return {"samples": len(correct), "digest": digest, "correct": text}


def correct_samples(kept: dict[str, Any]) -> np.ndarray | None:
    """Which samples are classified correctly, (samples,) bool; None if it was not kept.

    Raises InputError if the text is damaged, whatever it holds: it is read up to the size that belongs to the samples.
    """
    if kept.get("correct") is None or kept.get("digest") is None:
        return None
    size = (kept["samples"] + 7) // 8
    try:
        reader = zlib.decompressobj()
        bits = reader.decompress(base64.b85decode(kept["correct"]), size + 1)
    except (ValueError, zlib.error) as error:
        raise InputError("the predictions are damaged. Run the trial again.") from error
    if len(bits) != size:
        raise InputError(f"the predictions are not those of {kept['samples']} samples. Run the trial again.")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=kept["samples"]).astype(bool)


class SamplesDigest:
    """Identifies samples in their order: SHA-256 of inputs and labels, whatever the batches they come in.

    >>> whole, halves = SamplesDigest(), SamplesDigest()
    >>> whole.add(np.zeros((4, 2)), np.arange(4))
    >>> for half in (slice(0, 2), slice(2, 4)):
    ...     halves.add(np.zeros((2, 2)), np.arange(4)[half])
    >>> whole.text == halves.text
    True
    """

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}  # name of a tensor, with its type and the shape of a row -> SHA-256

    def add(self, inputs: Any, labels: Any) -> None:
        """Adds a batch: a tensor or array, or tuples and dicts of them, and the labels if there are any."""
        for name, values in _named_arrays({"inputs": inputs, "labels": labels}):
            array = np.ascontiguousarray(values.cpu() if isinstance(values, Tensor) else values)
            key = f"{name} {array.dtype.str} {array.shape[1:]}"
            self._parts.setdefault(key, hashlib.sha256()).update(array.data)

    @property
    def text(self) -> str:
        """The digest of the batches so far."""
        parts = {name: digest.hexdigest() for name, digest in self._parts.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _named_arrays(values: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and arrays in tuples and dicts, each with its place; anything else is left out."""
    if isinstance(values, Tensor | np.ndarray):
        yield name, values.detach() if isinstance(values, Tensor) else values
        return
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if _is_sequence(values) else ()
    for key, value in items:
        yield from _named_arrays(value, f"{name}/{key}")


def _is_sequence(values: Any) -> bool:
    return isinstance(values, tuple | list)
