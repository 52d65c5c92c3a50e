"""The results that come with the package: written from measured bodies, read by `ranking.purposes`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nas_relucode.evidence.examining import Findings, Networks, Pair
from nas_relucode.evidence.judging import Body, choices, judged
from nas_relucode.files import write_atomically
from nas_relucode.ranking.purposes import ALL, HELD_OUT


def known_results(bodies: Mapping[str, Body], findings: Mapping[str, Findings], development: str) -> pd.DataFrame:
    """A row for every index, direction and quality of each body, and for each choice of ``development`` held out.

    ``findings`` are those of `examine` on all networks of each body. The columns are those of
    `ranking.purposes.Result`.
    """
    rows = []
    half = bodies[development].halves[0]
    for name, body in bodies.items():
        chosen = judged(choices(half), half, body, body.halves[1])
        for _, row in chosen.iterrows():
            rows.append(_row(name, HELD_OUT, body.halves[1], row.to_dict(), bool(row["evidence"])))
        pairs = findings[name].pairs.set_index(["column", "quality"])
        for column in filter(body.networks.indices.__contains__, body.networks.columns):
            for quality in body.networks.qualities:
                for sign in (1, -1):
                    pair = Pair.of(body.networks, column, quality, sign)
                    correlated = pairs.loc[(column, quality), "direction"] == pair.direction
                    agrees = correlated == (pair.gain > 0)  # the correlation is for or against it as the gain is
                    row = pair.row() | {"p": pairs.loc[(column, quality), "p"] if agrees else 1.0}
                    rows.append(_row(name, ALL, body.networks, row, False))
    return pd.DataFrame(rows)


def _row(body: str, part: str, networks: Networks, pair: Mapping[str, Any], supported: bool) -> dict[str, Any]:
    return {
        "body": {"mnist": "MNIST", "cifar10": "CIFAR-10"}.get(body, body),
        "part": part,
        "networks": sum(len(rows) for rows in networks.strata.values()),
        **{name: pair[name] for name in ("column", "direction", "quality")},
        "gain": pair["gain"],
        "low": pair["gain_low"],
        "high": pair["gain_high"],
        "worst": pair["worst_gain"],
        "p": pair.get("p"),
        "supported": "yes" if supported else "no",
    }


def write_known(results: pd.DataFrame, path: Path) -> None:
    """Writes the results as CSV, with two digits."""
    write_atomically(path, lambda temporary: results.to_csv(temporary, index=False, float_format="%.2g"))
