"""The command `report`: the verdict and the tables of the front and the finalists, and the report's files."""

from __future__ import annotations

import argparse

import optuna
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from nas_relucode.cli.printing import print_message
from nas_relucode.cli.stored_studies import stored_study, study_folder
from nas_relucode.ranking.reseeding import rounds_ended
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import Selection
from nas_relucode.report.dashboard import dashboard_installed, show_in_dashboard
from nas_relucode.report.tables import constant_on_front, networks_table, retries, text_table
from nas_relucode.report.write import write_report
from nas_relucode.study.search_space import stored_search


def run(options: argparse.Namespace) -> int:
    """Writes the report of a stored study; the exit code."""
    with stored_study(options) as (study, storage):
        return report_study(study, options, storage)


def report_study(study: optuna.Study, options: argparse.Namespace, storage: str) -> int:
    """Writes the report's files and the dashboard's note, and prints the verdict and the tables; the exit code."""
    selection = select(study)
    files = write_report(study, study_folder(options, study.study_name), selection=selection, storage=storage)
    _write_note(study, selection, options.dashboard)
    print(f"{selection.verdict}\n")
    print(f"Pareto front of {study.study_name}: {', '.join(f'{k} ({v})' for k, v in selection.objectives.items())}\n")
    front = selection.front
    print("No network is on the front." if front.empty else text_table(networks_table(selection, front)))
    constant = constant_on_front(selection)
    if constant:
        print("\nThe same on the whole front: " + ", ".join(f"{k} = {v:.4g}" for k, v in constant.items()))
    if not selection.finalists.empty:
        print("\nThe networks that were compared, the finalists first:\n")
        print("\n".join(filter(None, [text_table(networks_table(selection, selection.shown)), selection.not_shown])))
    sentences = [*selection.notes, *_rounds(study, selection), *retries(selection.trials)]
    print("\n" + "\n".join([*sentences, f"Report: {files['report.html']}"]))
    return 0


def _rounds(study: optuna.Study, selection: Selection) -> list[str]:
    """Why a study with ``finalist_seeds`` trains no network again."""
    if "search" not in (selection.settings or {}):
        return []
    search = stored_search(study)
    why = "" if search.finalist_seeds is None else rounds_ended(selection, search.all_seeds)
    return [why] if why else []


def _write_note(study: optuna.Study, selection: Selection, wanted: bool | None) -> None:
    """Shows the verdict in optuna-dashboard: by default if that is installed and the storage can be written."""
    if wanted is False or (wanted is None and not dashboard_installed()):
        return
    try:
        show_in_dashboard(study, selection)
    except (SQLAlchemyError, StorageInternalError) as error:
        if wanted:
            raise
        print_message(f"no note for optuna-dashboard is written: {error}", "warning")
