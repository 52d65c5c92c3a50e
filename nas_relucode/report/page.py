"""report.html: one self-contained page, with a slider for the difference of accuracy that counts as equal."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from nas_relucode.report.contents import Report, page_data
from nas_relucode.report.sections import Section, described, remarks, sections
from nas_relucode.study.record import complete_trials, record_of

MOST_BYTES = 7_800_000  # of the page: pictures that would exceed it are only named
MOST_SLICES = 3  # networks whose slices are shown
TALL = 40  # rows beyond which a table scrolls
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
CURVES = "Solid: occupied cells; dotted: those that hold a correctly classified sample."
CHOICE = (
    "Which networks are as accurate as the best one, by the rule or tolerance chosen here? Accuracy does not decide "
    "between them, so they are ordered by indices of their code spaces. A code says which ReLUs are active; all inputs "
    "with the same code form a cell."
)
PROFILES = {
    True: (
        "The largest component's share of the cells as theta grows, in the joint codes of the last kept epoch. Without "
        " kept codes: the smallest thetas at which it holds 50, 90 and 100 % of the cells (connecting_theta)."
    ),
    False: "The smallest thetas at which the largest component holds 50, 90 and 100 % of the cells (connecting_theta).",
}
SLICES = (
    "The cells in the plane through three training samples, and those around the first of them, coloured by the class "
    "that is predicted in them."
)
EMBEDDINGS = "Codes embedded in the plane by UMAP under the Hamming distance, as nas-relucode figure drew them."


def page(report: Report) -> str:
    """The whole page, with plotly's script and the rankings among which the slider chooses."""
    data = page_data(report)
    title = html.escape(report.study.study_name)
    parts = {section.heading: section for section in sections(report)}
    body = [f"<h1>Study {title}</h1>"]
    description = described(report)
    if description:
        body.append(f"<p>{html.escape(description)}</p>")
    shown = [
        ("equal", "Equally accurate networks", _equal(report, parts, data)),
        ("front", "Pareto front", _front(parts["Pareto front"], data)),
        ("parallel", "Parallel coordinates", _parallel(data)),
        ("curves", "Occupied cells by layer", _curves(parts.get("Occupied cells by layer"))),
        ("profiles", "Connectivity", _profiles(data)),
        ("indices", "Indices", _indices(parts["Indices"], data)),
        ("networks", "All networks", _plain(parts["All networks"])),
        ("trials", "Trials", _plain(parts["Trials"])),
        ("settings", "Settings", _text(parts["Settings"].text) + _table(parts["Settings"], words=True)),
    ]
    shown = [part for part in shown if part[2]]
    script, style = _file("page.js"), _file("page.css")
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: Pareto report</title><style>{style}</style></head>"
        '<body><a class="skip" href="#equal">To the ranking</a><main>'
    )
    end = (
        f'</main><script type="application/json" id="data">{_json(data)}</script>'
        f"<script>{get_plotlyjs()}</script><script>{script}</script></body></html>"
    )
    room = MOST_BYTES - len(end.encode()) - sum(len(part[2].encode()) for part in shown)
    position = next(i for i, part in enumerate(shown) if part[0] == "indices")
    for key, heading, text, files in (
        ("embeddings", "Embeddings", EMBEDDINGS, embedding_pictures(report)),
        ("slices", "Slices", SLICES, slice_pictures(report)),
    ):
        if files:
            pictures, room = _pictures(text, files, room)
            shown.insert(position, (key, heading, pictures))
    links = "".join(f'<li><a href="#{key}">{html.escape(heading)}</a></li>' for key, heading, _ in shown)
    body.append(f'<nav aria-label="Parts of the report"><ul>{links}</ul></nav>')
    for key, heading, inside in shown:
        body.append(f'<section id="{key}" aria-labelledby="{key}-heading"><h2 id="{key}-heading">')
        body.append(f"{html.escape(heading)}</h2>{inside}</section>")
    return head + "".join(body) + end


