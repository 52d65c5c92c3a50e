"""What the tests share: how hypothesis runs, and the folder of real data that lies beside some checkouts."""

from pathlib import Path

import pytest
from hypothesis import settings

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
