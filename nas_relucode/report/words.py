"""The terms of a report that a reader may not know, and what they mean."""

from __future__ import annotations

import html
import re

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
