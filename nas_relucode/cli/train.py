"""The command `train`: one candidate of a study trained as in its trial, its weights kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from nas_relucode.errors import InputError
from nas_relucode.files import write_atomically
from nas_relucode.study.runner import build_objective, load_study_data
from nas_relucode.study.search_space import Candidate, Interval
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.training.loop import accuracy, evaluate
from nas_relucode.training.names import check_seed, parse_head

MOST_NAMED = 12  # values of the search space in a note


def run(options: argparse.Namespace) -> int:
    """Trains the candidate and writes its state dict."""
    file = Path(options.weights)
    if file.suffix != ".pt":
        raise InputError(f"{file} does not end in .pt. Name the file of the weights so.")
    if file.exists():
        raise InputError(f"{file} exists already. Name a new file.")
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}. Make it, or name another file.")
    check_seed(options.seed)
    parse_head(options.head)
    settings = load_settings(options.study)
    candidate = Candidate(options.head, options.learning_rate, options.seed)
    notes = "; ".join(outside(candidate, settings))
    if notes:
        print(f"nas-relucode: note: {notes}. It is trained as such.", file=sys.stderr)
    data = load_study_data(settings.data, options.data_root, options.download)
    objective = build_objective(settings, data, device=options.device, folder=file.parent)
    network = objective.trained(candidate)
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


def outside(candidate: Candidate, settings: StudySettings) -> list[str]:
    """What of the candidate the study doesn't search, a clause each."""
    space, found = settings.search_space, []
    if candidate.head not in space.head_list:
        found.append(f"head {candidate.head} is not in the study's search space ({_named(space.head_list)})")
    rates = space.learning_rates
    if isinstance(rates, Interval):
        known, said = rates.low <= candidate.learning_rate <= rates.high, f"{rates.low:g} to {rates.high:g}"
    else:
        known, said = candidate.learning_rate in rates, _named(rates)
    if not known:
        found.append(f"learning rate {candidate.learning_rate!r} is not in the study's search space ({said})")
    if candidate.seed not in settings.search.seeds:
        found.append(f"seed {candidate.seed} is not among the study's seeds ({_named(settings.search.seeds)})")
    return found


def _named(values: Sequence[object]) -> str:
    more = len(values) - MOST_NAMED
    return ", ".join(map(str, values[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
