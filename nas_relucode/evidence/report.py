"""Findings as sentences, tables and pictures in a folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nas_relucode.evidence.examining import Findings
from nas_relucode.evidence.studies import few
from nas_relucode.files import write_together
from nas_relucode.plots.evidence import FIRM, save_best_pairs, save_heat_map

GAINS = ("gain", "gain_low", "gain_high", "worst_gain")
SHOWN = ("column", "direction", *GAINS, "partial", "partial_low", "partial_high", "p", "cost")
FILES = ("networks.csv", "pairs.csv", "heatmap.png", "best_pairs.png", "evidence.md")


def sentences(findings: Findings, *, chosen_here: bool = True) -> list[str]:
    """What follows from the findings, a sentence for each quality and one for each thing that limits them.

    ``chosen_here`` says that directions and first columns were chosen on these very networks.
    """
    networks, result = findings.networks, []
    sizes = ", ".join(f"{name} ({len(rows)} networks)" for name, rows in networks.strata.items())
    result.append(f"Networks of nearly equal accuracy: {sizes}.")
    for quality in networks.qualities:
        pairs = findings.pairs[findings.pairs["quality"] == quality].sort_values("gain", ascending=False)
        firm = pairs[(pairs["p"] < FIRM) & (pairs["gain_low"] > 0)]
        indices, baselines = firm[~firm["baseline"]], pairs[pairs["baseline"]]
        if indices.empty:
            least = pairs.loc[~pairs["baseline"], "p"].min()
            result.append(
                f"{quality}: no index goes with it by more than chance and captures more than a random choice "
                f"(smallest adjusted p {least:.2g})."
            )
            continue
        first = indices.iloc[0]
        text = (
            f"{quality}: choosing by {first['column']} ({first['direction']}) captures {_gain(first)} of what could be "
            f"gained; adjusted p {first['p']:.2g}."
        )
        if len(baselines):
            text += f" The best baseline, {baselines['column'].iloc[0]}, captures {_gain(baselines.iloc[0])}."
        result.append(text)
    if chosen_here:
        result.append("Indices and directions were chosen on these networks, so these gains are optimistic.")
    result.append(
        "With the indices permuted among networks of equal accuracy the smallest adjusted p is "
        f"{findings.permuted_p:.2g}."
    )
    if limit := few(networks):
        result.append(limit)
    for reason in dict.fromkeys(findings.left_out.values()):
        names = ", ".join(name for name, why in findings.left_out.items() if why == reason)
        result.append(f"These cannot order the networks, since they are {reason}: {names}.")
    return result


def _gain(pair: pd.Series) -> str:
    return f"{pair['gain']:.2f} (95 % interval {pair['gain_low']:.2f} to {pair['gain_high']:.2f})"


def table_of(findings: Findings, quality: str, rows: int = 8) -> pd.DataFrame:
    """The columns that capture most of a quality, indices and baselines together."""
    pairs = findings.pairs[findings.pairs["quality"] == quality].sort_values("gain", ascending=False)
    return pairs[[name for name in SHOWN if name in pairs]].head(rows).reset_index(drop=True)


def write_findings(findings: Findings, folder: str | Path, title: str, *, chosen_here: bool = True) -> list[Path]:
    """Writes the networks, all pairs, two pictures and a page of text, or nothing; the files, in this order."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    networks, pairs = findings.networks, findings.pairs
    text = [f"# {title}", "", *(f"- {line}" for line in sentences(findings, chosen_here=chosen_here)), ""]
    for quality in networks.qualities:
        text += [f"## {quality}", "", _markdown(table_of(findings, quality)), ""]
    writers = (
        lambda path: networks.table.to_csv(path, index_label="candidate"),
        lambda path: pairs.to_csv(path, index=False, float_format="%.5g"),
        lambda path: save_heat_map(path, pairs, title),
        lambda path: save_best_pairs(path, networks.table, networks.strata, pairs, title),
        lambda path: path.write_text("\n".join(text), encoding="utf-8"),
    )
    files = {folder / name: write for name, write in zip(FILES, writers, strict=True)}
    write_together(files)
    return list(files)


def _markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers with two digits."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"{value:.2g}" if abs(value) < 0.01 else f"{value:.2f}"
        return str(value).replace("|", "\\|")

    rows = [list(table.columns), ["---"] * table.shape[1], *([cell(v) for v in row] for row in table.itertuples(False))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
