"""What the trials of a study recorded over the epochs: counts of cells by layer, and the code spaces that were kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from nas_relucode.cells.code_spaces import CodeSpace, load_code_space
from nas_relucode.errors import InputError
from nas_relucode.study.record import complete_trials, network_label, record_of


@dataclass(frozen=True)
class KeptSpace:
    """The code space of one candidate after one epoch."""

    head: str
    learning_rate: float
    seed: int
    epoch: int
    path: Path

    @property
    def label(self) -> str:
        return network_label({"head": self.head, "learning_rate": self.learning_rate})

    def load(self) -> CodeSpace:
        return load_code_space(self.path)


def curves_frame(study: optuna.Study) -> pd.DataFrame:
    """One row per candidate, seed, epoch and layer ("joint" too): the counts of cells, accuracies and losses.

    Columns: label, head, learning_rate, seed, epoch, layer, accuracy (validation), train_accuracy, loss (training),
    validation_loss, cell_count, correct_cell_count; NaN where there is nothing to count.
    """
    rows: list[dict[str, Any]] = []
    for record in _records(study):
        candidate = record["candidate"]
        names = layer_names(list(record["curve"][0]["layers"]))
        for point in record["curve"]:
            known = {name: point[name] for name in ("epoch", "accuracy", "train_accuracy", "loss", "validation_loss")}
            for layer, counts in {**point["layers"], "joint": point["joint"]}.items():
                row = {"label": network_label(candidate), **candidate, **known, "layer": names.get(layer, layer)}
                rows.append(row | counts)
    frame = pd.DataFrame(rows)
    numbers = ["accuracy", "train_accuracy", "loss", "validation_loss", "cell_count", "correct_cell_count"]
    return frame.astype(dict.fromkeys(numbers, float))


def network_curves(study: optuna.Study, labels: Iterable[str]) -> pd.DataFrame:
    """The cells over the epochs of the networks that ``labels`` names, in this order, one row per epoch and layer.

    Columns: network, seed, epoch, layer ("joint" or a layer's own name), cell_count, correct_cell_count, accuracy.
    Repeated trainings are all included.
    """
    places = {label: place for place, label in enumerate(labels)}
    records = [record_of(trial) for trial in complete_trials(study)]
    records = [record for record in records if network_label(record["candidate"]) in places]
    rows = []
    for record in sorted(records, key=lambda record: places[network_label(record["candidate"])]):
        network, seed = network_label(record["candidate"]), record["candidate"]["seed"]
        for point in record.get("curve", []):
            for layer, counts in {"joint": point["joint"], **point["layers"]}.items():
                row = {"network": network, "seed": seed, "epoch": point["epoch"], "layer": layer}
                rows.append(row | {"accuracy": point["accuracy"]} | counts)
    return pd.DataFrame(rows)


def kept_spaces(study: optuna.Study, folder: Path) -> list[KeptSpace]:
    """The code spaces that the study's trials kept in ``folder``, by candidate and epoch.

    Raises InputError if none was kept, or a file is missing.
    """
    spaces = [
        KeptSpace(**record["candidate"], epoch=int(epoch), path=folder / "codes" / name)
        for record in _records(study)
        for epoch, name in sorted(record.get("codes", {}).items(), key=lambda item: int(item[0]))
    ]
    if not spaces:
        raise InputError(
            f"study {study.study_name!r} kept no code spaces. Set kept_epochs in [codes], e.g. [1, 5, 10], "
            "and run it under another --study-name."
        )
    for kept in spaces:
        if not kept.path.is_file():
            raise InputError(
                f"{kept.path}, the codes of {kept.label} after epoch {kept.epoch}, is missing. "
                f"Put it back, or run the study again under another --study-name."
            )
    return spaces


def layer_names(layers: list[str]) -> dict[str, str]:
    """How layers are called in figures: those of a head as in Table 1, others by their own name.

    >>> layer_names(["head.1", "head.3", "relu"])
    {'head.1': 'FC-0', 'head.3': 'FC-1', 'relu': 'relu'}
    """
    heads = [name for name in layers if name.startswith("head.")]
    return {name: f"FC-{heads.index(name)}" if name in heads else name for name in layers}


def pruned(study: optuna.Study) -> list[str]:
    """A sentence for each candidate that no figure shows because it was pruned, for example after it diverged."""
    sentences = []
    for trial in study.get_trials(deepcopy=False, states=[TrialState.PRUNED]):
        record = record_of(trial)
        if "pruned" in record:
            candidate = f"{network_label(record['candidate'])}, seed {record['candidate']['seed']}"
            sentences.append(f"{candidate}, is not shown: {record['pruned']}.")
    return sentences


def _records(study: optuna.Study) -> Iterator[dict[str, Any]]:
    """The record of each complete candidate with a curve: of repeated trainings the first."""
    candidates = set()
    for trial in complete_trials(study):
        record = record_of(trial)
        if record and "curve" in record and (candidate := tuple(record["candidate"].values())) not in candidates:
            candidates.add(candidate)
            yield record
    if not candidates:
        advice = " ".join(pruned(study)) or "Run it first."
        raise InputError(
            f"study {study.study_name!r} has no complete trial of nas_relucode.Objective to draw. {advice}"
        )
