"""A network by name: a factory of anybody's module, or one of torchvision's classifiers."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import pickle
import sys
import warnings
from typing import Any

import torch
from torch import nn

from nas_relucode.errors import InputError


def torchvision_names() -> list[str]:
    """torchvision's classifiers, by the names that `network_by_name` takes.

    >>> {"resnet18", "vgg16_bn", "mobilenet_v3_small"} <= set(torchvision_names())
    True
    """
    from torchvision import models  # imports torch's compiler, which takes seconds

    return list(models.list_models(module=models))


def network_by_name(model: str, weights: str | None = None, *, classes: int | None = None) -> nn.Module:
    """The network that ``model`` names, in the state in which it is made, with ``weights`` if there are any.

    ``model`` is ``package.module:factory``, called without arguments, or the name of one of torchvision's classifiers,
    which then has ``classes`` outputs (None: 1000). ``weights`` are a file that torch.save(network.state_dict(), file)
    has written, or for torchvision's networks ``"imagenet"``: those that it calls their default, which it downloads if
    they are not there, always of 1000 outputs. Random weights are drawn from torch's random state.

    What the module prints goes to standard error; the current folder is searched for it. Raises InputError with the
    reason for whatever is not a network, or doesn't fit.
    """
    module, colon, factory = model.partition(":")
    pretrained = weights == "imagenet"
    if colon and module and factory:
        if pretrained:
            raise InputError(f"imagenet weights are torchvision's: model {model!r} needs a file of its own.")
        network = _made(model, module, factory)
    elif not colon and model in torchvision_names():
        network = _of_torchvision(model, pretrained, classes)
    else:
        near = difflib.get_close_matches(model, torchvision_names(), n=3)
        raise InputError(
            f"model {model!r} is neither package.module:factory, e.g. torchvision.models:resnet18, nor one of "
            f"torchvision's classifiers, e.g. {', '.join(near) or 'resnet18, vgg16'}."
        )
    if weights and not pretrained:
        try:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises half a dozen kinds for files that are none of its own
            raise InputError(
                f"{weights} does not hold the weights of {model} ({_why_no_weights(error)}). "
                "Save them with torch.save(network.state_dict(), file)."
            ) from error
    return network


def _made(model: str, module: str, factory: str) -> nn.Module:
    sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the results
            network = getattr(importlib.import_module(module), factory)()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise InputError(f"model {model!r} could not be made ({_reason(error)}).") from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(network, nn.Module):
        raise InputError(f"model {model!r} gives a {type(network).__name__}. It must return a torch.nn.Module.")
    return network


def _of_torchvision(model: str, pretrained: bool, classes: int | None) -> nn.Module:
    settings: dict[str, Any] = {"progress": False}
    if classes is not None and not pretrained:
        settings["num_classes"] = classes
    from torchvision import models

    chosen = models.get_model_weights(model).DEFAULT if pretrained else None
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):  # stdout is for the results
            # googlenet and inception_v3 announce another way to draw random weights
            warnings.filterwarnings("ignore", "The default weight initialization of", FutureWarning)
            return models.get_model(model, weights=chosen, **settings)
    except (OSError, RuntimeError) as error:  # no network, a full disk; a file that is not what its hash says
        if chosen is None:
            raise
        raise InputError(
            f"the ImageNet weights of {model} can't be had ({error}). Put {chosen.url} into "
            f"{torch.hub.get_dir()}/checkpoints by hand, try again with a network, or take a file of your own."
        ) from error


def _why_no_weights(error: Exception) -> str:
    """torch's own words for a file that it can't read are long, or a number."""
    if isinstance(error, pickle.UnpicklingError | EOFError | KeyError):
        return "it is no file of torch.save, or has more than tensors in it, as a whole network has"
    first, *more = str(error).splitlines() or [""]
    detail = f" {more[0].strip()}" if more and first.endswith(":") else ""
    return f"{type(error).__name__}: {first}{detail}"


def _reason(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
