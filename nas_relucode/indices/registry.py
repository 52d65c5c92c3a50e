"""The indices by name, and which of them are computed for a sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError, a_type, listed_items, unknown
from nas_relucode.indices import classes, counts, geometric, graph, initialisation, sensitivity
from nas_relucode.indices.index import Index

if TYPE_CHECKING:
    from nas_relucode.cells.code_spaces import CodeSpace
    from nas_relucode.indices.inputs import IndexInputs

ALL = "all"  # every index of INDICES that is not computed on request alone, where the data allow it
MANY_CELLS = 100_000  # beyond, "all" leaves out indices that compare all cells with all

INDICES: dict[str, Index] = {
    index.name: index
    for index in (
        counts.CellCount(),
        counts.CorrectCellCount(),
        counts.CellsPerSample(),
        counts.SingletonFraction(),
        counts.OccupancyEntropy(),
        classes.CellPurity(),
        counts.NewCellFraction(),
        graph.EdgeCount(),
        graph.ComponentCount(),
        graph.LargestComponentShare(),
        graph.IsolatedCellFraction(),
        graph.ConnectingTheta(0.5),
        graph.ConnectingTheta(0.9),
        graph.ConnectingTheta(1.0),
        graph.NearestCellDistance(),
        classes.DendrogramPurity(),
        classes.KnnAccuracy(),
        classes.WithinClassDistance(),
        classes.BetweenClassDistance(),
        classes.ClassDistanceRatio(),
        classes.ClassSilhouette(),
        counts.DeadNeuronFraction(),
        counts.AlwaysOnFraction(),
        counts.VaryingNeurons(),
        initialisation.LogdetKernel(),
        initialisation.DistinctPatterns(),
        initialisation.RegularisedPatterns(),
        geometric.SegmentTransitions(),
        geometric.CorrectMargin(),
        geometric.CorrectMargin(share=0.1),
        geometric.CorrectMargin(share=0.5),
        geometric.CorrectMargin(share=0.9),
        geometric.WrongMargin(),
        geometric.WrongMargin(share=0.1),
        geometric.WrongMargin(share=0.5),
        geometric.WrongMargin(share=0.9),
        geometric.PhantomFraction(),
        geometric.UnboundedFraction(),
        geometric.ConfidenceGrowth(),
        geometric.FacetCount(),
        geometric.OtherClassDistance(),
        sensitivity.LocalComplexity(),
        sensitivity.CodeStability(),
        sensitivity.DecisionMargin(),
        sensitivity.PrincipalMargin(),
        sensitivity.CertifiedRadius(),
        sensitivity.AffineNorm(),
        sensitivity.AffineDeviation(),
        sensitivity.SpaceFolding(),
        counts.ParameterCount(),
    )
}

Indices = str | Index | Iterable[str | Index] | None


def named(indices: Indices) -> tuple[dict[str, Index], set[str]]:
    """The indices asked for by their names in results, and which of the names only "all" asks for.

    A result has the index's plain name. If several of one name are asked for, they have their settings beside it.

    >>> from nas_relucode.indices import EdgeCount
    >>> list(named([EdgeCount(theta=3)])[0]), list(named(["edge_count", EdgeCount(theta=3)])[0])
    (['edge_count'], ['edge_count', 'edge_count[theta=3]'])
    """
    items = [ALL] if indices is None else listed_items("indices", indices, Index)
    chosen = list(dict.fromkeys(_by_name(item) for item in items if item != ALL))
    only_all: set[str] = set()
    if ALL in items:
        taken = {index.name for index in chosen}
        added = [index for name, index in INDICES.items() if name not in taken and not index.on_request]
        only_all = {index.name for index in added}
        places = {name: place for place, name in enumerate(INDICES)}
        chosen = sorted([*chosen, *added], key=lambda index: places.get(index.name, len(places)))
    times = Counter(index.name for index in chosen)
    names = [index.name if times[index.name] == 1 else index.label for index in chosen]
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{count} different indices are called {name!r}. Give each a name of its own.")
    return dict(zip(names, chosen, strict=True)), only_all


def _by_name(item: str | Index) -> Index:
    if isinstance(item, Index):
        return item
    if item not in INDICES:
        raise unknown("index", item, INDICES)
    return INDICES[item]


def choose(indices: Indices, inputs: IndexInputs, *, joint: bool = True) -> dict[str, Index]:
    """The indices asked for that are computed for these inputs, by their names in results.

    ``joint`` False leaves out those of the whole network. "all", or None, is every index that the inputs allow, without
    those that compare all pairs of more than 100,000 cells. Raises InputError for an unknown index, and for one that
    needs what the inputs lack.
    """
    names, only_all = named(indices)
    chosen = {}
    for name, index in names.items():
        missing = index.missing(inputs)
        if not joint and index.joint:
            continue
        if name in only_all:
            if missing or (index.all_pairs and len(inputs.cells) > MANY_CELLS):
                continue
        elif missing:
            raise InputError(
                f"index {name!r} needs {' and '.join(missing)}, not given here. Give what is needed, or leave it out."
            )
        chosen[name] = index
    return chosen


def compute_indices(inputs: IndexInputs | CodeSpace, indices: Indices = None) -> dict[str, float]:
    """The indices asked for, by name; every index that the data allow if ``indices`` is None (see `choose`).

    >>> from nas_relucode.codes import pack
    >>> from nas_relucode.cells import CodeSpace
    >>> space = CodeSpace.of(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1]]))
    >>> compute_indices(space, ["cell_count", "component_count", "connecting_theta_100"])
    {'cell_count': 3.0, 'component_count': 2.0, 'connecting_theta_100': 2.0}
    """
    inputs = _as_inputs(inputs)
    return {name: index.value(inputs) for name, index in choose(indices, inputs).items()}


def saturated_indices(
    inputs: IndexInputs | CodeSpace, values: Mapping[str, float], indices: Mapping[str, Index] = INDICES
) -> list[str]:
    """The names of the values that lie at an end of their index's range, where it can no longer tell networks apart.

    >>> from nas_relucode.codes import pack
    >>> from nas_relucode.cells import CodeSpace
    >>> space = CodeSpace.of(pack([[0, 0, 0], [0, 0, 1], [1, 1, 1]]))
    >>> saturated_indices(space, compute_indices(space, ["cell_count", "component_count"]))
    ['cell_count']
    """
    inputs = _as_inputs(inputs)
    ranges = {name: indices[name].range(inputs) for name in values}
    return [name for name, value in values.items() if any(math.isclose(value, end) for end in ranges[name])]


def _as_inputs(inputs: IndexInputs | CodeSpace) -> IndexInputs:
    from nas_relucode.cells.code_spaces import CodeSpace
    from nas_relucode.indices.inputs import IndexInputs

    if isinstance(inputs, IndexInputs):
        return inputs
    if not isinstance(inputs, CodeSpace):
        raise InputError(f"indices of {a_type(inputs)} were requested. Give a CodeSpace or IndexInputs.")
    return IndexInputs(inputs)


def configured(
    names: Iterable[str] | None = None,
    *,
    graph_theta: int = 1,
    distance_theta: int | None = None,
    wanted_size: tuple[float, ...] | None = None,
    geometry: bool = False,
    module: str | None = None,
    labels: bool = True,
) -> list[str | Index]:
    """The indices of a study's file or a command line, which give settings for all indices at once.

    ``names`` None: all that the data allow, with regularised_patterns if there is a ``wanted_size``, and those of the
    cells as polyhedra if ``geometry``. ``labels`` says whether there are any.

    >>> configured(["cell_count", "edge_count"], graph_theta=2)
    [CellCount(), EdgeCount(theta=2)]
    """
    families: dict[type[Index], dict[str, Any]] = {
        graph.GraphIndex: {"theta": graph_theta},
        classes.ClassDistanceIndex: {"theta": distance_theta},
        geometric.GeometricIndex: {"module": module},
    }
    if wanted_size is not None:
        families[initialisation.RegularisedPatterns] = dict(zip(("mu", "sigma"), wanted_size, strict=True))

    def with_settings(index: Index) -> Index:
        settings = [values for family, values in families.items() if isinstance(index, family)]
        return replace(index, **settings[0]) if settings else index

    if names is None:
        left_out = () if geometry else (geometric.GeometricIndex,)
        wanted = [index for index in INDICES.values() if isinstance(index, tuple(families))]
        wanted = [index for index in wanted if not isinstance(index, left_out)]
        wanted = [index for index in wanted if labels or "class_counts" not in index.needs]
    else:
        wanted = [_by_name(name) for name in names]
    if module is not None and not any(isinstance(index, geometric.GeometricIndex) for index in wanted):
        polyhedra = [name for name, index in INDICES.items() if isinstance(index, geometric.GeometricIndex)]
        raise InputError(
            f"module {module!r} is for indices of polyhedra: name some of them too, of {', '.join(polyhedra)}."
        )
    return [*([ALL] if names is None else []), *map(with_settings, wanted)]
