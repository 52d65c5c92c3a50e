"""What optuna-dashboard shows of a study beside its trials: a note with the ranking, and the Pareto front."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import optuna

from nas_relucode.errors import InputError
from nas_relucode.plots.pareto import pareto_plotly
from nas_relucode.ranking.ranking import rank
from nas_relucode.report.tables import markdown, markdown_table, networks_table, nobody_feasible

START, END = "[//]: # (nas-relucode)", "[//]: # (/nas-relucode)"  # around our part of the note; Markdown shows neither
FIGURE = "nas-relucode-pareto"  # the figure of an earlier call is replaced
MOST_ROWS = 20  # of the note: it is sent whenever the dashboard asks for news


def show_in_dashboard(study: optuna.Study) -> str:
    """Writes the ranking into the study's note and the Pareto front among its figures; returns the note.

    What somebody else wrote in the note stays. Called again, it replaces what it wrote. Raises InputError where
    optuna-dashboard is not installed.
    """
    dashboard = _dashboard()
    ranking = rank(study)
    if ranking.equal.empty:
        found = nobody_feasible(ranking)
    else:
        order = ", ".join(f"{name} ({way})" for name, way in ranking.deciding.items()) or "no index"
        table = markdown_table(networks_table(ranking, ranking.equal.head(MOST_ROWS)))
        found = (
            f"{len(ranking.equal)} of {int(ranking.compared.sum())} networks are equally accurate by the "
            f"one-standard-error rule (at least {ranking.threshold:.4f}). Their order: Pareto rank over "
            f"{markdown(order)}, then accuracy, then size.\n\n{table}"
        )
    note = _put(dashboard.get_note(study), f"{START}\n\n## Equally accurate networks\n\n{found}\n\n{END}")
    dashboard.save_note(study, note)
    figure = pareto_plotly(ranking.networks, ranking.spread, x=ranking.shown_objective, threshold=ranking.threshold)
    dashboard.save_plotly_graph_object(study, figure, graph_object_id=FIGURE)
    return note


def _put(note: str, part: str) -> str:
    """The note with our part in the place of the one before, else at its end.

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
            warnings.simplefilter("ignore")  # of its own dependencies
            import optuna_dashboard
    except ImportError as error:
        raise InputError(
            f"optuna-dashboard is not installed ({error}). Install it: pip install nas-relucode[dashboard]."
        ) from error
    return optuna_dashboard
