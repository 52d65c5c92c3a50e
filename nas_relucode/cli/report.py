"""The command `report`: the Pareto front and the equally accurate networks as tables, and the report's files."""

from __future__ import annotations

import argparse

import optuna

from nas_relucode.cli.stored_studies import predictions_store, stored_study, study_folder
from nas_relucode.ranking.ranking import rank, trials_frame
from nas_relucode.report.dashboard import show_in_dashboard
from nas_relucode.report.tables import constant_on_front, networks_table, nobody_feasible, retries, text_table
from nas_relucode.report.write import write_report


def run(options: argparse.Namespace) -> int:
    """Writes the report of a stored study; the exit code."""
    with stored_study(options) as (study, storage):
        if options.dashboard:
            show_in_dashboard(study)
        return report_study(study, options, storage)


def report_study(study: optuna.Study, options: argparse.Namespace, storage: str) -> int:
    """Writes the report's files and prints its tables; the exit code."""
    store = predictions_store(study, options)
    files = write_report(study, study_folder(options, study.study_name), storage=storage, artifacts=store)
    ranking = rank(study)
    print(f"Pareto front of {study.study_name}: {', '.join(f'{k} ({v})' for k, v in ranking.objectives.items())}\n")
    front = ranking.front
    print("No network is on the front." if front.empty else text_table(networks_table(ranking, front)))
    constant = constant_on_front(ranking)
    if constant:
        print("\nThe same on the whole front: " + ", ".join(f"{k} = {v:.4g}" for k, v in constant.items()))
    if ranking.equal.empty:
        print("\n" + nobody_feasible(ranking))
    else:
        print(f"\nEqually accurate with the best (at least {ranking.threshold:.4f}), in their order by the indices:\n")
        print(text_table(networks_table(ranking, ranking.equal)))
    sentences = retries(trials_frame(study))
    print("\n" + "\n".join([*sentences, f"Report: {files['report.html']}"]))
    return 0
