"""The third question of docs/evidence.md: which index says how well features carry over to classes not trained on?

    python docs/_generate/evidence_third.py DATA_ROOT MNIST [MNIST_AGAIN CIFAR10 ...]

Each folder is the output of ``nas-relucode evidence --body NAME --output FOLDER``, named like its body; the index is
chosen on the first. What is measured is kept beside the weights, so that the script may be stopped and run again.
Written: docs/evidence/third.csv.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from evidence_tables import as_markdown

from nas_relucode.evidence.bodies import load_trained
from nas_relucode.evidence.examining import Networks, examine
from nas_relucode.evidence.families import FAMILIES, Family, load_family
from nas_relucode.evidence.judging import Body, choices, chosen_by_chance, judged, read_body
from nas_relucode.evidence.measuring import Measured, others_of
from nas_relucode.files import write_atomically
from nas_relucode.qualities.registry import QUALITIES, outcomes
from nas_relucode.training.data import Split, load_data

QUALITY = "linear_probe_accuracy"
FEATURES = "features"  # the inputs of the last linear layer
SAMPLES = 2000
SECONDS = "probe_seconds.txt"  # beside the weights: the median of the first run


def main() -> None:
    torch.set_num_threads(1)
    data_root, folders = Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]]
    bodies = {folder.name: probed(folder.name, folder / "weights", data_root) for folder in folders}
    first = folders[0].name
    for name, body in bodies.items():  # a body drawn again costs what the first one does
        if body.networks.seconds is None:
            bodies[name] = replace(body, networks=replace(body.networks, seconds=bodies[first].networks.seconds))
    half, tables = bodies[first].halves[0], []
    chosen = choices(half)
    for name, body in bodies.items():
        findings = examine(body.networks)
        best = findings.pairs.nsmallest(8, "p")[["column", "direction", "gain", "worst_gain", "partial", "p"]]
        print(f"\n{name}: {len(body.networks.table)} candidates; permuted: {findings.permuted_p:.2f}\n{best}")
        parts = {"held_out": body.halves[1]} | ({} if name == first else {"all": body.networks})
        for part, networks in parts.items():
            for kind, choice in (("index", chosen), ("baseline", choices(half, baselines=True))):
                table = judged(choice, half, body, networks)
                if kind == "index" and len(table):
                    table = table.join(chosen_by_chance(half, networks).add_prefix("permuted_"), on="quality")
                print(f"\n{name}, {part}, {kind}\n{as_markdown(table)}", flush=True)
                tables.append(table.assign(body=name, part=part, kind=kind))
        write_pairs(findings.pairs, name)
    table = pd.concat(tables)
    table.to_csv(Path(__file__).parents[1] / "evidence" / "third.csv", index=False, float_format="%.4g")


def write_pairs(pairs: pd.DataFrame, name: str) -> None:
    """All indices and baselines beside the probe, of one body."""
    pairs.to_csv(Path(__file__).parents[1] / "evidence" / name / "third_pairs.csv", index=False, float_format="%.4g")


def probed(name: str, folder: Path, data_root: Path) -> Body:
    """A body whose only quality is the probe of images of another data set."""
    family = FAMILIES[name]
    body, seconds = read_body(name, folder), []
    probe, data = others(family, data_root), load_family(family, data_root=data_root)
    quality = QUALITIES[QUALITY].with_settings(QUALITY, others=probe)
    measured: dict[int, list[Measured]] = {}
    for number in body.networks.table.index:
        measured[number] = []
        for seed in family.seeds:
            file = folder / f"{number:03d}_seed{seed}.probe.npy"
            if not file.exists():
                trained = load_trained(family, data, folder, number, seed)
                start = time.process_time()
                assert trained is not None
                columns = np.stack(outcomes(trained.network, data.test, quality).columns).astype(np.float32)
                seconds.append(time.process_time() - start)
                write_atomically(file, partial(write_array, columns))
            columns = np.load(file, allow_pickle=False)
            measured[number].append(Measured({QUALITY: float(columns.mean())}, {QUALITY: columns}))
    if seconds and not (folder / SECONDS).exists():
        (folder / SECONDS).write_text(str(np.median(seconds)))
    return replace(body, measured=measured, networks=with_probe(body.networks, family, folder, measured))


def write_array(array: np.ndarray, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, array)


def with_probe(networks: Networks, family: Family, folder: Path, measured: dict[int, list[Measured]]) -> Networks:
    """The networks with the probe as their only quality, and the number of features as one more baseline."""
    designs = family.designs()
    table = networks.table.assign(
        **{
            QUALITY: [np.mean([seed.numbers[QUALITY] for seed in measured[number]]) for number in networks.table.index],
            FEATURES: [int(designs[number]["head"].split("-")[-1]) for number in networks.table.index],
        }
    )
    seconds = dict(networks.seconds or {}) | {QUALITY: float((folder / SECONDS).read_text())}
    return replace(
        networks,
        table=table,
        baselines=(*networks.baselines, FEATURES),
        qualities={QUALITY: "maximize"},
        seconds=seconds if networks.seconds else None,
    )


def others(family: Family, data_root: Path) -> Split:
    """Labelled images of classes that the networks of a family were not trained on, in the shape of its own."""
    data = load_family(family, data_root=data_root)
    images = others_of(family, data, data_root)
    assert images is not None
    other = load_data("cifar10_small" if data.image_shape[0] == 1 else "mnist", data_root=data_root)
    assert other.test.labels is not None
    return Split(images[:SAMPLES], other.test.labels[: len(images)][:SAMPLES])


if __name__ == "__main__":
    main()
