"""What things are called in a report: columns in words, what they mean, and the terms that a reader may not know."""

from __future__ import annotations

import html
import re

from nas_relucode.indices.registry import INDICES
from nas_relucode.qualities.registry import QUALITIES

WORDS = {  # columns whose names do not say what they hold
    "accuracy": "validation accuracy",
    "seconds": "training time (seconds)",
    "cell_count": "occupied cells",
    "correct_cell_count": "cells with a correct sample",
    "edge_count": "edges of the graph of cells",
    "component_count": "components of the graph of cells",
}
MEANINGS = {
    **{name: index.meaning for name, index in INDICES.items()},
    **{name: quality.meaning for name, quality in QUALITIES.items()},
    "accuracy": "The fraction of the validation samples that is classified correctly.",
    "test_accuracy": "The same fraction of the test samples; shown in reports only, nothing is chosen by it.",
    "train_accuracy": "The same fraction of the training samples.",
    "validation_loss": "The loss on the validation samples.",
    "seconds": "The time of the training, without evaluation and indices.",
}
TERMS = {
    "code": "Which ReLUs of a network are active for an input, a bit for each.",
    "cell": "All inputs that have the same code; an occupied cell holds at least one of the samples.",
    "equal": "The accuracy is shown to lie less than the margin below that of the most accurate network.",
    "worse": "The accuracy is shown to lie below that of the most accurate network, and not to be equal to it.",
    "cannot be told": (
        "Neither equal nor worse: with these seeds and samples, the interval of the difference is too wide to say."
    ),
    "margin": "The difference of accuracies that does not matter; whoever asks sets it.",
    "interval": (
        "Where the true difference of accuracies lies, over all seeds and samples; the intervals hold for all networks "
        "at once."
    ),
    "finalist": "A network among which the objectives besides accuracy choose; the rule says which ones are.",
    "standard error": "How far a mean accuracy typically lies from its true value, by the chance of seeds and samples.",
    "Pareto front": "The networks that no other one matches in every objective and beats in one.",
    "Pareto rank": "0 on the Pareto front, 1 on the front of the others, and so on.",
    "seed": "The number that starts the random numbers of a training: another seed gives another trained network.",
    "rank correlation": (
        "Spearman's: 1 if two columns order the networks alike, -1 if in opposite orders, near 0 if neither."
    ),
}


def in_words(name: str) -> str:
    """What a column is called in headings and on axes.

    >>> in_words("head.1:cell_count"), in_words("cell_purity")
    ('occupied cells of head.1', 'cell purity')
    """
    layer, _, index = name.rpartition(":")
    unit = QUALITIES[index].unit if index in QUALITIES else ""
    words = WORDS.get(index) or index.replace("_", " ") + (f" ({unit})" if unit.lower() not in (index, "") else "")
    return f"{words} of {layer}" if layer and layer != "joint" else words


def meaning(name: str) -> str:
    """What a column holds, in a sentence; empty for one that is not ours."""
    return MEANINGS.get(name) or MEANINGS.get(name.rpartition(":")[2], "")


def explained(text: str) -> str:
    """The text as HTML in which the first of each term says, on hover or focus, what it means.

    >>> explained("a < cell, the cells")
    'a &lt; <button type="button" class="term" aria-describedby="term-cell">cell</button>, the cells'
    """
    seen: set[str] = set()

    def button(match: re.Match[str]) -> str:
        term = next(term for term in TERMS if match[1].lower() == term.lower())
        if term in seen:
            return match[0]
        seen.add(term)
        return f'<button type="button" class="term" aria-describedby="{term_id(term)}">{match[0]}</button>'

    return _TERM.sub(button, html.escape(text))


def term_id(term: str) -> str:
    """The identifier of a term's explanation in the page."""
    return f"term-{term.replace(' ', '-')}"


_TERM = re.compile(rf"\b({'|'.join(sorted(TERMS, key=len, reverse=True))})s?\b(?![\w=:-])", re.IGNORECASE)
