"""The settings of an embedding, checked: what a study's file needs before torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from nas_relucode.errors import InputError

POINTS = ("cells", "samples")


def check_layout(neighbours: Any, min_dist: Any, seed: Any, epochs: Any, most: Any) -> None:
    """Raises InputError unless `embed` can take these settings."""
    whole_numbers = {"neighbours": (neighbours, 2), "seed": (seed, 0), "epochs": (epochs, 1), "most": (most, 1)}
    for name, (value, minimum) in whole_numbers.items():
        if value is None and name != "neighbours":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not minimum <= value < 2**32:
            raise InputError(f"{name} {value!r} is not a whole number of at least {minimum}. Give one below 2**32.")
    if isinstance(min_dist, bool) or not isinstance(min_dist, int | float | np.number) or not 0 <= min_dist <= 1:
        raise InputError(f"min_dist {min_dist!r} is out of range. Give a number from 0 to 1.")