def _equal(report: Report, parts: dict[str, Section], data: dict[str, Any]) -> str:
    section = parts["Equally accurate networks"]
    if section.table is None:
        return _text(section.text)
    presets = "".join(
        f'<button type="button" data-rule="{rule["key"]}" aria-pressed="{"true" if i == 0 else "false"}">'
        f"{html.escape(_button(rule['name']))} ({rule['tolerance']:.4f}, {_networks(data, rule)})</button>"
        for i, rule in enumerate(data["rules"])
    )
    ends = [rule["tolerance"] for rule in data["rules"]]
    end = min(1.0, _rounded_up(max(min(max(ends), 12 * ends[0]), 5 * ends[0], 0.001)))
    ticks = "".join(f'<option value="{value}" label="{value:.4f}"></option>' for value in ends)
    return (
        f"{_text(CHOICE)}<noscript>{_plain(section)}</noscript>"
        "<fieldset><legend>What counts as equally accurate?</legend>"
        f'<div role="group" aria-label="Presets">{presets}</div>'
        '<div><label for="tolerance">Tolerance</label>'
        f'<input type="range" id="tolerance" min="0" max="{end:g}" step="{end / 500:g}" value="{ends[0]}" '
        f'list="presets" aria-describedby="found"><datalist id="presets">{ticks}</datalist>'
        '<label for="tolerance-number">exactly</label>'
        '<input type="number" id="tolerance-number" min="0" max="1" step="any" inputmode="decimal" '
        'aria-describedby="tolerance-wrong"></div>'
        '<p id="tolerance-wrong" class="wrong" role="status" aria-live="polite"></p></fieldset>'
        '<p id="found" class="found" role="status" aria-live="polite"></p><p id="order"></p>'
        + _empty_table("equal-table", "Equally accurate networks in their order; the buttons mark them in the figures")
        + '<p id="focused" role="status" aria-live="polite"></p>'
        + _text(" ".join(remarks(report)))
        + "<details><summary>Every index of these networks</summary>"
        + _empty_table("index-table", "Every index of the first networks, means over seeds ± standard deviation")
        + f"</details>{_commands(parts['Train them again'])}"
    )


def _button(rule: str) -> str:
    """
    >>> _button("the one-standard-error rule")
    'One-standard-error rule'
    """
    name = rule.removeprefix("the ")
    return name[0].upper() + name[1:]


def _commands(section: Section) -> str:
    text = f"<h3>{section.heading}</h3>{_text(section.text)}"
    return text + ('<div id="commands"></div>' if section.lines else "")


def _front(section: Section, data: dict[str, Any]) -> str:
    names = [name for name in data["correlations"]["names"] if name not in data["correlations"]["silent"]]
    names = [data["x"], *(name for name in names if name not in (data["x"], "accuracy"))]
    choice = f'<p class="choose"><label for="front-x">Against</label> {_select("front-x", names, data["x"])}</p>'
    below = "; the table below holds the front" if section.table else ""
    figure = _figure("front-figure", f"Accuracy of each network against an index{below}.")
    text = section.text
    if section.table:
        text += " The tables' marks are those of the one-standard-error rule; the figure's follow the tolerance."
    return _text(text) + choice + figure + _table(section)


def _parallel(data: dict[str, Any]) -> str:
    if len(data["parallel"]) < 2:
        return ""  # lines need two axes
    text = (
        "One line per network across its accuracies, indices and size. Better values are higher up, if it is known "
        "which values are better. The equally accurate networks are drawn in colour. An index that ranks the networks "
        "like an earlier one (rank correlation beyond 0.95) is left out."
    )
    return _text(text) + _figure("parallel-figure", "Parallel coordinates of the networks; the tables hold the values.")


def _curves(section: Section | None) -> str:
    if section is None:
        return ""
    figure = _figure("curves-figure", "Occupied cells of the chosen networks over the epochs, one panel per layer.")
    return _text(f"{CURVES} {section.text}") + figure + _table(section)


def _profiles(data: dict[str, Any]) -> str:
    if not data["profiles"] and "connecting_theta_50" not in data["mean"]:
        return ""
    figure = _figure("profiles-figure", "How the cells of the chosen networks join as theta grows.")
    return _text(PROFILES[bool(data["profiles"])]) + figure


def _indices(section: Section, data: dict[str, Any]) -> str:
    names, silent = data["correlations"]["names"], data["correlations"]["silent"]
    table = _table(section, words=True, silent=len(section.table[0]) - 1)  # type: ignore[index]
    if not any(value is not None for line in data["correlations"]["matrix"] for value in line):
        return _text(f"{section.text} Here there are fewer than three networks, or nothing varies.") + table
    alive = [name for name in names if name not in silent] or names
    first = data["x"] if data["x"] in names else alive[-1]
    pair = (
        f'<p class="choose"><label for="pair-x">Horizontal axis</label> {_select("pair-x", names, first)} '
        f'<label for="pair-y">vertical axis</label> {_select("pair-y", names, "accuracy")}</p>'
        '<p id="pair-found" role="status" aria-live="polite"></p>'
    )
    heat = _figure("correlations-figure", "Spearman's rank correlation of each pair of indices.")
    scatter = _figure("pair-figure", "The two chosen indices against each other, one point per network.")
    return (
        f'{_text(section.text)}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="Rank correlations">{heat}</div>{pair}{scatter}{table}'
    )


