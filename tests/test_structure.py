"""The modules import in one direction, the library does not print, and every public name says what it is."""

import ast
from pathlib import Path

import pytest

import nas_relucode

PACKAGE = Path(nas_relucode.__file__).parent
READING_ORDER = {  # up to indices: anybody's network, no training, no Optuna
    "": "errors files texts toml_files",
    "codes": "words codes torchscript relus network_state batches signs packing capturing",
    "hamming": "hamming neighbours spanning",
    "cells": (
        "cells adjacency linkage knn nearest_codes code_spaces merging stored_spaces shards distributed separation "
        "embedding"
    ),
    "programs": "bends segments operations linear_operations recording programs crossing borders",
    "polyhedra": "cones half_spaces solvers facets polyhedra polygons facet_search faces complexes slices audit",
    "indices": "initialisation geometry evidence geometric_indices indices",
    "training": (
        "data recipes networks named_networks products small_convolutions descent perceptrons training "
        "batched together checkpoints frozen"
    ),
    "scoring": "scoring zero_cost code_curves",
    "studies": (
        "checks search_space slice_figures predictions artifact_stores outcomes checkpoint_files objective "
        "study_settings plan storage study"
    ),
    "workers": "stopping patience database queue planning results worker fleet status",
    "ranking": "paired_differences seed_variance equality ordering trials ranking selection figures",
    "adapters": "candidates epoch_indices with_ray with_ax with_syne_tune",
    "paper": "drawing claims depth_claims figures clustering frames figure_study",
    "report": "correlations tables training_again data sections pictures page report dashboard",
    "commands": "progress builtin score complex codes figure select train workers cli",
}
FOREIGN = {  # the first package that may import it
    "umap": "cells",
    "torchvision": "training",
    "optuna": "studies",
    "pandas": "studies",
    "matplotlib": "studies",
    "plotly": "ranking",
    "moocore": "ranking",
    "argparse": "commands",
}
PLACES = list(READING_ORDER)
ORDER = [f"{package}.{module}".lstrip(".") for package, modules in READING_ORDER.items() for module in modules.split()]
ENTRIES = {"__init__", "__main__"}


def tree(module):
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text("utf-8"))


def imports(module):
    """Every module that ``module`` imports, also inside functions."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if name.removeprefix("nas_relucode.") in ORDER]
            yield from modules or [node.module]


def test_every_module_has_its_place():
    there = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py") if path.stem not in ENTRIES]
    assert sorted(ORDER) == sorted(".".join(path.parts) for path in there)


def test_the_package_lists_its_folders_in_reading_order():
    """... with a sentence each, which the folder's own docstring gives."""
    named = [line.split()[0] for line in nas_relucode.__doc__.splitlines() if line.startswith("    ")]
    assert named == [place for place in PLACES if place]


@pytest.mark.parametrize("place", range(len(ORDER)), ids=ORDER)
def test_a_module_imports_only_what_comes_before_it(place):
    ours = {name.removeprefix("nas_relucode.") for name in imports(ORDER[place]) if name.startswith("nas_relucode.")}
    assert ours <= set(ORDER[:place])


def test_other_packages_enter_where_they_belong():
    for module in ORDER:
        level = PLACES.index(module.rpartition(".")[0])
        for name in imports(module):
            first = FOREIGN.get(name.split(".")[0], "")
            assert level >= PLACES.index(first), f"{module} imports {name}"


def test_the_library_does_not_print():
    for module in ORDER[: ORDER.index("commands.progress")]:
        calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
        assert "print" not in [call.id for call in calls if isinstance(call, ast.Name)], module


def test_every_public_name_has_a_docstring():
    for name, thing in vars(nas_relucode).items():
        if not name.startswith("_") and callable(thing):
            assert thing.__doc__, name
