"""The qualities by name, and several of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import unknown
from nas_relucode.qualities import cost
from nas_relucode.qualities.quality import Quality

if TYPE_CHECKING:
    from torch import nn

    from nas_relucode.codes.reading import Forward

QUALITIES: dict[str, Quality] = {quality.name: quality for quality in cost.QUALITIES}


def measure(
    network: nn.Module,
    inputs: Any = None,
    names: str | Quality | Iterable[str | Quality] | None = None,
    *,
    forward: Forward | None = None,
) -> dict[str, float]:
    """The qualities that ``names`` asks for, by name; all of `QUALITIES` if it is None.

    ``names`` are names of `QUALITIES`, or qualities of your own. One that is measured with a spread has it beside it:
    ``latency`` and ``latency_spread``. ``inputs`` are samples as `score` takes them: a tensor, a pair of inputs and
    labels, a dict of tensors, a DataLoader; the first ones are used, on the network's device. The network is left as it
    was; ``forward(network, batch)`` calls it in another way than ``network(batch)``.

    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> measure(network, torch.zeros(5, 3), ["parameters", "flops"])
    {'parameters': 26.0, 'flops': 40.0}

    Raises InputError for an unknown quality, and for one that needs inputs if there are none.
    """
    wanted = QUALITIES if names is None else [names] if isinstance(names, str | Quality) else names
    qualities = [_by_name(item) for item in wanted]  # a wrong name is an error before anything is measured
    values: dict[str, float] = {}
    for quality in qualities:
        values |= quality.values(network, inputs, forward)
    return values


def _by_name(item: str | Quality) -> Quality:
    if isinstance(item, Quality):
        return item
    if item not in QUALITIES:
        raise unknown("quality", item, QUALITIES)
    return QUALITIES[item]
