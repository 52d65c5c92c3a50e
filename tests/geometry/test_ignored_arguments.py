"""Geometry refuses what would be ignored beside another argument, and a failed save hides nothing."""

import errno

import numpy as np
import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.geometry import (
    Plane,
    audit,
    complex_of,
    margins,
    neighbourhood,
    polyhedron,
    read_program,
    slice_through,
)
from nas_relucode.geometry.facet_search import FacetSearch

torch.manual_seed(0)
NETWORK = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2))
PROGRAM = read_program(NETWORK, torch.zeros(1, 2))
POINTS = torch.tensor([[0.3, 0.1], [-0.2, 0.4], [0.5, -0.6]])


@pytest.mark.parametrize(
    ("function", "points"),
    [(margins, POINTS), (audit, POINTS), (polyhedron, POINTS[:1]), (slice_through, POINTS), (neighbourhood, POINTS[0])],
)
def test_a_program_has_been_read_and_takes_no_module(function, points):
    function(PROGRAM, points)
    with pytest.raises(InputError, match=r"'nope' .*Program"):
        function(PROGRAM, points, module="nope")


def test_a_program_has_a_shape():
    with pytest.raises(InputError, match=r"shape 2 .*Program"):
        complex_of(PROGRAM, 2)


def test_a_search_in_a_file_goes_on_only_from_where_it_began(tmp_path):
    file, start = tmp_path / "state.npz", [0.3, 0.1]
    first = complex_of(NETWORK, max_cells=3, start=start, state=file)
    for other in ([0.3, 0.2], ["nonsense"], [0.3]):
        with pytest.raises(InputError, match="start"):
            complex_of(NETWORK, start=other, state=file)
    whole = complex_of(NETWORK, start=start, state=file)
    assert np.array_equal(whole.points[: len(first)], first.points)
    assert complex_of(NETWORK, state=file).summary() == whole.summary() == complex_of(NETWORK).summary()


@pytest.mark.parametrize("start", [["a", "b"], "ab", [0.0, float("nan")], [[0.0, 0.0]], 3, 1.5])
def test_a_start_is_a_point(start):
    with pytest.raises(InputError, match="start"):
        complex_of(NETWORK, start=start)


@pytest.mark.parametrize(
    "plane",
    [
        Plane(np.zeros(3), np.eye(2, 3)),
        Plane(np.zeros(2), np.eye(2, 3)),
        Plane(np.zeros(3), np.eye(2)),
        Plane(np.zeros(2), np.zeros(2)),
        Plane("origin", np.eye(2)),
        Plane(np.zeros(2), np.empty((0, 2))),
    ],
)
def test_a_plane_lies_in_the_space_of_the_inputs(plane):
    with pytest.raises(InputError, match="the plane"):
        complex_of(NETWORK, plane=plane)


def test_a_failed_save_does_not_hide_what_ended_the_search(tmp_path, monkeypatch):
    def full(search, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    def stop(done, known):
        raise KeyboardInterrupt

    monkeypatch.setattr(FacetSearch, "save", full)
    with pytest.warns(RuntimeWarning, match="No space left"), pytest.raises(KeyboardInterrupt):
        complex_of(NETWORK, state=tmp_path / "state.npz", progress=stop)
