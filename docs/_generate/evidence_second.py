"""The second question of docs/evidence.md: is SWAP's score of all layers evidence for robustness to attacks?

    python docs/_generate/evidence_second.py MNIST MNIST_AGAIN CIFAR10

Each argument is the output of ``nas-relucode evidence --body NAME --output FOLDER``. The first body gives the baselines
their directions; the index is judged on the second, and on the candidates of the third that the first question has not
seen. Written: docs/evidence/second.csv.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from nas_relucode.evidence.examining import Networks, Pair, with_correlations
from nas_relucode.evidence.families import Family, SmallNetwork
from nas_relucode.evidence.judging import Body, Choice, judged, read_body
from nas_relucode.evidence.measuring import WITHOUT_CODES, read_costs

INDEX = "all:distinct_patterns"
QUALITIES = ("fgsm_accuracy", "pgd_accuracy")
NEURONS = "neurons"
OTHERS = {
    "all:logdet_kernel": 1,
    "all:varying_neurons": 1,
    "local_complexity": -1,
    "affine_norm": -1,
}
SEEN = {*range(0, 95, 2), *range(1, 92, 2)}  # the candidates of CIFAR-10 that the first question was answered with
SHAPES = {"mnist_again": (1, 28, 28), "cifar10": (3, 32, 32)}


def main() -> None:
    mnist, again, cifar10 = (Path(folder) / "weights" for folder in sys.argv[1:])
    costs = read_costs(mnist)
    development = replace(read_body("mnist", mnist).halves[0], baselines=WITHOUT_CODES)
    body = read_body("mnist_again", again)
    bodies = {
        "mnist_again": replace(body, networks=replace(body.networks, seconds=costs)),
        "cifar10": read_body("cifar10", cifar10, without=SEEN),
    }
    tables = [answer(name, body, development) for name, body in bodies.items()]
    table = pd.concat(tables)
    table.to_csv(Path(__file__).parents[1] / "evidence" / "second.csv", index=False, float_format="%.4g")


def answer(name: str, body: Body, development: Networks) -> pd.DataFrame:
    """The rows of one body, printed and returned: the index beside its baselines, then other indices beside it."""
    table = body.networks.table.assign(
        **{NEURONS: [neurons(body.family, name, candidate) for candidate in body.networks.table.index]}
    )
    networks = replace(body.networks, table=table, baselines=WITHOUT_CODES)
    sizes = {band: len(rows) for band, rows in networks.strata.items()}
    print(f"\n{name}: {len(table)} candidates, {body.diverged} diverged; bands {sizes}")
    choices = {quality: Choice(quality, INDEX, 1, np.nan) for quality in QUALITIES}
    rows = judged(choices, development, body, networks)
    by_size = [max(Pair.of(networks, NEURONS, q, sign).gain for sign in (1, -1)) for q in rows["quality"]]
    rows["neurons_gain"] = by_size
    rows["evidence"] &= rows["gain"] > rows["neurons_gain"]
    pairs = [Pair.of(networks, other, quality, sign) for other, sign in OTHERS.items() for quality in QUALITIES]
    beside = with_correlations(pairs, networks)
    for row in [*rows.to_dict("records"), *beside.to_dict("records")]:
        print(
            f"{row['quality']:14} {row['column']:24} {row['gain']:5.2f} ({row['gain_low']:.2f} to "
            f"{row['gain_high']:.2f}; worst {row['worst_gain']:.2f}), partial {row['partial']:.2f} "
            f"({row['partial_low']:.2f} to {row['partial_high']:.2f})"
        )
    print(rows[["quality", "cost", "direct_gain", "best_baseline", "baseline_gain", "neurons_gain", "evidence"]])
    return pd.concat([rows, beside]).assign(body=name, networks=sum(sizes.values()))


def neurons(family: Family, name: str, candidate: int) -> int:
    """How many ReLUs a candidate has."""
    network, count = SmallNetwork(family.designs()[candidate], SHAPES[name], 10), 0

    def add(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal count
        count += output[0].numel()

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(add)
    network(torch.zeros(1, *SHAPES[name]))
    return count


if __name__ == "__main__":
    main()
