"""The report of a study: report.html, report.md, pareto.png, pareto.json and trials.csv."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from nas_relucode.figures import curves, curves_plotly, marks, network_label, pareto_plotly, pareto_png
from nas_relucode.files import write_atomically
from nas_relucode.indices import INDICES
from nas_relucode.objective import ATTRIBUTE
from nas_relucode.ranking import Ranking, rank, trials_frame
from nas_relucode.storage import redact

MOST_SLICES = 3
Table = tuple[list[str], list[list[str]]]  # headings, rows


def write_report(study: optuna.Study, folder: str | Path, *, storage: str = "") -> dict[str, Path]:
    """Writes the report of any study whose trials carry our attribute; returns name -> path of each file.

    ``storage``, its URL, is shown without its password. Each file is complete or untouched.
    """
    storage = redact(storage) if storage else ""
    ranking, trials = rank(study), trials_frame(study)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sections = _sections(study, ranking, trials, storage)
    pictures = _slices(study, ranking, folder / "slices")
    writers: dict[str, Callable[[Path], object]] = {
        "report.html": lambda path: path.write_text(_page(study, ranking, sections, pictures), "utf-8"),
        "report.md": lambda path: path.write_text(_markdown(study, sections), "utf-8"),
        "pareto.png": lambda path: pareto_png(ranking, path),
        "pareto.json": lambda path: path.write_text(json.dumps(_json(study, ranking, storage), indent=2), "utf-8"),
        "trials.csv": lambda path: trials.drop(columns=["ranked", "diverged"]).to_csv(path, index=False),
    }
    return {name: write_atomically(folder / name, write) for name, write in writers.items()}


def networks_table(ranking: Ranking, networks: pd.DataFrame, *, every_index: bool = False) -> Table:
    """A row a network: accuracy with its spread, the objectives or every index, parameters, training seconds.

    Indices that are constant over the networks are left out: they say nothing here.
    """
    mark = marks(ranking)
    indices = [name for name in _index_columns(networks) if every_index or name in ranking.objectives]
    indices = [name for name in indices if not _is_constant(networks[name])]
    headings = ["network", "mark", "seeds", "accuracy", "test accuracy", *indices, "parameters", "seconds"]
    rows = []
    for i, row in networks.iterrows():
        spread = ranking.spread.loc[i]
        rows.append(
            [
                network_label(row),
                mark[i],
                str(row["seeds"]),
                number(row["accuracy"], spread["accuracy"]),
                number(row["test_accuracy"], spread["test_accuracy"]),
                *(number(row[name], spread[name]) for name in indices),
                f"{row['parameters']:,.0f}",
                f"{row['seconds']:.1f}",
            ]
        )
    return headings, rows


def longer_side_down(table: Table) -> Table:
    """The table, or its transpose where that has fewer columns."""
    headings, rows = table
    if len(rows) >= len(headings):
        return table
    columns = [list(column) for column in zip(headings, *rows, strict=True)]
    return columns[0], columns[1:]


def constant_on_front(ranking: Ranking) -> dict[str, float]:
    """The indices that have one value on the whole front."""
    front = ranking.front
    return {name: float(front[name].iloc[0]) for name in _index_columns(front) if _is_constant(front[name])}


def text_table(table: Table) -> str:
    """A table in Markdown, aligned to be read on a terminal as well."""
    headings, *rows = [[cell.replace("|", "\\|") for cell in line] for line in [table[0], *table[1]]]
    widths = [max(2, *(len(line[i]) for line in [headings, *rows])) for i in range(len(headings))]

    def line(cells: list[str]) -> str:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *rest])} |"

    rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(headings), line(rule), *map(line, rows)])


def retries(trials: pd.DataFrame) -> list[str]:
    """A sentence for each trial that failed or was interrupted, and for each that was pruned."""
    retried = trials.dropna(subset="retry_of").groupby("retry_of")["number"].last()
    sentences = []
    for _, trial in trials[trials["state"].isin(["FAIL", "PRUNED"])].iterrows():
        what, reason = f"trial {trial['number']}", trial["reason"] if isinstance(trial["reason"], str) else ""
        if isinstance(trial["head"], str):
            what += f" ({network_label(trial)}" + ("" if pd.isna(trial["seed"]) else f", seed {trial['seed']}") + ")"
        if trial["state"] == "PRUNED":
            sentences.append(f"{what} was pruned: {reason}.")
        else:
            again = retried.get(trial["number"])
            happened = f"failed ({reason})" if reason else "was interrupted"
            then = f"retried as trial {again}" if again else "not retried"
            sentences.append(f"{what} {happened} and was {then}.")
    return sentences


def number(mean: float, spread: float = math.nan) -> str:
    """A mean with its standard deviation over the seeds, if there is one.

    >>> number(0.9537, 0.0041), number(1024.0, 30.2), number(7.0)
    ('0.9537 ± 0.0041', '1024 ± 30', '7')
    """
    if pd.isna(mean):
        return "-"
    digits = 0 if abs(mean) >= 100 or (float(mean).is_integer() and pd.isna(spread)) else 2 if abs(mean) >= 10 else 4
    return f"{mean:.{digits}f}" + ("" if pd.isna(spread) else f" ± {spread:.{digits}f}")


def _index_columns(networks: pd.DataFrame) -> list[str]:
    return [name for name in networks.columns if name.rpartition(":")[2] in INDICES]


def _is_constant(values: pd.Series) -> bool:
    return len(values) > 1 and (values == values.iloc[0]).all()


def _sections(
    study: optuna.Study, ranking: Ranking, trials: pd.DataFrame, storage: str
) -> list[tuple[str, str, Table | None]]:
    """Heading, sentence and table of each part of the report."""
    objectives = ", ".join(f"{name} ({direction})" for name, direction in ranking.objectives.items())
    counts = trials["state"].value_counts()
    states = ", ".join(f"{count} {state.lower()}" for state, count in counts.items())
    sections: list[tuple[str, str, Table | None]] = []
    if math.isnan(ranking.threshold):
        sections.append(
            ("Equally accurate networks", "No network is feasible: all are below the accuracy floor or diverged.", None)
        )
    else:
        order = [
            f"{name} ({way})" for name, way in ranking.objectives.items() if name not in ("accuracy", *ranking.silent)
        ]
        text = (
            f"{len(ranking.equal)} of {len(ranking.networks)} networks reach an accuracy of {ranking.threshold:.4f}, "
            "the best one's less one standard error (seeds and validation sample): "
            "by accuracy nobody can tell them apart. "
            f"Their places follow their Pareto rank over {', '.join(order) or 'no index'}, then accuracy, then size."
        )
        if ranking.silent:
            text += (
                " These tell them nothing apart: " + "; ".join(f"{k} ({v})" for k, v in ranking.silent.items()) + "."
            )
        sections.append(
            (
                "Equally accurate networks",
                text,
                longer_side_down(networks_table(ranking, ranking.equal, every_index=True)),
            )
        )
    text = (
        f"Objectives: {objectives}. Means over seeds ± standard deviation; codes of the training samples. "
        "Mark: the place among the equally accurate networks, or a letter for the less accurate ones."
    )
    constant = constant_on_front(ranking)
    if constant:
        text += " Constant on the front: " + ", ".join(f"{k} = {v:.4g}" for k, v in constant.items()) + "."
    sections.append(("Pareto front", text, longer_side_down(networks_table(ranking, ranking.front, every_index=True))))
    text = "All networks by accuracy; infeasible ones are below the accuracy floor or diverged with some seed."
    by_accuracy = ranking.networks.sort_values("accuracy", ascending=False, kind="stable")
    sections.append(("All networks", text, networks_table(ranking, by_accuracy)))
    last = _last_epoch(study, ranking)
    if last is not None:
        sections.append(("Occupied cells by layer", "Means over seeds; the table is that of the last epoch.", last))
    rows = [[name, INDICES[name].meaning, INDICES[name].direction or ""] for name in INDICES if name in trials]
    sections.append(("What the indices mean", "", (["index", "meaning", "usually"], rows)))
    happened = retries(trials)
    sections.append(("Trials", " ".join([f"{states}.", *(s[0].upper() + s[1:] for s in happened)]), None))
    settings = study.user_attrs.get("settings")
    text = f"Study {study.study_name!r}" + (f" in {storage}" if storage else "") + "."
    devices = {t.user_attrs["relucode"].get("device") for t in study.trials if "relucode" in t.user_attrs} - {None}
    text += f" Device: {', '.join(sorted(devices))}." if devices else ""
    text += "".join(f" {name} {version}." for name, version in study.user_attrs.get("versions", {}).items())
    rows = [[key, json.dumps(value)] for key, value in _flat(settings or {}) if key != "description"]
    sections.append(("Settings", text, (["setting", "value"], rows) if rows else None))
    return sections


def _flat(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _last_epoch(study: optuna.Study, ranking: Ranking) -> Table | None:
    points = curves(study, ranking)
    if points.empty:
        return None
    layers = list(dict.fromkeys(points["layer"]))
    last = points[points["epoch"] == points.groupby(["network", "seed"])["epoch"].transform("max")]
    means = last.pivot_table(values="cell_count", index="network", columns="layer", sort=False)[layers]
    rows = [
        [str(name), *(number(value) for value in row)] for name, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return ["network", *layers], rows


def _markdown(study: optuna.Study, sections: list[tuple[str, str, Table | None]]) -> str:
    parts = [f"# Report of study {study.study_name}\n\n![Pareto front](pareto.png)\n"]
    for heading, text, table in sections:
        parts.append(f"## {heading}\n\n{text}\n" + (f"\n{text_table(table)}\n" if table else ""))
    return "\n".join(parts)


def _json(study: optuna.Study, ranking: Ranking, storage: str) -> dict[str, Any]:
    constant = constant_on_front(ranking)

    def rows(networks: pd.DataFrame, numeric: list[str]) -> list[dict[str, Any]]:
        return [
            {
                "head": row["head"],
                "learning_rate": row["learning_rate"],
                "seeds": int(row["seeds"]),
                "equally_accurate": bool(row["equal"]),
                "place": int(row["place"]) if row["equal"] else None,
                "mean": _plain(row[numeric]),
                "spread": _plain(ranking.spread.loc[i, numeric]),
            }
            for i, row in networks.iterrows()
        ]

    numeric = [
        name for name in ranking.spread.columns if name in ranking.networks and name not in ("head", "learning_rate")
    ]
    return {
        "study": study.study_name,
        "storage": storage,
        "objectives": ranking.objectives,
        "threshold": None if math.isnan(ranking.threshold) else ranking.threshold,
        "silent": ranking.silent,
        "constant_on_front": constant,
        "equally_accurate": rows(ranking.equal, numeric),
        "front": rows(ranking.front, [name for name in numeric if name not in constant]),
    }


def _plain(values: pd.Series) -> dict[str, float | None]:
    return {str(name): None if pd.isna(value) else float(value) for name, value in values.items()}


def _slices(study: optuna.Study, ranking: Ranking, folder: Path) -> list[tuple[str, list[bytes]]]:
    """The slices of the first of the equally accurate networks, as far as they were drawn: captions and PNGs."""
    found: list[tuple[str, list[bytes]]] = []
    drawn = [trial for trial in study.trials if trial.user_attrs.get(ATTRIBUTE, {}).get("slices")]
    for _, row in ranking.equal.iterrows():
        for trial in drawn:
            values = trial.user_attrs[ATTRIBUTE]
            same = all(values["candidate"][key] == row[key] for key in ("head", "learning_rate"))
            files = [folder / name for name in values["slices"] if (folder / name).is_file()]
            if same and files and len(found) < MOST_SLICES:
                caption = f"{network_label(row)}, seed {values['candidate'].get('seed', 0)}, trial {trial.number}"
                found.append((caption, [file.read_bytes() for file in files]))
    return found


def _slices_section(pictures: list[tuple[str, list[bytes]]]) -> str:
    figures = "".join(
        "<figure>"
        + "".join(
            f'<img alt="{html.escape(f"Slice {number} of the cells of {caption}")}" '
            f'src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
            for number, picture in enumerate(files, start=1)
        )
        + f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, files in pictures
    )
    text = (
        "The cells in the plane through three training samples and, below, those around the first of them, coloured by "
        "the class that is predicted in them."
    )
    return f'<section><h2>Slices</h2><p>{text}</p><div class="slices">{figures}</div></section>'


def _page(
    study: optuna.Study,
    ranking: Ranking,
    sections: list[tuple[str, str, Table | None]],
    pictures: list[tuple[str, list[bytes]]],
) -> str:
    """One self-contained page: plotly's script is inside, nothing is fetched."""
    bare = {"full_html": False, "config": {"displayModeBar": False, "responsive": True}}
    figures = {"Pareto front": pareto_plotly(ranking).to_html(include_plotlyjs=True, **bare)}
    points = curves(study, ranking)
    if not points.empty:
        figures["Occupied cells by layer"] = curves_plotly(points).to_html(include_plotlyjs=False, **bare)
    sections = sorted(sections, key=lambda section: section[0] != "Pareto front")
    body = [f"<h1>Study {html.escape(study.study_name)}</h1>"]
    description = study.user_attrs.get("settings", {}).get("description")
    if description:
        body.append(f"<p>{html.escape(description)}</p>")
    for heading, text, table in sections:
        body.append(f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>{figures.get(heading, '')}")
        if table:
            body.append(_html_table(table))
        body.append("</section>")
        if heading == "Equally accurate networks" and pictures:
            body.append(_slices_section(pictures))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(study.study_name)}: Pareto report</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>"
    )


def _html_table(table: Table) -> str:
    headings, rows = table
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in headings)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 0 }
main { max-width: 1200px; margin: 0 auto; padding: 0 16px 48px }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
.slices { display: flex; flex-wrap: wrap; gap: 16px } figure { margin: 0; flex: 1 1 320px; max-width: 560px }
img { max-width: 100%; height: auto } figcaption { font-size: 14px }
th:first-child, td:first-child { text-align: left }
thead th { border-bottom: 2px solid #555; vertical-align: bottom }
"""
