"""Weights as people have them: a state dict, alone or inside a checkpoint, of a wrapped network or as safetensors."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.errors import InputError
from nas_relucode.files import check_file
from nas_relucode.training.checkpoints import MAGIC

WRAPPERS = ("module", "_orig_mod")  # what DataParallel and torch.compile put into names


def load_weights(network: nn.Module, path: str | Path, name: str) -> None:
    """Loads the weights in a file into the network, which is called ``name`` in errors.

    The file was written by ``torch.save`` and holds a state dict, alone or as an entry of a checkpoint (of Lightning,
    or ``{"model": ...}``); or it is a .safetensors file. The names may have the parts that DataParallel and
    torch.compile add, and a prefix. No code in the file is run. Raises InputError if there are no weights of this
    network in the file, or several.
    """
    needed = network.state_dict()
    state = _read(path, name)
    fitting = dict(_state_dicts(state, needed))
    if len(fitting) > 1:
        raise InputError(
            f"{path} holds weights of {name} in several places: {', '.join(sorted(fitting))}. Save one of them with "
            "torch.save(..., file)."
        )
    try:
        network.load_state_dict(next(iter(fitting.values())) if fitting else state)
    except Exception as error:  # torch raises many types of error for foreign names and shapes
        raise _no_weights(path, name, _problem(error)) from error


def _read(path: str | Path, name: str) -> Any:
    path = check_file(
        path, f"It should hold the weights of {name}: save them with torch.save(network.state_dict(), file)."
    )
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            raise InputError(
                f"{path} is a checkpoint of an unfinished training, not the weights of {name}. "
                "`nas-relucode train ... --weights FILE` trains to the end and writes them."
            )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise InputError(f"{path} needs the package safetensors. Install it: pip install safetensors.") from error
    except (pickle.UnpicklingError, EOFError, KeyError) as error:  # of weights_only, and of other files
        raise InputError(
            f"{path} does not hold the weights of {name} alone: it was not written by torch.save, or holds more than "
            "tensors, for example a whole network, whose loading runs code. If you trust it, write its weights once: "
            "network = torch.load(file, weights_only=False), then torch.save(network.state_dict(), new_file)."
        ) from error
    except Exception as error:  # torch and zipfile raise many types of error for foreign files
        raise _no_weights(path, name, _problem(error)) from error


def _state_dicts(state: Any, needed: Mapping[str, Tensor], where: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The state dicts of the network in what a file holds, by their places; names are those of the network."""
    if not isinstance(state, Mapping):
        return
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    for rename in (str, _unwrapped):
        plain, stored = {rename(key): key for key in needed}, {rename(key): value for key, value in tensors.items()}
        if len(stored) < len(tensors) or len(plain) < len(needed):  # two names became one
            continue
        fitting = [(prefix, own) for prefix in _prefixes(stored, plain) if (own := _below(prefix, stored, plain))]
        for prefix, own in fitting:
            yield where + (f" {prefix}*" if prefix else "") or "itself", {plain[key]: own[key] for key in own}
        if fitting:
            break
    for key, value in state.items():
        yield from _state_dicts(value, needed, f"{where}[{key!r}]")


def _below(prefix: str, stored: Mapping[str, Tensor], plain: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors whose names are the network's behind the prefix; empty unless these are all names below it."""
    own = {key[len(prefix) :]: value for key, value in stored.items() if key.startswith(prefix)}
    return own if own.keys() == plain.keys() else {}


def _prefixes(stored: Mapping[str, Tensor], plain: Mapping[str, str]) -> list[str]:
    """What stands before the network's first name in the stored names: empty, or it ends in a dot."""
    first = next(iter(plain), "")
    prefixes = (key.removesuffix(first) for key in stored if key.endswith(first))
    return sorted({prefix for prefix in prefixes if not prefix or prefix.endswith(".")}) if first else []


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _no_weights(path: str | Path, name: str, problem: str) -> InputError:
    return InputError(
        f"{path} does not hold the weights of {name} ({problem}). "
        "Save them with torch.save(network.state_dict(), file)."
    )


def _problem(error: Exception) -> str:
    """Why weights could not be loaded, in a line; torch's message can be a page, or a number."""
    first, *more = str(error).splitlines() or [""]
    detail = f" {more[0].strip()}" if more and first.endswith(":") else ""
    return f"{type(error).__name__}: {first}{detail}"
