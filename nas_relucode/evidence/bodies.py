"""Bodies of evidence: the trained networks of a family, kept in a folder, so that training can stop and go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_relucode.errors import InputError, NonFiniteError
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


def check_training(file: Path, digest: str | None, family: Family, number: int, seed: int) -> None:
    """Raises InputError unless a file with this ``digest`` is of the training of a candidate (`Family.digest`).

    Earlier versions wrote none: their files are read in a folder that has the name of the body, or lies in one.
    """
    if digest == family.digest(number, seed) or (digest is None and family.name in file.resolve().parts[-3:-1]):
        return
    whose = "says not of which body it is" if digest is None else "is of another body, or of other designs"
    raise InputError(f"{file} {whose}, and is not taken for candidate {number} of {family.name}. Give another folder.")


def read_weights(family: Family, folder: Path, number: int, seed: int) -> dict[str, Any] | None:
    """What a candidate's file holds: weights (None if it diverged), loss and seconds; None without a file.

    Raises InputError for a file of another body.
    """
    file = weights_file(folder, number, seed)
    if not file.exists():
        return None
    content: dict[str, Any] = torch.load(file, weights_only=True)
    check_training(file, content.get("training"), family, number, seed)
    return content


def train_body(
    family: Family, data: ImageData, folder: Path, *, on_network: Callable[[int, int], None] | None = None
) -> None:
    """Trains every candidate of a family with every seed that has no weights in ``folder`` yet, candidate by candidate.

    A training whose loss stops being finite is kept as one without weights. Raises InputError for files of another
    body.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, design in enumerate(family.designs()):
        for seed in family.seeds:
            if read_weights(family, folder, number, seed) is not None:
                continue
            network, start = build(design, data, seed), time.perf_counter()
            try:
                loss: float | None = fit(network, design, data.train, family, seed)
            except NonFiniteError:
                loss = None
            weights = None if loss is None else network.state_dict()
            content = {"weights": weights, "loss": loss, "seconds": time.perf_counter() - start}
            content["training"] = family.digest(number, seed)
            write_tensors(weights_file(folder, number, seed), content)
            if on_network:
                on_network(number, seed)


def diverged(family: Family, folder: Path, number: int, seed: int) -> bool:
    """Whether a network of a body was trained, and its loss stopped being finite."""
    content = read_weights(family, folder, number, seed)
    return content is not None and content["weights"] is None


def load_trained(family: Family, data: ImageData, folder: Path, number: int, seed: int) -> Trained | None:
    """A trained network of a body; None if it diverged, or was not trained."""
    content = read_weights(family, folder, number, seed)
    if content is None or content["weights"] is None:
        return None
    design = family.designs()[number]
    network = build(design, data, seed)
    network.load_state_dict(content["weights"])
    return Trained(number, seed, design, network.eval(), content["loss"], content["seconds"])
