"""The command `complex`: the numbers of cells and faces of a small network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from nas_relucode.cli.printing import print_counts, print_message
from nas_relucode.errors import InputError
from nas_relucode.geometry.complexes import Complex, complex_of
from nas_relucode.npz_files import read_arrays
from nas_relucode.texts import as_json
from nas_relucode.training.networks import network_by_name

LARGEST = 1e100  # weight; its square must be finite


def run(options: argparse.Namespace) -> int:
    """Counts the complex of a network and prints it; the exit code."""
    network = from_npz(Path(options.model)) if options.model.endswith(".npz") else None
    if network is not None and options.weights is not None:
        raise InputError(f"{options.model} holds its own weights. Leave out --weights.")
    network = network_by_name(options.model, options.weights, seed=options.seed) if network is None else network
    with tqdm(unit="cell", file=sys.stderr, disable=options.quiet or not sys.stderr.isatty()) as bar:

        def progress(done: int, known: int) -> None:
            bar.total = known
            bar.n = done
            bar.refresh()

        counted = complex_of(
            network,
            options.shape and tuple(options.shape),
            box=options.box and tuple(options.box),
            max_cells=options.max_cells,
            tolerance=options.tolerance,
            state=options.state,
            progress=progress,
        )
    summary = counted.summary()
    if options.format == "json":
        print(as_json(summary))
    else:
        print_counts(summary)
    if counted.unsaved is not None:
        print_message(
            f"{counted.unsaved.strerror}. Only the state was lost, not the counts: "
            f"{'they are complete' if counted.complete else 'they are of the first cells'}."
        )
        return 2
    return 0 if counted.complete else _too_many(counted, options)


def _too_many(counted: Complex, options: argparse.Namespace) -> int:
    """Says that there are more than --max-cells cells and how to continue; the exit code."""
    resume = f"with --state {options.state} the next call resumes the search"
    if not options.state:
        resume = "with --state FILE the next call can resume the search"
    print_message(
        f"there are more than {options.max_cells:,} cells: the counts are of the first "
        f"{len(counted):,}. Give a smaller --box or a larger --max-cells; {resume}."
    )
    return 2


def from_npz(path: Path) -> nn.Module:
    """The float64 perceptron with the weights W0, b0, W1, b1, ... of an .npz file, which is read without pickle."""
    arrays = read_arrays(path, "Give an .npz file with W0, b0, W1, b1, ...; write it with numpy.savez.")
    layers: list[nn.Module] = []
    count = sum(f"W{number}" in arrays for number in range(len(arrays)))
    features: Any = None
    for number in range(count):
        missing = np.empty(0)
        weight, bias = arrays.get(f"W{number}", missing), arrays.get(f"b{number}", missing)
        fits = (
            all(part.dtype.kind in "fiu" and part.dtype.itemsize <= 8 for part in (weight, bias))
            and weight.ndim == 2
            and min(weight.shape) > 0
            and bias.shape == weight.shape[:1]
            and (features is None or weight.shape[1] == features)
        )
        if not fits:
            shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
            raise InputError(
                f"{path}: W{number} must be (outputs, {features or 'features'}) and b{number} (outputs,), numbers "
                f"of at most 64 bits. It holds {shapes}."
            )
        if max(np.abs(weight).max(), np.abs(bias).max()) > LARGEST:
            raise InputError(f"{path}: W{number} or b{number} has values beyond {LARGEST:g}. Scale the layer.")
        features = len(weight)
        layer = nn.Linear(weight.shape[1], features, dtype=torch.float64)
        layer.load_state_dict({"weight": torch.as_tensor(weight), "bias": torch.as_tensor(bias)})
        layers += [layer, nn.ReLU()]
    if count < 2:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}. Give at least W0, b0, W1, b1.")
    return nn.Sequential(*layers[:-1])
