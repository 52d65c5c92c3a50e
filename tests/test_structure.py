"""The modules import in one direction, the library does not print, and every public name says what it is."""

import ast
from pathlib import Path

import nas_relucode

PACKAGE = Path(nas_relucode.__file__).parent
LEVELS = [  # up to indices: anybody's network, no training, no Optuna
    ["errors"],
    ["files", "words", "codes", "torchscript", "relus", "network_state", "batches", "signs", "packing", "capturing"],
    ["hamming", "neighbours", "spanning", "cells", "adjacency", "linkage", "knn", "nearest_codes"],
    ["code_spaces", "stored_spaces", "separation", "embedding", "bends", "segments", "initialisation"],
    ["operations", "linear_operations", "recording", "programs", "crossing", "borders"],
    ["cones", "half_spaces", "solvers", "facets", "polyhedra"],
    ["polygons", "facet_search", "faces", "complexes", "slices", "audit", "geometry"],
    ["evidence", "geometric_indices", "indices"],
    [
        "data",
        "recipes",
        "networks",
        "named_networks",
        "products",
        "small_convolutions",
        "descent",
        "perceptrons",
        "training",
        "batched",
        "together",
    ],
    ["checkpoints", "frozen", "toml_files"],
    ["scoring", "zero_cost", "code_curves"],
    ["checks", "search_space", "slice_figures", "predictions", "objective", "study_settings", "storage", "study"],
    ["paired_differences", "equality", "ordering", "trials", "ranking", "selection", "figures"],
    ["adapters", "epoch_indices", "with_ray", "with_ax", "with_syne_tune"],
    ["drawing", "claims", "depth_claims", "paper_figures", "clustering", "figure_frames", "figure_study"],
    ["correlations", "report_tables", "report_commands", "report_data", "report_sections", "report_pictures"],
    ["report_page", "report", "dashboard"],
    ["progress", "command_complex", "command_figure", "command_select", "command_train", "cli", "__main__"],
]
FOREIGN = {
    "umap": 3,
    "torchvision": 8,
    "optuna": 11,
    "pandas": 11,
    "matplotlib": 11,
    "plotly": 12,
    "moocore": 12,
    "argparse": 17,
}
ORDER = [module for level in LEVELS for module in level]


def imports(module):
    """Every module that ``module`` imports, also inside functions."""
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def test_a_module_imports_only_what_comes_before_it():
    for place, module in enumerate(ORDER):
        ours = {name.removeprefix("nas_relucode.") for name in imports(module) if name.startswith("nas_relucode.")}
        assert ours <= set(ORDER[:place]), module


def test_other_packages_enter_where_they_belong():
    for level, modules in enumerate(LEVELS):
        for module in modules:
            for name in imports(module):
                assert level >= FOREIGN.get(name.split(".")[0], 0), f"{module} imports {name}"


def test_the_library_does_not_print():
    for module in ORDER[: ORDER.index("progress")]:
        calls = [n.func for n in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())) if isinstance(n, ast.Call)]
        assert "print" not in [call.id for call in calls if isinstance(call, ast.Name)], module


def test_every_public_name_has_a_docstring():
    for name, thing in vars(nas_relucode).items():
        if not name.startswith("_") and callable(thing):
            assert thing.__doc__, name
