"""The command complex: the oracles' counts, and what it refuses."""

import json

import numpy as np
import pytest
from command_line import refused
from perceptrons import ORACLES, oracle

from nas_relucode.cli.main import main


def run(capsys, *arguments):
    code = main(["complex", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("name", ["A", "C", "P", "U"])
def test_the_counts_are_those_of_the_oracles(name, capsys):
    _, truth = oracle(name)
    code, out, _ = run(capsys, ORACLES / f"{name}.npz", "-f", "json")
    assert code == 0
    assert json.loads(out) == {
        "cells": truth["whole_space"]["cells"],
        "bounded": truth["whole_space"]["bounded"],
        "facets": truth["whole_space"]["total_facets"],
        "facet_neighbours": truth["whole_space"]["adjacent_pairs"],
        "adjacent_pairs": truth["whole_space"]["hamming1_pairs"],
        "phantom_pairs": truth["whole_space"]["hamming1_not_adjacent"],
        "components": truth["whole_space"]["components_true"],
    }
    code, out, _ = run(capsys, ORACLES / f"{name}.npz", "--box", -1, 1, "-f", "json")
    counts = json.loads(out)
    assert counts["cells"] == truth["box_minus1_1"]["cells"]
    assert counts["adjacent_pairs"] == truth["box_minus1_1"]["hamming1_pairs"]
    assert counts["facet_neighbours"] == truth["box_minus1_1"]["adjacent_pairs_inside_box"]


def test_a_table_is_the_default_format(capsys):
    oracle("U")
    code, out, _ = run(capsys, ORACLES / "U.npz")
    assert code == 0
    assert "facet neighbours  9" in out


def test_a_factorys_network_is_counted(module, capsys):
    name = module("import torch\nfrom torch import nn\n\ndef make():\n    torch.manual_seed(0)\n"
                  "    return nn.Sequential(nn.Linear(1, 7), nn.ReLU(), nn.Linear(7, 1))\n")  # fmt: skip
    code, out, _ = run(capsys, f"{name}:make", "-f", "json")
    assert code == 0
    assert json.loads(out)["cells"] == 8


def test_random_weights_are_drawn_from_the_seed(module, capsys):
    name = module("from torch import nn\n\ndef make():\n    return nn.Sequential("
                  "nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))\n")  # fmt: skip
    seeds = ([], ["--seed", "0"], ["--seed", "1"])
    without, zero, one = (run(capsys, f"{name}:make", "-f", "json", *seed)[1] for seed in seeds)
    assert without == zero != one


def test_at_the_cap_the_counts_so_far_are_printed_and_the_next_call_resumes(tmp_path, capsys):
    _, truth = oracle("A")
    state = tmp_path / "state.npz"
    code, out, err = run(capsys, ORACLES / "A.npz", "--max-cells", 50, "--state", state, "-f", "json")
    assert code == 2
    assert 50 < json.loads(out)["cells"] < 200
    assert "more than 50 cells" in err
    code, out, _ = run(capsys, ORACLES / "A.npz", "--state", state, "-f", "json")
    assert code == 0
    assert json.loads(out)["cells"] == truth["whole_space"]["cells"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"W0": np.ones((2, 2)), "b0": np.ones(2)}, "at least W0, b0, W1, b1"),
        ({"W0": np.ones((2, 2)), "b0": np.ones(3), "W1": np.ones((1, 2)), "b1": np.ones(1)}, "b0 (outputs,)"),
        ({"W0": np.ones((2, 2)), "b0": np.ones(2), "W1": np.ones((1, 3)), "b1": np.ones(1)}, "W1 must be (outputs, 2)"),
        ({"W0": np.full((2, 2), np.nan), "b0": np.ones(2), "W1": np.ones((1, 2)), "b1": np.ones(1)}, "NaN"),
        ({"x": np.ones(3)}, "at least W0"),
    ],
)
def test_files_that_hold_no_network_are_refused(arrays, message, tmp_path, capsys):
    np.savez(tmp_path / "network.npz", **arrays)
    assert message in refused(capsys, "complex", str(tmp_path / "network.npz"))


def test_objects_in_a_file_are_not_run(tmp_path, capsys):
    np.savez(tmp_path / "network.npz", W0=np.array([object()]), allow_pickle=True)
    assert "network.npz cannot be read" in refused(capsys, "complex", str(tmp_path / "network.npz"))


def test_bad_options_are_refused(tmp_path, capsys):
    oracle("A")
    model = str(ORACLES / "A.npz")
    assert "two finite numbers, low < high" in refused(capsys, "complex", model, "--box", "1", "-1")
    assert "max_cells 0" in refused(capsys, "complex", model, "--max-cells", "0")
    assert "there is no" in refused(capsys, "complex", str(tmp_path / "none.npz"))
    assert "Leave out --weights" in refused(capsys, "complex", model, "--weights", "some.pt")
    assert "no folder" in refused(capsys, "complex", model, "--state", str(tmp_path / "none" / "state.npz"))
    assert "failed on an input of shape (3,)" in refused(capsys, "complex", model, "--shape", "3")
    assert "--shape" in refused(capsys, "complex", "torch.nn:ReLU")


def test_a_box_may_be_written_with_exponents(capsys):
    oracle("A")
    code, out, _ = run(capsys, ORACLES / "A.npz", "--box", "-1e-0", "1e0", "-f", "json")
    assert code == 0
    assert json.loads(out)["cells"] == 225


def test_counts_are_printed_also_if_the_state_cannot_be_written(tmp_path, capsys, monkeypatch):
    def full(path, write):
        raise OSError(28, f"{path} cannot be written (No space left on device)")

    _, truth = oracle("A")
    state = tmp_path / "state.npz"
    monkeypatch.setattr("nas_relucode.geometry.facet_search.write_atomically", full)
    with pytest.warns(RuntimeWarning, match="not saved"):
        code, out, err = run(capsys, ORACLES / "A.npz", "--state", state, "-f", "json")
    assert code == 2
    assert json.loads(out)["cells"] == truth["whole_space"]["cells"]
    assert str(state) in err


def test_the_tolerance_is_an_option(capsys):
    _, truth = oracle("A")
    code, out, _ = run(capsys, ORACLES / "A.npz", "--tolerance", 1e-10, "-f", "json")
    assert code == 0
    assert json.loads(out)["cells"] == truth["whole_space"]["cells"]
    assert "2.0" in refused(capsys, "complex", str(ORACLES / "A.npz"), "--tolerance", "2")


@pytest.mark.parametrize("shape", [["9999999999", "2"], ["0"]])
def test_a_shape_that_no_complex_has_is_refused(shape, capsys):
    assert " ".join(shape) in refused(capsys, "complex", str(ORACLES / "A.npz"), "--shape", *shape)
