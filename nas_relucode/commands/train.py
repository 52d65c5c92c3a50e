"""The command `train`: one candidate of a study trained as in its trial, its weights kept."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.studies.search_space import Candidate
from nas_relucode.studies.study import load_study_data, objective_of
from nas_relucode.studies.study_settings import load_settings
from nas_relucode.training.training import accuracy, evaluate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command, but for those that `run` has too."""
    parser.add_argument("study", help="a built-in study (see list) or a .toml file")
    parser.add_argument("--head", required=True, metavar="WIDTHS", help="layer widths, e.g. 256-128-128")
    parser.add_argument("--learning-rate", required=True, type=float, metavar="RATE")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the samples (0)")
    parser.add_argument("--weights", required=True, metavar="FILE", help="a new file for the state dict, ending in .pt")


def run(options: argparse.Namespace) -> int:
    """Trains the candidate and writes its state dict."""
    file = Path(options.weights)
    if file.suffix != ".pt":
        raise InputError(f"{file} does not end in .pt. Name the file of the weights so.")
    if file.exists():
        raise InputError(f"{file} exists already. Name a new file.")
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}. Make it, or name another file.")
    settings = load_settings(options.study)
    data = load_study_data(settings.data, options.data_root, options.download)
    objective = objective_of(settings, data, device=options.device, folder=file.parent)
    network = objective.trained(Candidate(options.head, options.learning_rate, options.seed))
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_atomically(file, lambda path: torch.save(weights, path))
    held, loss = data.validation.to(objective.device), settings.training.loss
    found = {"validation loss": evaluate(network, held, loss=loss).loss}
    if settings.network.decoder is None:
        found = {"validation accuracy": accuracy(network, held), **found}
        if len(data.test):
            found["test accuracy"] = accuracy(network, data.test.to(objective.device))
    print(", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    print(f"Weights: {file}")
    return 0
