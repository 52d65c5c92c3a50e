"""Which samples a trained network classifies correctly, kept in its trial's record so that networks can be paired.

A bit per sample, compressed, as text: 10,000 samples at an accuracy of 0.95 take 0.5 KB. Networks are compared sample
by sample only if the digests of their samples agree.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from nas_relucode.errors import InputError


def kept_predictions(correct: Any, digest: str) -> dict[str, Any]:
    """Which samples are classified correctly, (samples,) bool, as plain values for a record.

    ``digest`` identifies the samples in their order, see `study.samples`.

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
