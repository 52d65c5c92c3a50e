"""What the columns of a ranking are called, in its sentences and in reports, and what they mean."""

from __future__ import annotations

from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES

WORDS = {  # of columns whose names do not say what they hold
    "seconds": "training time (seconds)",
    "cell_count": "occupied cells",
    "correct_cell_count": "cells with a correct sample",
    "edge_count": "edges of the graph of cells",
    "component_count": "components of the graph of cells",
}
MEANINGS = {
    **{name: index.meaning for name, index in INDICES.items()},
    **{name: quality.meaning for name, quality in QUALITIES.items()},
    "accuracy": "The fraction of the samples held out for the choice that is classified correctly.",
    "test_accuracy": "The same fraction of test samples; shown in reports only, nothing is chosen by it.",
    "train_accuracy": "The same fraction of the training samples.",
    "validation_loss": "The loss on the validation samples.",
    "seconds": "The time of the training, without evaluation and indices.",
}


def in_words(name: str, split: str = "validation") -> str:
    """What a column is called in sentences, in headings and on axes; ``split`` is that of the accuracy.

    >>> in_words("head.1:cell_count"), in_words("cell_purity"), in_words("accuracy", "test")
    ('occupied cells of head.1', 'cell purity', 'test accuracy')
    """
    if name == "accuracy":
        return f"{split} accuracy"
    layer, _, index = name.rpartition(":")
    unit = QUALITIES[index].unit if index in QUALITIES else ""
    words = WORDS.get(index) or index.replace("_", " ") + (f" ({unit})" if unit.lower() not in (index, "") else "")
    return f"{words} of {layer}" if layer and layer != "joint" else words


def meaning(name: str) -> str:
    """What a column holds, in a sentence; empty for one that is not ours."""
    return MEANINGS.get(name) or MEANINGS.get(name.rpartition(":")[2], "")
