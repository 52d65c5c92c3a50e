"""What a quality is: a number with a unit, a direction and a meaning, measured on a network.

Neither this module nor the families of qualities import torch before they measure, so that the command line can list
them at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from nas_relucode.codes.reading import Forward


@dataclass(frozen=True)
class Measurement:
    """A value that differs from one measurement to the next, and how much it does."""

    value: float
    spread: float


@dataclass(frozen=True)
class Latency(Measurement):
    """Milliseconds of a forward pass: the median of the runs, their interquartile range, and where it was measured."""

    runs: int
    batch_size: int
    device: str  # see device_name
    threads: int  # of torch on the CPU


@dataclass(frozen=True)
class Quality:
    """A number that users want to be small or large.

    A quality of your own is ``Quality(name, unit, direction, meaning, function)``, where ``function(network, inputs,
    forward=None)`` returns a number, or a `Measurement` if it has a spread. One with other settings is, for example,
    ``Quality("latency_64", "ms", "minimize", "...", partial(latency, batch_size=64))``. In `QUALITIES`, under its name,
    it is known to everything that takes qualities by name.
    """

    name: str
    unit: str
    direction: str  # "minimize" or "maximize"
    meaning: str  # one line
    function: Callable[..., float | Measurement]
    needs_inputs: bool = True  # False: the function takes the network alone

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise InputError(f"direction {self.direction!r} of quality {self.name!r}. Give 'minimize' or 'maximize'.")

    def compute(self, network: nn.Module, inputs: Any = None, forward: Forward | None = None) -> float:
        """The value."""
        return self.values(network, inputs, forward)[self.name]

    def values(self, network: nn.Module, inputs: Any = None, forward: Forward | None = None) -> dict[str, float]:
        """The value under the quality's name and, if it is measured with one, its spread under ``NAME_spread``."""
        if not self.needs_inputs:
            result = self.function(network)
        elif inputs is None:
            raise InputError(f"quality {self.name!r} runs the network, and there are no inputs. Give a batch of them.")
        else:
            result = self.function(network, inputs, forward=forward)
        if isinstance(result, Measurement):
            return {self.name: float(result.value), f"{self.name}_spread": float(result.spread)}
        return {self.name: float(result)}
