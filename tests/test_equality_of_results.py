"""Results that hold arrays are compared and hashed as objects: `==` of arrays is an array, and not yes or no."""

import dataclasses
import importlib
import re

import numpy as np
import pytest
import torch
from torch import nn

import nas_relucode as rc

ARRAYS = {"ndarray", "Tensor", "DataFrame", "Series"}
STATIONS = (
    "cells codes evidence geometry indices integrations paper plots qualities ranking report scoring study training"
)
NETWORK = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
POINTS = torch.eye(2)


def public_dataclasses():
    """The dataclasses that the package and its stations name, and those of their fields."""
    names = dict[str, type]()
    for module in [rc, *(importlib.import_module(f"nas_relucode.{station}") for station in STATIONS.split())]:
        for name in module.__all__:
            waiting = [getattr(module, name)]
            while waiting:
                one = waiting.pop()
                if isinstance(one, type) and dataclasses.is_dataclass(one) and names.get(one.__name__) is not one:
                    names[one.__name__] = one
                    beside = vars(importlib.import_module(one.__module__))
                    waiting += [beside[word] for field in dataclasses.fields(one) for word in words(field) & {*beside}]
    return names


def words(field):
    """The types that a field holds, by their names; what a function takes is not held."""
    text = str(field.type)
    return set() if "Callable" in text else set(re.findall(r"\w+", text))


def test_no_public_dataclass_compares_arrays():
    classes = public_dataclasses()
    assert {"Codes", "Cells", "CodeSpace", "Complex", "Split"} < set(classes)
    holders = set(ARRAYS)
    while (
        more := {name for name, one in classes.items() if any(words(f) & holders for f in dataclasses.fields(one))}
        - holders
    ):
        holders |= more
    comparing = {name for name in holders - ARRAYS if classes[name].__eq__ is not object.__eq__}
    assert not comparing


@pytest.mark.parametrize(
    "value",
    [
        lambda: rc.code_space(NETWORK, POINTS),
        lambda: rc.code_space(NETWORK, POINTS).cells,
        lambda: rc.code_space(NETWORK, POINTS).codes,
        lambda: rc.cells.connectivity(rc.codes.pack(np.eye(3, dtype=int))),
        lambda: rc.cells.pairs_within(rc.codes.pack(np.eye(3, dtype=int)), 2),
        lambda: rc.geometry.margins(NETWORK, POINTS),
        lambda: rc.geometry.crossings(NETWORK, POINTS, -POINTS)[0],
        lambda: rc.geometry.audit(NETWORK, POINTS),
        lambda: rc.geometry.complex_of(NETWORK),
        lambda: rc.load_data("digits"),
    ],
)
def test_a_result_equals_itself_and_no_other_and_can_be_a_key(value):
    one, other = value(), value()
    assert one == one
    assert one != other
    assert one in [other, one]
    assert {one: 1}[one] == 1
