"""What a quality is: a number with a unit, a direction and a meaning, measured on a network.

Neither this module nor the families of qualities import torch before they measure, so that the command line can list
them at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError, real_number, unknown

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from nas_relucode.codes.reading import Forward


@dataclass(frozen=True)
class Measurement:
    """A value that differs from one measurement to the next, and how much it does."""

    value: float  # the median of the measurements
    spread: float  # their interquartile range


@dataclass(frozen=True)
class Latency(Measurement):
    """Milliseconds of a forward pass: the median of the runs, their interquartile range, and where it was measured."""

    runs: int  # how often it was measured
    batch_size: int
    device: str  # see device_name
    threads: int  # of torch on the CPU


class PerSample:
    """What a quality measured at each sample; ``float()`` of it is the quality.

    ``statistic`` takes ``columns``, arrays with one number a sample: of an accuracy, the mean of how often each sample
    is classified correctly. Other statistics, such as the calibration error, are not means over samples.
    """

    def __init__(self, statistic: Callable[..., float], *columns: np.ndarray) -> None:
        self.statistic = statistic
        self.columns = columns  # float64, (samples,) each

    def __float__(self) -> float:
        return float(self.statistic(*self.columns))

    def __len__(self) -> int:
        return len(self.columns[0])

    def __repr__(self) -> str:
        return f"PerSample: {float(self):.4g} on {len(self):,} samples"

    def of_rows(self, rows: Any) -> float:
        """The quality on the samples in ``rows`` alone: their numbers, or a mask."""
        try:
            return float(self.statistic(*(column[rows] for column in self.columns)))
        except IndexError as error:
            raise InputError(f"rows {rows!r:.50} are not of {len(self):,} samples ({error}). Give others.") from error


@dataclass(frozen=True)
class Quality:
    """A number that users want to be small or large.

    A quality of your own is ``Quality(name, unit, direction, meaning, function)``, where ``function(network, inputs,
    forward=None)`` returns a number, a `Measurement` if it has a spread, or `PerSample`. One with other settings is,
    for example, ``QUALITIES["latency"].with_settings("latency_64", batch_size=64)``. In `QUALITIES`, under its name, it
    is known to everything that takes qualities by name.
    """

    name: str
    unit: str
    direction: str  # "minimize" or "maximize"
    meaning: str  # one line
    function: Callable[..., float | Measurement | PerSample]
    needs_inputs: bool = True  # False: the function takes the network alone
    needs_labels: bool = False  # the inputs come with labels
    needs_images: bool = False  # the inputs are images: floats, (samples, channels, height, width)
    held_out: bool = False  # a statistic of samples that the network was not trained on

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise InputError(f"direction {self.direction!r} of quality {self.name!r}. Give 'minimize' or 'maximize'.")

    def with_settings(self, name: str, meaning: str | None = None, **settings: Any) -> Quality:
        """The quality with other arguments of its function, under a name of its own.

        Raises InputError for an argument that the function does not have.
        """
        for key in settings:
            if not self.has_setting(key):
                raise unknown(f"setting of {self.name}", key, self.settings)
        words = meaning or f"{self.name} with {', '.join(f'{key}={value!r}' for key, value in settings.items())}."
        return replace(self, name=name, meaning=words, function=partial(self.function, **settings))

    @property
    def settings(self) -> list[str]:
        """The names of the arguments that `with_settings` changes."""
        network_and_inputs = 2 if self.needs_inputs else 1
        parameters = list(inspect.signature(self.function).parameters.values())[network_and_inputs:]
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [item.name for item in parameters if item.kind in named and item.name != "forward"]

    def has_setting(self, name: str) -> bool:
        """Whether the function has an argument of this name, or takes any."""
        kinds = [item.kind for item in inspect.signature(self.function).parameters.values()]
        return name in self.settings or inspect.Parameter.VAR_KEYWORD in kinds

    def compute(self, network: nn.Module, inputs: Any = None, forward: Forward | None = None) -> float:
        """The value."""
        return self.values(network, inputs, forward)[self.name]

    def values(self, network: nn.Module, inputs: Any = None, forward: Forward | None = None) -> dict[str, float]:
        """The value under the quality's name and, if it is measured with one, its spread under ``NAME_spread``."""
        result = self.measured(network, inputs, forward)
        what = f"quality {self.name!r}"
        if isinstance(result, Measurement):
            spread = real_number(result.spread, f"the spread of {what}")
            return {self.name: real_number(result.value, what), f"{self.name}_spread": spread}
        return {self.name: real_number(result, what)}

    def measured(
        self, network: nn.Module, inputs: Any = None, forward: Forward | None = None
    ) -> float | Measurement | PerSample:
        """What the function returns: for most qualities of held-out samples, `PerSample`.

        Raises InputError, with the quality's name, where inputs, labels or images are missing.
        """
        if not self.needs_inputs:
            return self.function(network)
        if inputs is None:
            raise InputError(f"quality {self.name!r} runs the network, and there are no inputs. Give a batch of them.")
        try:
            return self.function(network, inputs, forward=forward)
        except InputError as error:
            raise type(error)(f"quality {self.name!r}: {error}") from error
