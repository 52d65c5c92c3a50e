"""What an index is: a number with a name, a meaning, a preferred direction and a range.

Neither this module nor the families of indices import torch, so that the command line can list them at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from nas_relucode.errors import InputError, real_number

if TYPE_CHECKING:
    from nas_relucode.indices.inputs import IndexInputs

Value = TypeVar("Value")

NEEDS = {  # fields of IndexInputs that may be unknown, in words
    "class_counts": "labels",
    "correct_counts": "labels and class scores",
    "parameters": "the network's parameters",
    "held_out": "held-out samples",
    "network_sample": "inputs that can be read twice, as tensors",
}


@dataclass(frozen=True)
class Index:
    """A number read off the codes, cells or geometry of a sample.

    An index of your own is a subclass with a docstring, whose first line says what it means, and ``compute``. Its
    settings are dataclass fields, and its name is that of the class in small letters::

        class MeanCellSize(Index):
            \"\"\"Samples / occupied cells.\"\"\"

            direction = "maximize"

            def compute(self, inputs: IndexInputs) -> float:
                return inputs.samples / len(inputs.cells)

    ``score(network, data, indices=["cell_count", MeanCellSize()])`` computes it; in `INDICES`, under its name, it is
    also known to `Objective`, to the ranking and to the command line.
    """

    direction: ClassVar[str | None] = None  # "minimize" or "maximize" if there is a reason to prefer; else None
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)  # where they do not depend on the inputs; see range
    needs: ClassVar[tuple[str, ...]] = ()  # fields of IndexInputs that must be known, among NEEDS
    joint: ClassVar[bool] = False  # of the whole network: it has no value for a layer
    all_pairs: ClassVar[bool] = False  # all cells are compared with all: the time grows with their square
    on_request: ClassVar[bool] = False  # slow, or without default settings: only computed if it is named

    def compute(self, inputs: IndexInputs) -> float:
        """The value; NaN if it is undefined for these inputs."""
        raise NotImplementedError

    def value(self, inputs: IndexInputs) -> float:
        """What `compute` returns, as a float. Raises InputError, with the index's name, also if it is no number."""
        try:
            result = self.compute(inputs)
        except InputError as error:
            raise type(error)(f"index {self.name!r}: {error}") from error
        return real_number(result, f"index {self.name!r}")

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        """The ends between which the value lies; at an end it can no longer distinguish networks."""
        return self.bounds

    @property
    def name(self) -> str:
        """What the index is called in results, files and on the command line."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def label(self) -> str:
        """The name with the settings that are not the defaults, e.g. ``edge_count[theta=3]``."""
        changed = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"{self.name}[{', '.join(changed)}]" if changed else self.name

    @property
    def meaning(self) -> str:
        """One line on what it is."""
        return (type(self).__doc__ or "").split("\n")[0]

    def missing(self, inputs: IndexInputs) -> list[str]:
        """What the index needs and these inputs lack, in words."""
        return [NEEDS[need] for need in self.needs if getattr(inputs, need) is None]


def known(value: Value | None) -> Value:
    """A value of the inputs that is known because ``needs`` lists it."""
    assert value is not None
    return value
