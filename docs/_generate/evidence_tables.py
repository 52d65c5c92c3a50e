"""The results of docs/evidence.md from measured bodies: tables, pictures, and the results that come with the package.

    python docs/_generate/evidence_tables.py runs/evidence/mnist [runs/evidence/cifar10 ...]

Each folder is the output of ``nas-relucode evidence --body NAME --output FOLDER``, named like its body, the first one
the body that indices are chosen on. Written: docs/evidence/NAME/*.csv and *.png, nas_relucode/ranking/evidence.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nas_relucode.evidence.examining import (
    FEWEST,
    Networks,
    Pair,
    examine,
    partial_correlations,
    with_correlations,
)
from nas_relucode.evidence.judging import Body, choices, chosen_by_chance, judged, read_body
from nas_relucode.evidence.known import known_results, write_known
from nas_relucode.evidence.nas_bench_201 import networks_at_initialisation, published, read_images, score_networks
from nas_relucode.evidence.report import write_findings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "evidence"
REPORTED = ("mnist", "cifar10")  # by the package: digits are too few, mnist_again repeats mnist
FEWEST_PAIRS = 20  # that differ in one hyper-parameter, from which on their order is reported
IN_BANDS = ("partial", "partial_low", "partial_high", "partial_all_controls", "gain", "gain_low", "gain_high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--nas-bench-201", nargs=2, type=Path, metavar=("TABLE", "SCORES"))
    parser.add_argument(
        "--images", type=Path, help="score what SCORES lacks first, on the images of cifar10_subset.npz"
    )
    options = parser.parse_args()
    if options.nas_bench_201:
        table, scores = options.nas_bench_201
        if options.images:
            torch.set_num_threads(1)
            score_networks(published(table), read_images(options.images), scores, on_network=print)
        at_initialisation(table, scores)
    if options.folders:
        trained(options.folders)


def at_initialisation(table: Path, scores: Path) -> None:
    """NAS-Bench-201: what `score_networks` computed beside what is published, over the bands and in each."""
    networks = networks_at_initialisation(published(table), scores)
    sizes = {band: len(rows) for band, rows in networks.strata.items()}
    findings = examine(networks)
    *_, text = write_findings(findings, DOCS / "nas_bench_201", f"NAS-Bench-201 at initialisation: {sizes}")
    text.unlink()
    rows = [
        {
            "column": name,
            "quality": quality,
            "band": band,
            "networks": len(own),
            **in_one_band(networks, name, quality, band),
        }
        for name in networks.columns
        for quality in networks.qualities
        for band, own in networks.strata.items()
    ]
    by_band = pd.DataFrame(rows)
    by_band.to_csv(DOCS / "nas_bench_201" / "by_band.csv", index=False, float_format="%.3g")
    print(f"{sizes}; permuted indices: smallest adjusted p {findings.permuted_p:.3f}")
    print(findings.pairs[findings.pairs["column"].isin([*networks.indices, "parameters", "nwot"])].to_string())
    print(by_band[by_band["column"].isin([*networks.indices, "parameters"])].to_string())


def in_one_band(networks: Networks, name: str, quality: str, band: str) -> dict[str, float]:
    """Partial correlation and captured gain in one band, in the direction that the mean over bands has."""
    sign = -1 if partial_correlations(networks, [name], [quality]).mean() < 0 else 1
    one = networks.in_strata({band: networks.strata[band]})
    row = with_correlations([Pair.of(one, name, quality, sign)], one).iloc[0]
    return {key: row[key] for key in IN_BANDS}


def trained(folders: list[Path]) -> None:
    """The bodies of trained networks; indices are chosen on the first."""
    bodies = {folder.name: read_body(folder.name, folder / "weights") for folder in folders}
    development = folders[0].name
    half = bodies[development].halves[0]
    known = {}
    for name, body in bodies.items():
        findings = known[name] = examine(body.networks)
        title = f"{len(body.networks.table)} networks on {name}, two seeds each"
        *_, text = write_findings(findings, DOCS / name, title)
        text.unlink()  # docs/evidence.md says it
        print(f"\n{name}: {len(body.networks.table)} candidates, {body.diverged} diverged")
        print({band: len(rows) for band, rows in body.networks.strata.items()})
        print(f"smallest adjusted p of permuted indices: {findings.permuted_p:.3f}")
        for kind, baselines in (("indices", False), ("baselines", True)):
            chosen = choices(half, baselines=baselines)
            for part, networks in parts(body, name == development).items():
                table = judged(chosen, half, body, networks)
                if table.empty:
                    continue
                if not baselines:
                    table = table.join(chosen_by_chance(half, networks).add_prefix("permuted_"), on="quality")
                table.to_csv(DOCS / name / f"judged_{kind}_{part}.csv", index=False, float_format="%.4g")
                print(f"\n{name}, {part}: chosen {kind}\n\n{as_markdown(table)}", flush=True)
    whole = {name: body for name, body in bodies.items() if name in REPORTED}
    write_known(known_results(whole, known, development), ROOT / "nas_relucode" / "ranking" / "evidence.csv")


def as_markdown(judged: pd.DataFrame) -> str:
    """The rows of docs/evidence.md: choices by their gain."""

    def interval(row: pd.Series, name: str) -> str:
        return f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"

    lines, with_pairs = [], (judged["pairs"] >= FEWEST_PAIRS).any()
    for _, row in judged.sort_values("gain", ascending=False).iterrows():
        way = "large" if row["direction"] == "maximize" else "small"
        chance = f"{row['permuted_gain']:.2f}, {row['permuted_passed']:.0%}" if "permuted_gain" in row else ""
        cells = [
            row["quality"].replace("_", " "),
            f"`{row['column']}`, {way}",
            f"{row['development_gain']:.2f}",
            interval(row, "gain"),
            f"{row['worst_gain']:.2f}",
            interval(row, "partial"),
            f"{row['cost']:.2f}",
            f"{row['direct_gain']:.2f}",
            f"{row['baseline_gain']:.2f} {row['best_baseline']}",
            chance,
            *([f"{row['wrong_pairs']} of {row['pairs']}"] if with_pairs else []),
        ]
        lines.append("| " + " | ".join("" if cell == "nan" else cell for cell in cells) + " |")
    return "\n".join(lines)


def parts(body: Body, chosen_here: bool) -> dict[str, Networks]:
    """The networks that choices are judged on; of a body that took no part in choosing, all of them, too.

    The finalists are those of the whole body within one standard error of the best, less those that took part in
    choosing. There must be at least `FEWEST` of them.
    """
    networks = {"held_out": body.halves[1]}
    if not chosen_here:
        networks["all"] = body.networks
    finalists = body.finalists
    if chosen_here:
        finalists = np.intersect1d(finalists, np.concatenate(list(body.halves[1].strata.values())))
    print(f"{len(finalists)} finalists within one standard error of the best")
    if len(finalists) >= FEWEST:
        networks["finalists"] = body.networks.in_strata({"finalists": finalists})
    return networks


if __name__ == "__main__":
    main()
