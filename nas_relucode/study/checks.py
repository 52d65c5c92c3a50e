"""What an objective and its networks can't be is refused before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_relucode.errors import InputError, unknown
from nas_relucode.indices.registry import INDICES
from nas_relucode.training.names import parse_head
from nas_relucode.training.recipe import Recipe

QUALITIES = ("accuracy", "validation_loss")  # objectives that are no indices


def check_objectives(names: Iterable[str]) -> None:
    """Raises InputError unless each name is a quality, an index, or an index of a layer: ``layer:index``."""
    names = list(names)
    if not names:
        raise InputError("objectives is empty. Name at least one, e.g. accuracy.")
    for name in names:
        layer, colon, index = name.rpartition(":")
        of_a_layer = bool(layer) and index in INDICES and not INDICES[index].joint
        if name not in QUALITIES and (index not in INDICES or (colon and not of_a_layer)):
            raise unknown("objective", name, [*QUALITIES, *INDICES, "LAYER:INDEX"])
    if len(set(names)) != len(names):
        raise InputError(f"objectives {names} name one twice. Name each once.")


def check_accuracy_floor(floor: float | None) -> None:
    """Raises InputError unless ``floor`` is None or a fraction."""
    if floor is not None and not 0 <= floor <= 1:
        raise InputError(f"accuracy_floor {floor!r} is out of range. Give a number from 0 to 1.")


def check_kept_epochs(epochs: Sequence[int], trained: int) -> None:
    """Raises InputError unless codes can be kept after each of these epochs."""
    for epoch in epochs:
        if not 0 <= epoch <= trained:
            raise InputError(f"epoch {epoch} is not trained: there are {trained}. Give epochs from 0 to {trained}.")


def check_network(
    decoder: str | None,
    frozen: bool,
    weights: str,
    recipe: Recipe,
    objectives: Iterable[str],
    accuracy_floor: float | None,
) -> None:
    """Raises InputError where a network is to be trained or judged in a way that it can't be."""
    if decoder is None:
        if recipe.loss != "cross_entropy":
            raise InputError(f"the loss {recipe.loss} is for autoencoders. Name a decoder, e.g. 128-256.")
        return
    parse_head(decoder)
    if recipe.loss == "cross_entropy":
        raise InputError("an autoencoder is trained by the loss sigmoid or mse, not by cross_entropy. Set one.")
    if frozen or weights != "random":
        raise InputError("an autoencoder has no backbone. Leave out frozen and weights.")
    for name in objectives:
        if name.rpartition(":")[2] in ("accuracy", "correct_cell_count"):
            raise InputError(f"an autoencoder has no {name}. Choose other objectives, e.g. validation_loss.")
    if accuracy_floor is not None:
        raise InputError("an autoencoder has no accuracy. Leave out accuracy_floor.")