def _plain(section: Section) -> str:
    return _text(section.text) + _table(section)


def _pictures(text: str, pictures: Iterable[Picture], room: int) -> tuple[str, int]:
    """The pictures that fit into ``room`` bytes, with the names of the others; and the bytes left."""
    shown, missing = [], []
    for picture in pictures:
        figure = picture.html()
        if len(figure) <= room:
            room -= len(figure)
            shown.append(figure)
        else:
            missing.append(str(picture.file))
    note = _text(f"Too large for this page: {', '.join(missing)}.") if missing else ""
    return f'{_text(text)}<div class="pictures">{"".join(shown)}</div>{note}', room


def _text(text: str) -> str:
    options = re.sub("--[a-z][a-z-]*", r'<span class="whole">\g<0></span>', html.escape(text))
    return f"<p>{options}</p>" if text else ""


def _figure(key: str, label: str) -> str:
    return f'<div class="plot" id="{key}" role="img" aria-label="{html.escape(label)}"></div>'


def _select(key: str, names: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{html.escape(name)}"{" selected" if name == chosen else ""}>{html.escape(name)}</option>'
        for name in dict.fromkeys(names)
    )
    return f'<select id="{key}">{options}</select>'


def _empty_table(key: str, caption: str) -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}"><table id="{key}">'
        f"{_caption(caption)}<thead></thead><tbody></tbody></table></div>"
    )


def _caption(text: str) -> str:
    return f"<caption><span>{html.escape(text)}</span></caption>"


def _table(section: Section, *, words: bool = False, silent: int | None = None) -> str:
    """A table of numbers, or of words, with its caption; rows with text in column number ``silent`` are grey."""
    if section.table is None:
        return ""
    headings, rows = section.table
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in headings)
    lines = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        attribute = ' class="silent"' if silent is not None and row[silent] else ""
        lines.append(f'<tr{attribute}><th scope="row">{html.escape(first)}</th>{cells}</tr>')
    tall = len(rows) > TALL
    caption = f"{section.caption} ({len(rows)} rows: scroll)" if tall else section.caption
    return (
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f'<table class="{"words" if words else "plain"}">{_caption(caption)}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _networks(data: dict[str, Any], rule: dict[str, Any]) -> str:
    count = len(data["rankings"][rule["ranking"]]["order"])
    return f"{count} network{'' if count == 1 else 's'}"


def _rounded_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten.

    >>> _rounded_up(0.013), _rounded_up(0.2)
    (0.02, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(value))
    return next(round(step * power, 12) for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder."""

    file: Path
    alt: str
    caption: str

    def html(self) -> str:
        """The picture as HTML that holds its bytes."""
        content = base64.b64encode(self.file.read_bytes()).decode()
        image = f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{content}">'
        return f"<figure>{image}<figcaption>{html.escape(self.caption)}</figcaption></figure>"


def slice_pictures(report: Report) -> list[Picture]:
    """The slices of the first equal networks that have any."""
    records = [
        (trial.number, record_of(trial)) for trial in complete_trials(report.study) if record_of(trial).get("slices")
    ]
    shown: dict[str, list[Picture]] = {}
    for _, row in report.selection.equal.iterrows():
        for trial, record in records:
            if any(record["candidate"][key] != row[key] for key in ("head", "learning_rate")):
                continue
            network = f"{row['network']}, seed {record['candidate'].get('seed', 0)}, trial {trial}"
            files = [report.folder / "slices" / Path(name).name for name in record["slices"]]
            pictures = [
                Picture(file, f"The cells of {network}, {_position(file)}", f"{network}: {_position(file)}")
                for file in files
                if file.is_file()
            ]
            if pictures and len(shown) < MOST_SLICES:
                shown[network] = pictures
    return [picture for pictures in shown.values() for picture in pictures]


def _position(file: Path) -> str:
    """Where a slice lies, read from the name that `plots.slices.draw_slices` gave its file."""
    return "around the first sample" if file.stem.endswith("_near") else "the plane through three samples"


def embedding_pictures(report: Report) -> list[Picture]:
    """The embedded codes that `nas-relucode figure` drew in the folder."""
    files = sorted(report.folder.glob("embedding*.png"))
    return [Picture(file, "Codes of the layers and epochs, embedded by UMAP", file.stem) for file in files]


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return (resources.files("nas_relucode.report") / name).read_text("utf-8")
