"""Studies in memory that nobody asked to see write no line to the user's terminal."""

import logging

import optuna
import pytest
import torch
from torch import nn

import nas_relucode as rc
from nas_relucode.study.forecast import _structures
from nas_relucode.study.search_space import SearchSpace
from nas_relucode.study.storage import study_in_memory


@pytest.fixture
def logged(monkeypatch):
    """What Optuna logs at its usual verbosity."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("optuna")
    before = logger.level
    optuna.logging.set_verbosity(optuna.logging.INFO)
    for name in list(logging.root.manager.loggerDict):  # import-linter's configuration disables them
        if name.startswith("optuna"):
            monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_a_study_in_memory_logs_nothing_and_leaves_the_verbosity(logged):
    study = study_in_memory(directions=["minimize", "maximize"], study_name="mine")
    assert (study.study_name, len(study.directions), logged) == ("mine", 2, [])
    optuna.create_study()
    assert len(logged) == 1


def test_comparing_networks_and_going_back_to_a_study_log_nothing(logged):
    torch.manual_seed(0)
    networks = {name: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)) for name in "ab"}
    data = (torch.rand(40, 4), torch.arange(40) % 2)
    selection = rc.compare(networks, data, indices=["cell_count"])
    assert len(selection.as_study().trials) == 2
    assert logged == []


def test_a_forecast_of_random_candidates_logs_nothing(logged):
    space = SearchSpace(heads=("8", "16"), learning_rates=(0.1,))
    assert _structures(space, 3)
    assert logged == []
