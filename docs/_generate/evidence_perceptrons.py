"""Choosing for a purpose in a study that the evidence never saw: perceptrons on MNIST, 60 of them with two seeds each.

    python docs/_generate/evidence_perceptrons.py DATA_ROOT

Qualities are recorded on validation images; what the choice was worth is measured on test images, in bands of
equal accuracy (see docs/evidence.md).
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import optuna
import torch
from torch import nn
from torch.nn import functional

import nas_relucode as rc
from nas_relucode.evidence.examining import ACCURACY as VALIDATION_ACCURACY
from nas_relucode.evidence.statistics import captured_gain, gain_interval
from nas_relucode.evidence.studies import networks_of
from nas_relucode.qualities import measure

QUALITIES = {"noise": "noise_accuracy", "adversarial": "pgd_accuracy", "adversarial, FGSM": "fgsm_accuracy"}
ORDERS = {
    "local_complexity": "minimize",
    "code_stability": "maximize",
    "distinct_patterns": "maximize",
    "cell_count": "minimize",
    "parameters": "minimize",
    VALIDATION_ACCURACY: "maximize",
}


def build(trial: optuna.Trial) -> nn.Sequential:
    widths = [784, *[trial.suggest_categorical("width", [16, 32, 64])] * trial.suggest_int("depth", 1, 3)]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def fit(network: nn.Module, trial: optuna.Trial, train: rc.Split, seed: int) -> nn.Module:
    rate, decay = trial.suggest_float("lr", 0.01, 0.2, log=True), trial.suggest_categorical("decay", [0.0, 1e-3])
    epochs, batch = trial.suggest_int("epochs", 6, 20), trial.suggest_categorical("batch", [16, 64])
    optimizer = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=decay)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(network(train.inputs[rows]), train.labels[rows]).backward()
            optimizer.step()
    return network


def main() -> None:
    data = rc.load_data("mnist", data_root=sys.argv[1], train_samples=6000, test_samples=2000, validation=1 / 3)
    qualities = ["parameters", *QUALITIES.values()]
    record = rc.Recorder(
        train=(data.train.inputs[:512], data.train.labels[:512]),
        validation=data.validation,
        test=data.test,
        indices=["cell_count", "local_complexity", "code_stability", "distinct_patterns"],
        qualities=qualities,
    )
    on_test: dict[tuple[int, int], dict[str, float]] = {}

    def objective(trial: optuna.Trial, seed: int = 0) -> object:
        torch.manual_seed(seed)
        network = fit(build(trial), trial, data.train, seed)
        on_test[trial.number, seed] = measure(network, data.test, list(QUALITIES.values()))
        return record(trial, network, seed=seed)

    study = optuna.create_study(directions=record.directions, sampler=optuna.samplers.RandomSampler(0))
    study.optimize(objective, n_trials=60)
    rc.reseed(study, objective, seeds=[1], which="all")
    for purpose, quality in QUALITIES.items():
        report(study, on_test, purpose, quality)


def report(study: optuna.Study, on_test: dict[tuple[int, int], dict[str, float]], purpose: str, quality: str) -> None:
    """Prints what each order chooses in the bands of equal accuracy, and what that is worth on test images."""
    selection = rc.select(study)
    networks = networks_of(selection)
    of_network: dict[str, list[float]] = {}
    for trial, name in zip(selection.source.ranked, selection.source.networks, strict=True):
        of_network.setdefault(name, []).extend(
            v[quality] for (number, _), v in on_test.items() if number == trial.number
        )
    wanted = np.array([np.mean(of_network[name]) for name in networks.table["network"]])
    bands = ", ".join(f"{band} ({len(rows)} networks)" for band, rows in networks.strata.items())
    print(f"\n{purpose}: {quality} on test images, in bands of accuracy {bands}")
    for name, direction in {quality: "maximize", **ORDERS}.items():
        index = networks.table[name].to_numpy(float) * (1 if direction == "maximize" else -1)
        pairs = [(index[rows], wanted[rows]) for rows in networks.strata.values()]
        gains = [captured_gain(*pair) for pair in pairs]
        low, high = gain_interval(pairs)
        text = f"captured gain {np.mean(gains):+.2f} ({low:+.2f} to {high:+.2f}; worst {min(gains):+.2f})"
        print(f"  {name:18} {direction}: {text}")


if __name__ == "__main__":
    main()
