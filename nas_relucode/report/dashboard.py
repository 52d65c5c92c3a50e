"""A note with the selection, and the Pareto front, in a study for optuna-dashboard."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import optuna

from nas_relucode.errors import InputError
from nas_relucode.plots.pareto import pareto_plotly
from nas_relucode.ranking.selection import select
from nas_relucode.report.tables import markdown, markdown_table, networks_table

START, END = (
    "[//]: # (nas-relucode)",
    "[//]: # (/nas-relucode)",
)  # around our part of the note; not rendered
FIGURE = "nas-relucode-pareto"  # the identifier by which a later call replaces the figure
MOST_ROWS = 20  # of the note, which is sent again whenever the dashboard polls


def show_in_dashboard(study: optuna.Study) -> str:
    """Writes the selection into the study's note and the Pareto front among its figures; returns the note.

    The rest of the note stays. A second call replaces what the first one wrote. Raises InputError if optuna-dashboard
    is not installed.
    """
    dashboard = _dashboard()
    selection = select(study)
    if selection.equal.empty:
        text = selection.infeasibility
    else:
        order = ", ".join(f"{name} ({way})" for name, way in selection.deciding.items()) or "no index"
        table = markdown_table(networks_table(selection, selection.equal.head(MOST_ROWS)))
        text = (
            f"{len(selection.equal)} of {int(selection.compared.sum())} networks are equally accurate by the "
            f"one-standard-error rule (at least {selection.threshold:.4f}). Their order: Pareto rank over "
            f"{markdown(order)}, then accuracy, then size.\n\n{table}"
        )
    note = _put(dashboard.get_note(study), f"{START}\n\n## Equally accurate networks\n\n{text}\n\n{END}")
    dashboard.save_note(study, note)
    figure = pareto_plotly(
        selection.networks, selection.spread, x=selection.shown_objective, threshold=selection.threshold
    )
    dashboard.save_plotly_graph_object(study, figure, graph_object_id=FIGURE)
    return note


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
    except ImportError as error:
        raise InputError(
            f"optuna-dashboard is not installed ({error}). Install it: pip install nas-relucode[dashboard]."
        ) from error
    return optuna_dashboard
