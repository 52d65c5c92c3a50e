"""The report of a study: report.html, report.md, pareto.png, pareto.svg, pareto.json, trials.csv, the settings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from matplotlib.figure import Figure

from nas_relucode.errors import InputError
from nas_relucode.files import check_folder, write_together
from nas_relucode.plots.pareto import pareto_picture, save_pareto
from nas_relucode.ranking.selection import Selection
from nas_relucode.report.contents import Report, accuracy_intervals, gather
from nas_relucode.report.page import page
from nas_relucode.report.sections import Section, sections
from nas_relucode.report.tables import constant_on_front, markdown, markdown_table
from nas_relucode.report.training_again import may_be_written, settings_file, settings_toml
from nas_relucode.study.storage import redact
from nas_relucode.texts import as_json, finite_or_none


def write_report(
    study: optuna.Study | Selection, folder: str | Path, *, selection: Selection | None = None, storage: str = ""
) -> dict[str, Path]:
    """Writes the report of any study whose trials carry our record, or of a selection; name -> path of each file.

    ``selection`` is what `select` made of the study, with arguments of your own; by default ``select(study)``.
    ``folder`` is that of the study's run, if there was one: kept code spaces, slices and embeddings are read from it.
    ``storage``, the URL of the study's storage, is shown without its password. For a study made by `run_study`, a TOML
    file of the study's name holds its settings, to train its networks again; a file of this name that no report wrote
    is not overwritten. All files are written, or none.
    """
    if isinstance(study, Selection):
        selection, study = study, study.as_study()
    folder = check_folder(Path(folder))
    if folder.suffix.lower() in (".html", ".htm", ".md"):
        raise InputError(f"{str(folder)!r} names a file, but a report is a folder of files. Give a folder: 'report'.")
    report = gather(study, folder, redact(storage) if storage else "", selection)
    folder.mkdir(parents=True, exist_ok=True)
    parts, picture = sections(report), _picture(report.selection)
    trials = report.selection.trials.drop(columns=["ranked", "pruned"])
    writers: dict[str, Callable[[Path], object]] = {
        "report.html": lambda path: path.write_text(page(report, parts), "utf-8"),
        "report.md": lambda path: path.write_text(_markdown(report, parts), "utf-8"),
        "pareto.png": lambda path: save_pareto(path, picture),
        "pareto.svg": lambda path: save_pareto(path, picture),
        "pareto.json": lambda path: path.write_text(as_json(_json(report), indent=2), "utf-8"),
        "trials.csv": lambda path: trials.to_csv(path, index=False, errors="backslashreplace"),
    }
    settings = settings_toml(study, folder)
    file = settings_file(study, folder)
    if settings is not None and may_be_written(study, file):
        writers[file.name] = lambda path: path.write_text(settings, "utf-8")
    write_together({folder / name: write for name, write in writers.items()})
    return {name: folder / name for name in writers}


def _picture(selection: Selection) -> Figure:
    networks = selection.networks.join(accuracy_intervals(selection)).assign(answer=selection.comparison["answer"])
    x = selection.shown_objective
    titles = (selection.in_words(x), selection.in_words("accuracy"))
    return pareto_picture(networks, x=x, titles=titles, margin=selection.ranking.margin)


def _markdown(report: Report, sections: Sequence[Section]) -> str:
    parts = [f"# Report of study {markdown(report.study.study_name)}\n"]
    for section in sections:
        parts.append(f"## {section.heading}\n\n{markdown(section.text)}\n")
        parts += ["".join(f"- {markdown(point)}\n" for point in section.points)] if section.points else []
        parts += [f"{markdown_table(section.table)}\n"] if section.table else []
        parts += [_code("\n".join(section.lines))] if section.lines else []
        parts += ["![Pareto front](pareto.png)\n"] if section.heading == "Verdict" else []
    return "\n".join(parts)


def _code(text: str) -> str:
    """A block of code, with a fence that is longer than any in the text."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}sh\n{text}\n{fence}\n"


def _json(report: Report) -> dict[str, Any]:
    selection, ahead = report.selection, report.ahead
    constant = constant_on_front(selection)

    def rows(networks: pd.DataFrame, numeric: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "network": row["network"],
                "params": dict(selection.source.params[row["network"]]),
                "seeds": int(row["seeds"]),
                "finalist": bool(row["finalist"]),
                "place": int(row["place"]) if row["finalist"] else None,
                "answer": selection.comparison.loc[i, "answer"] or None,
                **_plain(selection.comparison.loc[i, ["difference", "low", "high"]]),
                "mean": _plain(row[numeric]),
                "spread": _plain(selection.spread.loc[i, numeric]),
                "ahead_of_next": finite_or_none(ahead.get(int(i), math.nan)),
                "train": report.commands.get(int(i), []),
            }
            for i, row in networks.iterrows()
        ]

    numeric = list(selection.spread.columns)
    verdict = selection.verdict
    return {
        "study": report.study.study_name,
        "storage": report.storage,
        "objectives": selection.objectives,
        "margin": selection.ranking.margin,
        "rule": selection.ranking.rule,
        "verdict": verdict.text,
        "warnings": {warning.name: warning.text for warning in verdict.warnings},
        "silent": selection.silent,
        "constant_on_front": constant,
        "finalists": rows(selection.finalists, numeric),
        "front": rows(selection.front, [name for name in numeric if name not in constant]),
    }


def _plain(values: pd.Series) -> dict[str, float | None]:
    return {str(name): finite_or_none(float(value)) for name, value in values.items()}
