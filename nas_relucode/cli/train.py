"""The command `train`: trains one candidate of a study as in its trial and keeps its weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_relucode.cli.printing import print_message
from nas_relucode.errors import MOST_NAMED, InputError, unknown
from nas_relucode.files import check_new
from nas_relucode.study.candidates import Candidate
from nas_relucode.study.runner import build_objective, load_study_data
from nas_relucode.study.search_space import SearchSpace, own_value, parameter_value
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.texts import listed
from nas_relucode.training.checkpoints import write_tensors
from nas_relucode.training.loop import accuracy, evaluate
from nas_relucode.training.names import check_seed


def run(options: argparse.Namespace) -> int:
    """Trains the candidate, writes its state dict and prints its loss and accuracy; the exit code."""
    file = check_new(Path(options.weights), ".pt")
    check_seed(options.seed)
    settings = load_settings(options.study)
    candidate = Candidate(parameters_in(options.parameters, settings.search_space), options.seed)
    notes = "; ".join(outside(candidate, settings))
    if notes:
        print_message(f"{notes}. The candidate is trained all the same.", "note")
    data = load_study_data(settings.data, options.data_root, options.download)
    objective = build_objective(settings, data, device=options.device, folder=file.parent)
    network = objective.trained(candidate)
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_tensors(file, weights)
    validation, loss = data.validation.to(objective.device), settings.training.loss
    values = {"validation loss": evaluate(network, validation, loss=loss).loss}
    if settings.network.decoder is None:
        values = {"validation accuracy": accuracy(network, validation), **values}
        if len(data.test):
            values["test accuracy"] = accuracy(network, data.test.to(objective.device))
    print(", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    print(f"Weights: {file}")
    return 0


def parameters_in(words: Sequence[str], space: SearchSpace) -> dict[str, Any]:
    """The parameters in words like ``depth=2``, with values of the types that the search space has.

    >>> parameters_in(["depth=2"], SearchSpace(parameters={"depth": [1, 2, 3]}))
    {'depth': 2}
    """
    texts: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"{word!r} is not NAME=VALUE. Give each parameter so: {', '.join(space.parameters)}.")
        if name not in space.parameters:
            raise unknown("parameter", name, space.parameters)
        if name in texts:
            raise InputError(f"the parameter {name} is given twice, {texts[name]!r} and {text!r}. Give it once.")
        texts[name] = text
    missing = [name for name in space.parameters if name not in texts]
    if missing:
        raise InputError(f"the study's networks also have {', '.join(missing)}. Give each as NAME=VALUE.")
    return {name: parameter_value(name, texts[name], distribution) for name, distribution in space.parameters.items()}


def outside(candidate: Candidate, settings: StudySettings) -> list[str]:
    """A clause for each of the candidate's parameters, and its seed, that the study does not search."""
    clauses = []
    for name, distribution in settings.search_space.parameters.items():
        value = candidate.params[name]
        try:
            own_value(distribution, value)
        except ValueError:
            choices = getattr(distribution, "choices", None)
            if choices is None:
                values = f"{distribution.low:g} to {distribution.high:g}"
            else:
                values = listed(choices, MOST_NAMED)
            clauses.append(f"{name} {value!r} is not in the study's search space ({values})")
    if candidate.seed not in settings.search.seeds:
        seeds = listed(settings.search.seeds, MOST_NAMED)
        clauses.append(f"seed {candidate.seed} is not among the study's seeds ({seeds})")
    return clauses
