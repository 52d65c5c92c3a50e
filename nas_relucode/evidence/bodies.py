"""Bodies of evidence: the trained networks of a family, kept in a folder, so that training can stop and go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_relucode.errors import NonFiniteError
from nas_relucode.evidence.families import Family, SmallNetwork, build, fit
from nas_relucode.training.checkpoints import write_tensors
from nas_relucode.training.data import ImageData


@dataclass(frozen=True)
class Trained:
    """One candidate of a family, trained with one seed."""

    number: int
    seed: int
    design: dict[str, Any]
    network: SmallNetwork
    train_loss: float  # the mean of the last epoch
    seconds: float  # of the training


def weights_file(folder: Path, number: int, seed: int) -> Path:
    """Where a candidate's weights are kept."""
    return folder / f"{number:03d}_seed{seed}.pt"


def train_body(
    family: Family, data: ImageData, folder: Path, *, on_network: Callable[[int, int], None] | None = None
) -> None:
    """Trains every candidate of a family with every seed that has no weights in ``folder`` yet, candidate by candidate.

    A training whose loss stops being finite is kept as one without weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, design in enumerate(family.designs()):
        for seed in family.seeds:
            file = weights_file(folder, number, seed)
            if file.exists():
                continue
            network, start = build(design, data, seed), time.perf_counter()
            try:
                loss: float | None = fit(network, design, data.train, family, seed)
            except NonFiniteError:
                loss = None
            weights = None if loss is None else network.state_dict()
            content = {"weights": weights, "loss": loss, "seconds": time.perf_counter() - start}
            write_tensors(file, content)
            if on_network:
                on_network(number, seed)


def diverged(folder: Path, number: int, seed: int) -> bool:
    """Whether a network of a body was trained, and its loss stopped being finite."""
    file = weights_file(folder, number, seed)
    return file.exists() and torch.load(file, weights_only=True)["weights"] is None


def load_trained(family: Family, data: ImageData, folder: Path, number: int, seed: int) -> Trained | None:
    """A trained network of a body; None if it diverged."""
    content = torch.load(weights_file(folder, number, seed), weights_only=True)
    if content["weights"] is None:
        return None
    design = family.designs()[number]
    network = build(design, data, seed)
    network.load_state_dict(content["weights"])
    return Trained(number, seed, design, network.eval(), content["loss"], content["seconds"])
