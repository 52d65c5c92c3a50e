"""The documentation's reference is complete: each public name has an entry, and each parameter of it a description."""

import importlib
import sys
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe", reason="pip install nas-relucode[docs]")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_generate"))
docstrings = importlib.import_module("docstrings")
reference = importlib.import_module("reference")


@pytest.fixture(scope="module")
def package():
    return griffe.load("nas_relucode", search_paths=[str(ROOT)], resolve_aliases=True)


def entries(station: str) -> list[str]:
    """The places of a station's public names, which its page has."""
    return [line.removeprefix("::: ") for line in reference.station(station).splitlines() if line.startswith("::: ")]


def test_every_folder_with_public_names_has_a_page():
    folders = {path.parent.name for path in (ROOT / "nas_relucode").glob("*/__init__.pyi")}
    assert folders == set(reference.STATIONS) - {""}


def test_every_name_at_the_top_has_an_entry_in_its_station():
    top = importlib.import_module("nas_relucode")
    places = {place.rpartition(".")[2] for station in reference.STATIONS for place in entries(station)}
    names = {name for name in top.__all__ if not name.startswith("_")} - set(reference.STATIONS)
    assert names <= places


@pytest.mark.parametrize("station", [name for name in reference.STATIONS if name])
def test_every_public_name_has_its_parameters_described(station, package):
    undescribed = []
    for place in entries(station):
        item = package[place.removeprefix("nas_relucode.")]
        if isinstance(item, griffe.Attribute):
            continue
        assert item.docstring, place
        methods = [m for name, m in item.members.items() if not name.startswith("_")] if item.is_class else []
        for callable_ in [item, *(method for method in methods if method.is_function)]:
            for name in docstrings.parameters_of(callable_):
                if docstrings.description(callable_, name) is None:
                    undescribed.append(f"{callable_.path}: {name}")
    assert undescribed == []
