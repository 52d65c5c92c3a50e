"""The folders import in one direction, and every public name says what it is."""

import importlib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
STATIONS = [path.parent.name for path in (ROOT / "nas_relucode").glob("*/__init__.pyi")]


def test_the_contracts_of_imports_are_kept(monkeypatch: pytest.MonkeyPatch):
    """... that pyproject.toml states: `lint-imports` says which import breaks one."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=None) == 0


@pytest.mark.parametrize("station", ["", *STATIONS])
def test_every_public_name_is_there_and_has_a_docstring(station):
    package = importlib.import_module(f"nas_relucode.{station}".rstrip("."))
    for name in package.__all__:
        thing = getattr(package, name)
        assert thing.__doc__ or not callable(thing), name
