"""The command `train`: trains one candidate of a study as in its trial and keeps its weights."""

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

MOST_NAMED = 12  # values of the search space that a note lists


def run(options: argparse.Namespace) -> int:
    """Trains the candidate, writes its state dict and prints its loss and accuracy; the exit code."""
    file = Path(options.weights)
    if file.suffix != ".pt":
        raise InputError(f"{file} does not end in .pt. Give --weights a name that does, e.g. weights.pt.")
    if file.exists():
        raise InputError(f"{file} exists already. Name a new file.")
    if not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}. Create it, or name another file.")
    check_seed(options.seed)
    parse_head(options.head)
    settings = load_settings(options.study)
    candidate = Candidate(options.head, options.learning_rate, options.seed)
    notes = "; ".join(outside(candidate, settings))
    if notes:
        print(f"nas-relucode: note: {notes}. The candidate is trained all the same.", file=sys.stderr)
    data = load_study_data(settings.data, options.data_root, options.download)
    objective = build_objective(settings, data, device=options.device, folder=file.parent)
    network = objective.trained(candidate)
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_atomically(file, lambda path: torch.save(weights, path))
    validation, loss = data.validation.to(objective.device), settings.training.loss
    values = {"validation loss": evaluate(network, validation, loss=loss).loss}
    if settings.network.decoder is None:
        values = {"validation accuracy": accuracy(network, validation), **values}
        if len(data.test):
            values["test accuracy"] = accuracy(network, data.test.to(objective.device))
    print(", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    print(f"Weights: {file}")
    return 0


def outside(candidate: Candidate, settings: StudySettings) -> list[str]:
    """A clause for each of the candidate's parameters that the study does not search."""
    space, clauses = settings.search_space, []
    if candidate.head not in space.head_list:
        clauses.append(f"head {candidate.head} is not in the study's search space ({_listed(space.head_list)})")
    rates = space.learning_rates
    if isinstance(rates, Interval):
        searched, text = rates.low <= candidate.learning_rate <= rates.high, f"{rates.low:g} to {rates.high:g}"
    else:
        searched, text = candidate.learning_rate in rates, _listed(rates)
    if not searched:
        clauses.append(f"learning rate {candidate.learning_rate!r} is not in the study's search space ({text})")
    if candidate.seed not in settings.search.seeds:
        clauses.append(f"seed {candidate.seed} is not among the study's seeds ({_listed(settings.search.seeds)})")
    return clauses


def _listed(values: Sequence[object]) -> str:
    more = len(values) - MOST_NAMED
    return ", ".join(map(str, values[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
