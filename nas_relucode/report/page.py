"""report.html: one self-contained page: the verdict, a picture of the accuracies, and everything else folded."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from nas_relucode.plots.pareto import ANSWERS
from nas_relucode.ranking.words import meaning
from nas_relucode.report.contents import Report, page_data
from nas_relucode.report.sections import Section, described
from nas_relucode.report.words import TERMS, explained, term_id
from nas_relucode.texts import as_json

MOST_BYTES = 4_000_000  # of the page: pictures that would exceed it are only named
MOST_SLICES = 3  # networks whose slices are shown
LIBRARIES = ("d3.min.js", "plot.umd.min.js")  # in the folder vendor, in the order in which the page needs them
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
READING = (
    "Each point is a network; press one for its details. Its bar is the interval of its accuracy, as the comparison "
    "with the most accurate network gives it; the grey band is the margin. Equal: the bar stays above the band's lower "
    "edge. Worse: it stays below the upper edge. Cannot be told: neither. Outlines mark the Pareto front, the "
    "dashed line the least accurate finalist."
)
CHOICE = (
    "Who is a finalist? The verdict is by the first rule; the others, and the largest gap to the best accuracy, show "
    "what else might have been chosen. Press a network for its details."
)
CURVES = "Occupied cells of the first networks; faint: those that hold a correctly classified sample. Means over seeds."
PARALLEL = (
    "A line for each network across its accuracies, indices and size; finalists are drawn thicker. Better values are "
    "higher up, if it is known which are better. A column that orders the networks like an earlier one (rank "
    "correlation beyond 0.95) is left out."
)
PROFILES = {
    True: "The largest component's share of the cells as theta grows, in the joint codes of the last kept epoch.",
    False: "The smallest thetas at which the largest component holds 50, 90 and 100 % of the cells.",
}
SLICES = (
    "The cells in the plane through three training samples, and those around the first of them, coloured by the class "
    "that is predicted in them."
)
EMBEDDINGS = "Codes embedded in the plane by UMAP under the Hamming distance, as nas-relucode figure drew them."


def page(report: Report, sections: Sequence[Section]) -> str:
    """The whole page, with the libraries that draw and the rankings among which its reader chooses."""
    data = page_data(report)
    title = html.escape(report.study.study_name)
    parts = {section.heading: section for section in sections}
    description = described(report)
    body = [
        f"<header><h1>Study {title}</h1>{_text(description)}</header>",
        _verdict(parts["Verdict"], report.selection.networks["network"].iloc[0]),
        _picture(report, data),
        '<section id="details" aria-labelledby="details-heading"><h2 id="details-heading">Details</h2>',
        _fold("networks", "Networks", _networks(report, data)),
        _fold("parallel", "All columns at once", _figure("parallel", PARALLEL, data["parallel"][1:])),
        _fold("curves", "Occupied cells by layer", _figure("curves", CURVES, data["curves"])),
        _fold("profiles", "Connectivity", _profiles(data)),
        _fold("indices", "Indices", _indices(parts["Indices"], report)),
        _fold("trials", "Trials", _text(parts["Trials"].text)),
        _fold("settings", "Settings", _text(parts["Settings"].text) + _table(parts["Settings"])),
        _fold("terms", "Terms", _terms()),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}: report</title><style>{_colours()}{_file('page.css')}</style></head><body><main>"
    )
    libraries = "".join(f"<script>{_file(f'vendor/{name}')}</script>" for name in LIBRARIES)
    end = (
        '</section></main><div id="tip" popover="manual" role="tooltip"></div><div id="card" popover role="dialog" '
        f'aria-label="Details of a network"></div><script type="application/json" id="data">{_json(data)}</script>'
        f"{libraries}<script>{_file('page.js')}</script></body></html>"
    )
    room = MOST_BYTES - len(end.encode()) - sum(len(part.encode()) for part in [head, *body])
    for key, heading, text, files in (
        ("slices", "Slices", SLICES, slice_pictures(report)),
        ("embeddings", "Embeddings", EMBEDDINGS, embedding_pictures(report)),
    ):
        pictures, room = _pictures(text, files, room)
        body.insert(-3, _fold(key, heading, pictures))
    return head + "".join(body) + end


def _verdict(section: Section, first: str) -> str:
    """The verdict, whose first sentence names the first choice, and what limits it."""
    choice, stop, rest = section.text.partition(f"Choose {first}.")
    text = f"{choice}<strong>{html.escape(stop)}</strong>{explained(rest)}" if stop else explained(section.text)
    limits = "".join(f"<li>{explained(point)}</li>" for point in section.points)
    return (
        '<section id="verdict" aria-labelledby="verdict-heading"><h2 id="verdict-heading">Verdict</h2>'
        f"<p>{text}</p>" + (f'<ul class="limits">{limits}</ul>' if limits else "") + "</section>"
    )


def _picture(report: Report, data: dict[str, Any]) -> str:
    """The place of the picture, the choice of its horizontal axis, and what its colours mean."""
    varying = [name for name in report.correlations.names if name not in report.correlations.silent]
    names = dict.fromkeys([data["x"], *(name for name in varying if name != "accuracy")])
    words = {name: html.escape(report.selection.in_words(name)) for name in names}
    options = "".join(f'<option value="{html.escape(name)}">{words[name]}</option>' for name in names)
    counts = report.selection.comparison["answer"].value_counts()
    legend = "".join(
        f"<li>{_sign(answer)} {explained(style.words)} ({counts[answer]})</li>"
        for answer, style in ANSWERS.items()
        if answer in counts
    )
    return (
        '<section id="picture" aria-labelledby="picture-heading"><h2 id="picture-heading">Accuracy of each network</h2>'
        f'<p class="choose"><label for="x">against</label> <select id="x">{options}</select></p>'
        f'<ul class="legend" aria-label="Colours">{legend}</ul>'
        '<div class="plot" id="front-figure" role="group" aria-label="Accuracy of each network; arrow keys go from one '
        'to the next, Enter opens its details. The table under Details holds the same."></div>'
        f'<p id="below" class="quiet"></p><p class="quiet">{explained(READING)}</p></section>'
    )


def _networks(report: Report, data: dict[str, Any]) -> str:
    """The table of all networks, the finalists first, with the choice of the rule."""
    if not data["rules"]:
        return _network_table(report, data)
    gaps = [rule["gap"] for rule in data["rules"]]
    end = min(1.0, _rounded_up(max(4 * max(gaps), 10 * data["margin"])))
    presets = "".join(
        f'<button type="button" data-rule="{rule["key"]}">{html.escape(rule["name"])} '
        f"({len(data['rankings'][rule['ranking']]['order'])})</button>"
        for rule in data["rules"]
    )
    return (
        f"<p>{explained(CHOICE)}</p><fieldset><legend>Finalists</legend>"
        f'<div role="group" aria-label="Rules">{presets}</div>'
        '<div><label for="gap">or at most this far below the best</label>'
        f'<input type="range" id="gap" min="0" max="{end:g}" step="{end / 500:g}" aria-describedby="chosen">'
        '<label for="gap-number">exactly</label><input type="number" id="gap-number" min="0" max="1" step="any" '
        'required inputmode="decimal" aria-describedby="gap-wrong"></div>'
        '<p id="gap-wrong" class="wrong" role="status"></p></fieldset>'
        f'<p id="chosen" role="status"></p><p id="order"></p>{_network_table(report, data)}'
    )


def _network_table(report: Report, data: dict[str, Any]) -> str:
    selection, networks = report.selection, report.selection.networks
    wanted = dict.fromkeys(["test_accuracy", *selection.objectives, *selection.by, "parameters"])
    names = [name for name in wanted if name != "accuracy" and selection.networks[name].notna().any()]
    words = [
        "place",
        "network",
        "against the best",
        "below the best",
        *map(selection.in_words, ["accuracy", *names]),
        "seeds",
    ]
    headings, tips = [*words, "front"], {selection.in_words(name): meaning(name) for name in ("accuracy", *names)}
    signs = {answer: _sign(answer) for answer in ANSWERS}
    columns = [
        ["" if math.isnan(place) else f"{place:.0f}" for place in networks["place"]],
        [
            f'<button type="button" class="name" data-row="{row}" aria-expanded="false">{html.escape(name)}</button>'
            for row, name in enumerate(data["label"])
        ],
        [
            f"<span>{signs[answer]} {html.escape(words)}</span>"
            for answer, words in zip(data["answer"], data["in_words"], strict=True)
        ],
        map(html.escape, data["difference"]),
        *(map(html.escape, data["text"][name]) for name in ("accuracy", *names)),
        map(str, networks["seeds"]),
        ["on it" if on_it else "" for on_it in data["front"]],
    ]
    labels, rows = list(map(html.escape, headings)), enumerate(zip(*columns, strict=True))
    lines = [f'<tr role="row" id="network-{row}">{_cells(labels, cells)}</tr>' for row, cells in rows]
    return _lines_table("network-table", "All networks, the finalists first, then by accuracy", headings, lines, tips)


def _figure(key: str, text: str, content: Any) -> str:
    """The place of a figure, if it has any content."""
    label = html.escape(text.split(";")[0].split(".")[0])
    return f'{_text(text)}<div class="plot" id="{key}-figure" role="img" aria-label="{label}"></div>' if content else ""


def _profiles(data: dict[str, Any]) -> str:
    known = bool(data["profiles"])
    return _figure("profiles", PROFILES[known], known or "connecting_theta_50" in data["mean"])


def _indices(section: Section, report: Report) -> str:
    """What the indices mean, and the matrix of their rank correlations."""
    names, matrix = report.correlations.names, report.correlations.matrix
    alive = [i for i, name in enumerate(names) if name not in report.correlations.silent]
    meanings = f"<p>{explained(section.text)}</p>{_table(section)}"
    if len(alive) < 2:
        return meanings
    words = [html.escape(report.selection.in_words(name)) for name in names]
    head = "".join(f'<th scope="col"><span>{words[i]}</span></th>' for i in alive)
    lines = []
    for i in alive:
        cells = "".join(_correlation(matrix[i, j]) for j in alive)
        lines.append(f'<tr><th scope="row">{words[i]}</th>{cells}</tr>')
    caption = "Rank correlation of each pair of columns: the stronger the shade, the farther from 0"
    return (
        f'{meanings}<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="matrix">'
        f"<caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _correlation(value: float) -> str:
    if math.isnan(value):
        return "<td>-</td>"
    return f'<td style="--strength:{abs(value):.2f}">{value:.2f}</td>'


def _terms() -> str:
    terms = "".join(f'<dt>{html.escape(term)}</dt><dd id="{term_id(term)}">{text}</dd>' for term, text in TERMS.items())
    return f"<dl>{terms}</dl>"


def _fold(key: str, heading: str, inside: str) -> str:
    """A part that opens by a press on its heading; nothing if nothing is inside."""
    if not inside:
        return ""
    return f'<details id="{key}"><summary><h3>{html.escape(heading)}</h3></summary>{inside}</details>'


def _sign(answer: str) -> str:
    """The shape and colour of an answer, beside its word."""
    style = ANSWERS[answer]
    return f'<span class="sign" style="color:var(--{_key(answer)})" aria-hidden="true">{style.sign}</span>'


def _key(answer: str) -> str:
    return answer.replace(" ", "-") or "none"


def _colours() -> str:
    """The colours of the answers as variables of the style sheet, on white and on dark pages."""
    light, dark = (
        "".join(f"--{_key(answer)}:{getattr(style, shade)};" for answer, style in ANSWERS.items())
        for shade in ("light", "dark")
    )
    return f":root{{{light}}}@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"


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
    if not shown and not missing:
        return "", room
    note = _text(f"Too large for this page: {', '.join(missing)}.") if missing else ""
    return f'{_text(text)}<div class="pictures">{"".join(shown)}</div>{note}', room


def _text(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def _table(section: Section) -> str:
    """The table of a section, whose rows fold into cards on a narrow page."""
    if section.table is None:
        return ""
    headings, rows = section.table
    labels = list(map(html.escape, headings))
    lines = [f'<tr role="row">{_cells(labels, list(map(html.escape, row)))}</tr>' for row in rows]
    return _lines_table("", section.caption, headings, lines)


def _cells(labels: Sequence[str], cells: Sequence[str]) -> str:
    """The cells of a row; each names its column, for narrow pages. The roles stay when the style takes the table's."""
    texts = zip(labels, cells, strict=True)
    return "".join(f'<td role="cell" data-label="{label}">{cell}</td>' for label, cell in texts)


