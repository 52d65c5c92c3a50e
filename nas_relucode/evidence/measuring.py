"""What is measured on each trained network of a body: indices, baselines and qualities, kept beside its weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_relucode.codes.network_state import run
from nas_relucode.evidence.bodies import check_training, load_trained, weights_file
from nas_relucode.evidence.families import Family
from nas_relucode.files import write_atomically
from nas_relucode.indices.index import Index
from nas_relucode.indices.registry import INDICES
from nas_relucode.indices.sensitivity import (
    CertifiedRadius,
    CodeStability,
    LocalComplexity,
    SensitivityIndex,
    SpaceFolding,
)
from nas_relucode.npz_files import read_arrays
from nas_relucode.qualities.calibration import STATISTICS
from nas_relucode.qualities.quality import PerSample, Quality
from nas_relucode.qualities.registry import QUALITIES, measure, outcomes
from nas_relucode.scoring.scores import score
from nas_relucode.training.data import ImageData, Split, load_data

SAMPLES = 512  # training images whose codes are read
ATTACKED = 500  # test images of PGD
CORRUPTED = 1000  # test images of the common corruptions
COSTS = "costs.csv"  # beside the weights
ALL = "all:"  # before the names of indices of the codes of all layers
WITHOUT_CODES = (  # baselines that are known once a network is trained and evaluated
    "parameters",
    "flops",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "confidence",
    "logit_norm",
    "weight_norm",
)
BASELINES = (
    *WITHOUT_CODES,
    "affine_norm",
    "logdet_kernel",
    "distinct_patterns",
    "all:logdet_kernel",
    "all:distinct_patterns",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """A trained network: its numbers by name, and for each quality what was measured at each sample."""

    numbers: Mapping[str, float]
    samples: dict[str, np.ndarray]  # quality -> columns of PerSample, (columns, samples)


def qualities_of(family: Family, data: ImageData, others: Tensor | None) -> dict[str, tuple[Quality, Split]]:
    """The qualities of a family by name, each with the test images that it is measured on (docs/evidence.md).

    ``others`` are images out of distribution; None stands for uniform noise.
    """
    photographs = data.image_shape[0] == 3
    strengths: dict[str, dict[str, Any]] = {
        "noise_accuracy": {"deviations": (0.02, 0.05, 0.1)} if photographs else {},
        "fgsm_accuracy": {"epsilons": (1 / 255, 2 / 255)} if photographs else {},
        "pgd_accuracy": {"epsilons": (1 / 255, 2 / 255)} if photographs else {},
        "ood_auroc": {} if others is None else {"others": others},
    }
    names = ["noise_accuracy", "fgsm_accuracy", "pgd_accuracy", "calibration_error", "ood_auroc", "confident_accuracy"]
    names += ["blur_accuracy", "corruption_accuracy"] if photographs else ["rotation_accuracy", "translation_accuracy"]
    names += ["pruned_accuracy", "rounded_accuracy"]
    if data.image_shape[1] < 16:
        strengths["translation_accuracy"] = {"pixels": (1,)}
    few = {"pgd_accuracy": ATTACKED, "corruption_accuracy": CORRUPTED}
    qualities = {}
    for name in names:
        settings = strengths.get(name)
        quality = QUALITIES[name].with_settings(name, **settings) if settings else QUALITIES[name]
        qualities[name] = quality, _first(data.test, few.get(name, len(data.test)))
    return qualities


def others_of(family: Family, data: ImageData, data_root: str | Path) -> Tensor | None:
    """Images out of distribution: CIFAR-10 in grey for MNIST, MNIST in colour for CIFAR-10."""
    if family.name == "digits":
        return None
    other = load_data("cifar10_small" if data.image_shape[0] == 1 else "mnist", data_root=data_root)
    images = other.test.inputs[: len(data.test)]
    channels, height, width = data.image_shape
    images = images.mean(dim=1, keepdim=True) if channels == 1 else images.expand(-1, channels, -1, -1)
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True).clamp(0, 1)


def measure_body(
    family: Family,
    data: ImageData,
    folder: Path,
    *,
    others: Tensor | None = None,
    on_network: Callable[[int, int], None] | None = None,
) -> None:
    """Measures every trained network of ``folder`` that was not measured yet, candidate by candidate."""
    qualities = qualities_of(family, data, others)
    for number, seed in _trained(family, folder):
        file = measured_file(folder, number, seed)
        if file.exists():
            read_measured(family, folder, number, seed)  # refuses a file of another body
            continue
        trained = load_trained(family, data, folder, number, seed)
        if trained is None:
            continue
        values = {
            "train_loss": trained.train_loss,
            **_indices(trained.network, data),
            **_baselines(trained.network, data),
        }
        samples = {}
        for name, (quality, images) in qualities.items():
            result = outcomes(trained.network, images, quality)
            values[name], samples[name] = float(result), np.stack(result.columns).astype(np.float32)
        _write(file, Measured(values, samples), family.digest(number, seed))
        if on_network:
            on_network(number, seed)


def measured_file(folder: Path, number: int, seed: int) -> Path:
    """Where a network's measurements are kept."""
    return weights_file(folder, number, seed).with_suffix(".npz")


