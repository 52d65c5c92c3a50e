"""What the tests share: how hypothesis runs, and the folder of real data that lies beside some checkouts."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Two suites on two cores wait for each other's threads; the networks here are too small to gain from more than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

# The first call of a compiled function takes longer than hypothesis' usual 200 ms.
settings.register_profile("nas_relucode", deadline=None)
settings.load_profile("nas_relucode")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """``shared/data`` beside the checkout: all of MNIST and a part of CIFAR-10."""
    root = Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no real data: {root} does not exist")
    return root