def _lines_table(key: str, caption: str, headings: list[str], lines: list[str], tips: Mapping[str, str] = {}) -> str:
    """A table that folds on narrow pages; ``tips`` explain some of its headings."""
    head = "".join(
        f'<th scope="col" role="columnheader">{_heading(name, tips.get(name, ""))}</th>' for name in headings
    )
    identifier = f' id="{key}"' if key else ""
    caption = html.escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table{identifier} class="fold" '
        f'role="table"><caption>{caption}</caption><thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(lines)}</tbody></table></div>'
    )


def _heading(name: str, tip: str) -> str:
    text, tip = html.escape(name), html.escape(tip)
    if not tip:
        return text
    return f'<button type="button" class="term" data-tip="{tip}" aria-description="{tip}">{text}</button>'


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
    """The slices of the first finalists that have any."""
    source = report.selection.source
    shown: dict[str, list[Picture]] = {}
    for name in report.selection.finalists["network"]:
        for trial, network, record in zip(source.ranked, source.networks, source.records, strict=True):
            if network != name or len(shown) == MOST_SLICES:
                continue
            caption = f"{name}, seed {record['seed']}, trial {trial.number}"
            files = [report.folder / "slices" / Path(file).name for file in record.get("slices", [])]
            pictures = [
                Picture(file, f"The cells of {caption}, {_position(file)}", f"{caption}: {_position(file)}")
                for file in files
                if file.is_file()
            ]
            if pictures:
                shown[caption] = pictures
    return [picture for pictures in shown.values() for picture in pictures]


def _position(file: Path) -> str:
    """Where a slice lies, read from the name that `study.slice_pictures.draw_slices` gave its file."""
    return "around the first sample" if file.stem.endswith("_near") else "the plane through three samples"


def embedding_pictures(report: Report) -> list[Picture]:
    """The embedded codes that `nas-relucode figure` drew in the folder."""
    files = sorted(report.folder.glob("embedding*.png"))
    return [Picture(file, "Codes of the layers and epochs, embedded by UMAP", file.stem) for file in files]


def _json(data: dict[str, Any]) -> str:
    return as_json(data, separators=(",", ":")).replace("<", "\\u003c")


def _file(name: str) -> str:
    return resources.files("nas_relucode.report").joinpath(name).read_text("utf-8")