def read_measured(family: Family, folder: Path, number: int, seed: int) -> Measured:
    """The measurements of a trained network. Raises InputError for those of another body."""
    file = measured_file(folder, number, seed)
    arrays = read_arrays(file, "Measure the body's networks first.")
    digest = arrays.pop("training", None)
    check_training(file, None if digest is None else str(digest), family, number, seed)
    names = [str(name) for name in arrays.pop("names")]
    return Measured(dict(zip(names, map(float, arrays.pop("values")), strict=True)), arrays)


def _write(file: Path, measured: Measured, training: str) -> None:
    names, values = np.array(list(measured.numbers)), np.array(list(measured.numbers.values()))

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            arrays = {"training": np.array(training), "names": names, "values": values, **measured.samples}
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

    write_atomically(file, write)


def _trained(family: Family, folder: Path) -> Iterator[tuple[int, int]]:
    for number in range(family.candidates):
        for seed in family.seeds:
            if weights_file(folder, number, seed).exists():
                yield number, seed


def _first(split: Split, samples: int) -> Split:
    return Split(split.inputs[:samples], None if split.labels is None else split.labels[:samples])


def measured_indices() -> tuple[list[str | Index], list[str | Index]]:
    """The indices that are read for each choice of layers, and those of the whole network."""
    of_layers: list[str | Index] = ["all", LocalComplexity(), CodeStability(), SpaceFolding()]
    whole = [
        index
        for index in INDICES.values()
        if isinstance(index, SensitivityIndex) and index not in of_layers and not isinstance(index, CertifiedRadius)
    ]
    return of_layers, [*whole]


def _indices(network: nn.Module, data: ImageData) -> dict[str, float]:
    sample, (of_layers, whole) = _first(data.train, SAMPLES), measured_indices()
    head = score(network, sample, indices=[*of_layers, *whole], layers="fc", held_out=data.validation).joint
    every = score(network, sample, indices=of_layers, layers="all", held_out=data.validation).joint
    values = {**head, **{ALL + name: value for name, value in every.items()}}
    return {name: value for name, value in values.items() if not name.endswith("parameter_count")}


def _baselines(network: nn.Module, data: ImageData) -> dict[str, float]:
    """Parameters, FLOPs, and what the validation and test images say of the class scores."""
    assert data.validation.labels is not None
    assert data.test.labels is not None
    with torch.no_grad():
        scores, test_scores = run(network, data.validation.inputs), run(network, data.test.inputs)
        weights = sum(float(parameter.square().sum()) for parameter in network.parameters() if parameter.ndim > 1)
    labels = data.validation.labels
    return {
        **measure(network, data.validation, ["parameters", "flops"]),
        "validation_loss": float(functional.cross_entropy(scores, labels)),
        "validation_accuracy": float((scores.argmax(dim=1) == labels).double().mean()),
        "confidence": float(scores.softmax(dim=1).amax(dim=1).mean()),
        "logit_norm": float(scores.norm(dim=1).mean()),
        "weight_norm": weights**0.5,
        "test_accuracy": float((test_scores.argmax(dim=1) == data.test.labels).double().mean()),
    }


def measure_costs(
    family: Family, data: ImageData, folder: Path, *, others: Tensor | None = None, networks: int = 3
) -> None:
    """Writes to ``folder`` the seconds of every index and quality, each computed alone on one thread.

    They are the median of the first ``networks`` of the first seed. A folder that has them is left as it is.
    """
    if (folder / COSTS).exists():
        return
    threads, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        first = [(number, seed) for number, seed in _trained(family, folder) if seed == family.seeds[0]]
        for number, seed in first[:networks]:
            if trained := load_trained(family, data, folder, number, seed):
                found.append(_costs(trained.network, data, qualities_of(family, data, others)))
    finally:
        torch.set_num_threads(threads)
    table = pd.DataFrame(found).median()
    write_atomically(folder / COSTS, lambda path: table.to_csv(path, header=["seconds"], index_label="column"))


def read_costs(folder: Path) -> dict[str, float] | None:
    """The seconds that `measure_costs` wrote; None if it did not."""
    file = folder / COSTS
    return pd.read_csv(file, index_col="column")["seconds"].to_dict() if file.exists() else None


def _costs(network: nn.Module, data: ImageData, qualities: Mapping[str, tuple[Quality, Split]]) -> dict[str, float]:
    sample, (of_layers, whole) = _first(data.train, SAMPLES), measured_indices()
    index_names = [index for index in INDICES.values() if not index.on_request]
    seconds = {}
    for prefix, layers in (("", "fc"), (ALL, "all")):
        for index in [*index_names, *of_layers[1:], *([] if prefix else whole)]:
            assert isinstance(index, Index)
            held_out = data.validation if "held_out" in index.needs else None
            read = partial(score, network, sample, indices=[index], layers=layers, held_out=held_out)
            seconds[prefix + index.name] = _seconds(read)
    for name, (quality, images) in qualities.items():
        seconds[name] = _seconds(partial(outcomes, network, images, quality))
    return seconds


def _seconds(call: Callable[[], Any]) -> float:
    call()  # loops are compiled, corrupted images are made
    start = time.process_time()
    call()
    return time.process_time() - start


def of_samples(quality: str, columns: np.ndarray, rows: np.ndarray) -> float:
    """A quality of some samples alone, from what was measured at each of them, (columns, samples)."""
    statistic = STATISTICS.get(quality, np.mean)
    return PerSample(statistic, *columns).of_rows(rows)
