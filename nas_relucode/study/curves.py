"""What the trials of a study recorded over the epochs: counts of cells by layer, and the code spaces that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from nas_relucode.cells.code_spaces import CodeSpace, load_code_space
from nas_relucode.errors import InputError
from nas_relucode.study.candidates import SEED, Candidate, network_names
from nas_relucode.study.record import candidate_of, complete_records, record_of
from nas_relucode.study.search_space import LEARNING_RATE


@dataclass(frozen=True)
class KeptSpace:
    """The code space of one candidate after one epoch."""

    label: str  # of the network, see `network_names`
    head: str
    learning_rate: float
    seed: int
    epoch: int
    path: Path

    def load(self) -> CodeSpace:
        return load_code_space(self.path)


def curves_frame(study: optuna.Study) -> pd.DataFrame:
    """One row per candidate, seed, epoch and layer ("joint" too): the counts of cells, accuracies and losses.

    Columns: label, head, learning_rate, seed, epoch, layer, accuracy (validation), train_accuracy, loss (training),
    validation_loss, cell_count, correct_cell_count; NaN where there is nothing to count.
    """
    rows: list[dict[str, Any]] = []
    for candidate, record in _trained_heads(study):
        names = layer_names(list(record["curve"][0]["layers"]))
        for point in record["curve"]:
            known = {name: point[name] for name in ("epoch", "accuracy", "train_accuracy", "loss", "validation_loss")}
            for layer, counts in {**point["layers"], "joint": point["joint"]}.items():
                rows.append(candidate | known | {"layer": names.get(layer, layer)} | counts)
    frame = pd.DataFrame(rows)
    numbers = ["accuracy", "train_accuracy", "loss", "validation_loss", "cell_count", "correct_cell_count"]
    return frame.astype(dict.fromkeys(numbers, float))


def kept_spaces(study: optuna.Study, folder: Path) -> list[KeptSpace]:
    """The code spaces that the study's trials kept in ``folder``, by candidate and epoch.

    Raises InputError if none was kept, or a file is missing.
    """
    spaces = [
        KeptSpace(**candidate, epoch=int(epoch), path=folder / "codes" / name)
        for candidate, record in _trained_heads(study)
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
            candidate = candidate_of(record)
            sentences.append(f"{candidate.label}, seed {candidate.seed}, is not shown: {record['pruned']}.")
    return sentences


def _trained_heads(study: optuna.Study) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each complete candidate with a curve, as columns of a figure's tables, and its record: of several the first.

    The columns are label, head, learning_rate and seed. Raises InputError for networks that have no head.
    """
    records: dict[Candidate, dict[str, Any]] = {}
    for _, record in complete_records(study):
        if record.get("curve"):
            records.setdefault(candidate_of(record), record)
    if not records:
        advice = " ".join(pruned(study)) or "Run it first."
        raise InputError(
            f"study {study.study_name!r} has no complete trial of nas_relucode.Objective to draw. {advice}"
        )
    params = {candidate.network: candidate.params for candidate in records}
    labels = dict(zip(params, network_names(list(params.values())), strict=True))
    for candidate, record in records.items():
        missing = [name for name in ("head", LEARNING_RATE) if name not in candidate.params]
        if missing:
            raise InputError(
                f"the figures of the paper show heads and learning rates, but {candidate.label} has no "
                f"{' and no '.join(missing)}. Give a study of the built-in networks."
            )
        columns = {name: candidate.params[name] for name in ("head", LEARNING_RATE)}
        yield {"label": labels[candidate.network], **columns, SEED: candidate.seed}, record
