"""The verdict as a note, and the Pareto front as a figure, in a study for optuna-dashboard."""

from __future__ import annotations

import contextlib
import html
import importlib.util
import io
import warnings
from typing import Any

import optuna

from nas_relucode.errors import InputError
from nas_relucode.plots.pareto import ANSWERS
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import Selection
from nas_relucode.report.contents import accuracy_intervals
from nas_relucode.report.tables import column_in_words, markdown, markdown_table, networks_table

START, END = ("[//]: # (nas-relucode)", "[//]: # (/nas-relucode)")  # around our part of the note; not rendered
FIGURE = "nas-relucode-pareto"  # the identifier by which a later call replaces the figure
MOST_ROWS = 20  # of the note, which is sent again whenever the dashboard polls
MOST_POINTS = 300  # networks of the figure, which the storage holds in pieces of 2 KB


def dashboard_installed() -> bool:
    """Whether optuna-dashboard and plotly, which draws its figures, are installed; they are not imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("optuna_dashboard", "plotly"))


def show_in_dashboard(study: optuna.Study, selection: Selection | None = None) -> str:
    """Writes the verdict into the study's note and the Pareto front among its figures; returns the note.

    The rest of the note stays. A second call replaces what the first one wrote. Raises InputError if optuna-dashboard
    is not installed.
    """
    dashboard = _dashboard()
    selection = selection or select(study)
    limits = "\n".join(f"- {markdown(text)}" for text in selection.limits)
    parts = ["## Verdict", markdown(selection.verdict.text), limits]
    if not selection.finalists.empty:
        parts.append(markdown_table(networks_table(selection, selection.finalists.head(MOST_ROWS))))
    text = "\n\n".join(filter(None, parts))
    note = _put(dashboard.get_note(study), f"{START}\n\n{text}\n\n{END}")
    dashboard.save_note(study, note)
    dashboard.save_plotly_graph_object(study, pareto_figure(selection), graph_object_id=FIGURE)
    return note


def pareto_figure(selection: Selection) -> Any:
    """The picture of a report for plotly: accuracy with its interval against the shown objective, a point a network.

    Of more than 300 networks it shows the first ones: the finalists in their order, then the others by accuracy.
    """
    import plotly.graph_objects as go

    networks, x = selection.networks.join(accuracy_intervals(selection)).head(MOST_POINTS), selection.shown_objective
    texts = {name: column_in_words(selection, networks, name) for name in selection.spread.columns}
    figure = go.Figure()
    for answer, style in ANSWERS.items():
        part = networks[selection.comparison["answer"].head(MOST_POINTS) == answer]
        if part.empty:
            continue
        up, down = (part["high"] - part["accuracy"]).fillna(0), (part["accuracy"] - part["low"]).fillna(0)
        figure.add_scatter(
            x=part[x],
            y=part["accuracy"],
            error_y={"array": up.clip(lower=0), "arrayminus": down.clip(lower=0), "thickness": 1},
            mode="markers",
            marker={"color": style.light, "symbol": PLOTLY_SYMBOLS[style.symbol], "size": 11},
            hovertext=[
                "<br>".join([f"<b>{_shown(name)}</b>", *(f"{_shown(k)}: {texts[k][i]}" for k in texts)])
                for i, name in part["network"].items()
            ],
            hoverinfo="text",
            name=style.words,
        )
    hidden = len(selection.networks) - len(networks)
    figure.update_layout(
        title={"text": f"{hidden} further networks are in the report" if hidden else "", "font_size": 12},
        xaxis_title=_shown(selection.in_words(x)),
        yaxis_title=selection.in_words("accuracy"),
        template="plotly_white",
        legend={"orientation": "h", "y": -0.2},
        margin={"t": 60, "r": 20},
        height=520,
    )
    return figure


PLOTLY_SYMBOLS = {"star": "star", "circle": "circle", "diamond": "diamond", "triangle": "triangle-up", "times": "x"}


def _shown(text: str) -> str:
    """The text escaped for plotly, which interprets tags."""
    return html.escape(text, quote=False)


def _put(note: str, part: str) -> str:
    """The note with our part in place of the earlier one, else at its end.

    >>> _put(f"Mine.\\n\\n{START}old{END} too", "new")
    'Mine.\\n\\nnew too'
    """
    before, start, rest = note.partition(START)
    _, end, after = rest.partition(END)
    if start and end:
        return before + part + after
    return f"{note.rstrip()}\n\n{part}" if note.strip() else part


def _dashboard() -> Any:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # which its dependencies raise
            import optuna_dashboard
            import plotly  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"optuna-dashboard is not installed ({error}). Install it: pip install nas-relucode[dashboard]."
        ) from error
    return optuna_dashboard
