"""The results of docs/evidence.md from measured bodies: tables, pictures, and the results that come with the package.

    python docs/_generate/evidence_tables.py runs/evidence/mnist [runs/evidence/cifar10 ...]

Each folder is the output of ``nas-relucode evidence --body NAME --output FOLDER``, named like its body, the first one
the body that indices are chosen on. Written: docs/evidence/NAME_*.csv and .png, nas_relucode/ranking/evidence.csv.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pandas as pd

from nas_relucode.evidence.examining import Networks, Pair, examine
from nas_relucode.evidence.judging import Body, choices, comparable_pairs, judged, read_body
from nas_relucode.evidence.known import known_results, write_known
from nas_relucode.evidence.nas_bench_201 import networks_at_initialisation, published
from nas_relucode.evidence.report import write_findings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "evidence"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--nas-bench-201", nargs=2, type=Path, metavar=("TABLE", "SCORES"))
    options = parser.parse_args()
    if options.nas_bench_201:
        at_initialisation(*options.nas_bench_201)
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
    sign = Pair.of(networks, name, quality).sign
    one = dataclasses.replace(networks, strata={band: networks.strata[band]})
    row = Pair.of(one, name, quality, sign).row()
    return {key: row[key] for key in ("partial", "partial_all_controls", "gain", "gain_low", "gain_high")}


def trained(folders: list[Path]) -> None:
    """The bodies of trained networks; indices are chosen on the first."""
    bodies = {folder.name: read_body(folder.name, folder / "weights") for folder in folders}
    development = folders[0].name
    half = bodies[development].halves[0]
    for name, body in bodies.items():
        findings = examine(body.networks)
        title = f"{len(body.networks.table)} networks on {name}, two seeds each"
        *_, text = write_findings(findings, DOCS / name, title)
        text.unlink()  # docs/evidence.md says it
        print(f"\n{name}: {len(body.networks.table)} candidates, {body.diverged} diverged")
        print(f"smallest adjusted p of permuted indices: {findings.permuted_p:.3f}")
        for title, baselines in (("indices", False), ("baselines", True)):
            table = judged(choices(half, baselines=baselines), half, body, body.halves[1])
            table["wrong_pairs"] = [wrong_pairs(body, row) for _, row in table.iterrows()]
            table.to_csv(DOCS / name / f"judged_{title}.csv", index=False, float_format="%.4g")
            print(f"\nchosen {title} on the held-out half\n{table.to_string()}")
    whole = {name: body for name, body in bodies.items() if name != "digits"}  # the quick body shows nothing by itself
    write_known(known_results(whole, development), ROOT / "nas_relucode" / "ranking" / "evidence.csv")


def wrong_pairs(body: Body, row: pd.Series) -> str:
    """How many pairs of candidates that differ in one hyper-parameter the index orders wrongly."""
    sign = 1 if row["direction"] == "maximize" else -1
    pairs, wrong = comparable_pairs(body, str(row["column"]), str(row["quality"]), sign)
    return f"{wrong} of {pairs}"


if __name__ == "__main__":
    main()
