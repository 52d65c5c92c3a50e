"""The functions of geometry refuse what is no network, no points and no number, and name what was given."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.geometry import audit, complex_of, crossings, margins, polyhedron
from nas_relucode.geometry.facets import find_facets
from nas_relucode.training.data import Split

NETWORK = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
POINTS, LABELS = torch.eye(2), torch.tensor([0, 1])


@pytest.mark.parametrize("function", [margins, audit])
@pytest.mark.parametrize(
    ("points", "named"),
    [((POINTS, LABELS), "a tuple of 2"), (Split(POINTS, LABELS), "a Split"), ("x", "a str"), (None, "a NoneType")],
)
def test_points_are_tensors_without_labels(function, points, named):
    with pytest.raises(InputError, match=f"inputs are {named}. .*without labels"):
        function(NETWORK, points)


@pytest.mark.parametrize("call", [lambda n: margins(n, POINTS), lambda n: audit(n, POINTS), complex_of])
def test_a_network_is_a_module(call):
    with pytest.raises(InputError, match="the network is a str"):
        call("network")


def test_segments_have_a_dimension_of_their_own():
    with pytest.raises(InputError, match=r"the starts have the shape \(2,\), .*\(segments, ...\)"):
        crossings(NETWORK, POINTS[0], POINTS[1])
    with pytest.raises(InputError, match="the ends are a str"):
        crossings(NETWORK, POINTS, "ends")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_pairs": -1}, "max_pairs -1"),
        ({"max_pairs": 1.5}, "max_pairs 1.5"),
        ({"seed": -1}, "seed -1"),
        ({"tolerance": "a"}, "tolerance 'a'"),
        ({"tolerance": 1.0}, r"tolerance 1\.0"),
    ],
)
def test_audit_takes_numbers_in_range(options, message):
    with pytest.raises(InputError, match=message):
        audit(NETWORK, POINTS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": 2.0}, "size of the shape 2.0"),
        ({"shape": "2"}, "size of the shape '2'"),
        ({"box": 3}, "the box is 3"),
        ({"box": (None, 1)}, r"the box is \(None, 1\)"),
        ({"box": (0, 1, 2)}, "two finite numbers"),
        ({"box": "01"}, "the box is '01'"),
        ({"plane": 3}, "plane is an int"),
        ({"max_cells": 2.5}, "max_cells 2.5"),
        ({"tolerance": "x"}, "tolerance 'x'"),
    ],
)
def test_a_complex_takes_numbers_of_the_right_kind(options, message):
    with pytest.raises(InputError, match=message):
        complex_of(NETWORK, **options)


@pytest.mark.parametrize("tolerance", [math.nan, -1, 1e9, "a"])
def test_a_cell_takes_tolerances_in_range(tolerance):
    cell = polyhedron(NETWORK, POINTS[0])
    for facets in (cell.facets, lambda tolerance: find_facets(np.eye(2), np.ones(2), np.zeros(2), tolerance=tolerance)):
        with pytest.raises(InputError, match="tolerance"):
            facets(tolerance=tolerance)
    if tolerance != 1e9:
        with pytest.raises(InputError, match="tolerance"):
            cell.contains(POINTS, tolerance=tolerance)
    with pytest.raises(InputError, match="factors are a str"):
        cell.transposed_times("x")
