"""Embeddings: neighbours against all distances, the released code's rows against plain numpy, and extreme cases."""

import json
import warnings
from dataclasses import replace

import hypothesis.extra.numpy as arrays
import numba
import numpy as np
import pytest
import torch
from cases import first_on_push
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from nas_relucode import CodeSpace, InputError
from nas_relucode.cells import embedding as module
from nas_relucode.cells.embedding import embed
from nas_relucode.codes import pack
from nas_relucode.codes.bits import Codes


@pytest.fixture
def umap():
    """The package, in the tests that use it: importing it compiles for half a minute where nothing is cached yet."""
    with warnings.catch_warnings():  # about optional packages
        warnings.simplefilter("ignore", ImportWarning)
        import umap
    return umap


@pytest.fixture
def umap_calls(monkeypatch):
    """The arguments of each call of umap-learn, rows of features and settings; nothing is laid out."""
    calls = []
    monkeypatch.setattr(module, "_umap", lambda rows, **settings: calls.append((rows, settings)) or rows[:, :2])
    return calls


def grouped(n=300, neurons=60, classes=4, seed=0):
    """Codes around one code a class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return (rng.random((classes, neurons)) < 0.5)[labels] ^ (rng.random((n, neurons)) < 0.08), labels


def between(bits):
    return (bits[:, None] != bits[None]).sum(axis=2)


@given(
    arrays.arrays(bool, st.tuples(st.integers(5, 40), st.sampled_from([2, 3, 9]))),
    st.integers(2, 20),
    st.sampled_from(["cells", "samples"]),
)
def test_umap_is_given_the_exact_nearest_neighbours_of_each_point(bits, neighbours, points):
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_umap", lambda rows, **settings: calls.append(settings) or rows)
        space = CodeSpace.of(pack(bits))
        embedding = embed(space, points=points, neighbours=neighbours)
    if not calls:  # up to three points, or all of one code
        assert len(embedding) <= 3 or len(space.cells) == 1
        return
    rows, distances, _ = calls[0]["precomputed_knn"]
    apart = between(space.codes.bits()[embedding.cells])
    assert calls[0]["n_neighbors"] == rows.shape[1] == min(neighbours, len(embedding) - 1)
    assert np.array_equal(rows[:, 0], np.arange(len(embedding)))
    assert all(len(set(row)) == len(row) for row in rows.tolist())
    assert np.array_equal(distances, np.take_along_axis(apart, rows, axis=1))
    assert np.array_equal(distances, np.sort(apart, axis=1)[:, : rows.shape[1]])


@pytest.mark.slow
def test_umap_makes_the_same_graph_as_from_the_matrix_of_distances(umap_calls, umap):
    """Columns weigh 1, 2, 4, ... by repetition, so that all distances of a row differ."""
    rng = np.random.default_rng(0)
    bits = np.repeat(rng.permutation(2**8)[:80, None] >> np.arange(8) & 1, 2 ** np.arange(8), axis=1).astype(bool)
    embed(CodeSpace.of(pack(bits)), neighbours=10)
    rows, settings = umap_calls[0]
    settings["n_epochs"] = 1
    with pytest.warns(UserWarning, match="transform"):
        ours = umap.UMAP(**settings).fit(rows).graph_
    whole = umap.UMAP(n_neighbors=10, metric="precomputed", init="random", n_epochs=1, random_state=0, n_jobs=1)
    with pytest.warns(UserWarning, match="precomputed metric"):
        peer = whole.fit(between(bits)).graph_
    assert abs(ours - peer).max() < 1e-6


def test_umap_starts_from_the_principal_axes_of_the_bits(umap_calls, monkeypatch):
    space = CodeSpace.of(pack(grouped()[0]))
    axes = PCA(2).fit_transform(space.codes.bits())
    embed(space)
    monkeypatch.setattr(module, "LANDMARKS", 200)  # of 300: nearly so
    embed(space)
    for (_, settings), least in zip(umap_calls, (1 - 1e-6, 0.95), strict=True):
        for ours, theirs in zip(settings["init"].T, axes.T, strict=True):
            assert abs(np.corrcoef(ours, theirs)[0, 1]) > least


@pytest.mark.parametrize("points", first_on_push("cells", "samples"))
def test_points_near_each_other_are_near_in_the_code_space(points):
    bits, labels = grouped()
    space = CodeSpace.of(pack(bits), labels)
    embedding = embed(space, points=points)
    assert embedding.points.shape == (len(embedding), 2)
    assert embedding.points.dtype == np.float32
    assert trustworthiness(between(space.codes.bits()[embedding.cells]), embedding.points, metric="precomputed") > 0.85
    near = NearestNeighbors(n_neighbors=1).fit(embedding.points).kneighbors(return_distance=False)[:, 0]
    assert np.mean(embedding.labels[near] == embedding.labels) > 0.99


def test_a_cell_is_one_point_with_its_size_and_most_frequent_class():
    space = CodeSpace.of(pack([[0, 0], [0, 1], [0, 0], [0, 0], [1, 1]]), [2, 1, 0, 2, 0])
    embedding = embed(space)
    assert embedding.cells.tolist() == [0, 1, 2]
    assert embedding.sizes.tolist() == [3, 1, 1]
    assert embedding.labels.tolist() == [2, 1, 0]
    assert embed(CodeSpace.of(space.codes)).labels is None


def test_a_sample_is_one_point_with_its_class():
    space = CodeSpace.of(pack([[0, 0], [0, 1], [0, 0], [0, 0], [1, 1]]), [2, 1, 0, 2, 0])
    embedding = embed(space, points="samples", epochs=2)
    assert embedding.cells.tolist() == [0, 0, 0, 1, 2]
    assert embedding.sizes.tolist() == [1] * 5
    assert embedding.labels.tolist() == [0, 2, 2, 1, 0]
    unlabelled = embed(CodeSpace(space.cells), points="samples", epochs=2)
    assert unlabelled.labels is None
    assert np.array_equal(unlabelled.points, embedding.points)


@pytest.mark.parametrize("preset", ["paper", pytest.param("released_code", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_points_for_any_number_of_threads(preset):
    bits, labels = grouped(100)
    space = CodeSpace.of(pack(bits), labels)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    threads = numba.get_num_threads(), torch.get_num_threads()
    first = embed(space, preset=preset, epochs=30, seed=3)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert (numba.get_num_threads(), torch.get_num_threads()) == threads
    assert np.array_equal(embed(space, preset=preset, epochs=30, seed=3, threads=2).points, first.points)
    assert not np.array_equal(embed(space, preset=preset, epochs=30, seed=4).points, first.points)
    drawn, other = (embed(space, preset=preset, epochs=30, seed=None) for _ in range(2))
    assert not np.array_equal(drawn.points, other.points)
    assert np.array_equal(embed(space, preset=preset, epochs=30, seed=drawn.settings["seed"]).points, drawn.points)


@pytest.mark.parametrize("preset", ["paper", pytest.param("released_code", marks=pytest.mark.slow)])
@pytest.mark.parametrize("cells", [1, 2, 3, 4, 5, 15, 16])
@pytest.mark.parametrize("copies", [1, 2, 40])
def test_few_points_and_many_points_of_one_code_are_laid_out(preset, cells, copies):
    bits = np.repeat(np.tril(np.ones((cells, 20)), -1), copies, axis=0)
    space = CodeSpace.of(pack(bits), np.arange(len(bits)) % 2)
    for points in ("cells", "samples") if preset == "paper" else ("cells",):
        embedding = embed(space, points=points, preset=preset, epochs=5)
        assert np.isfinite(embedding.points).all()
        if cells == 1:
            assert not embedding.points.any()


def test_up_to_three_points_lie_the_root_of_their_distance_apart():
    bits = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0]])
    for n in (1, 2, 3):
        embedding = embed(CodeSpace.of(pack(bits[:n])))
        squares = ((embedding.points[:, None] - embedding.points[None]) ** 2).sum(axis=2)
        assert squares == pytest.approx(between(bits[:n]), abs=1e-5)
        assert embedding.settings["init"] == "principal axes alone"


def test_groups_without_common_neighbours_lie_apart():
    rng = np.random.default_rng(0)
    bits = np.repeat([[0] * 60, [1] * 60], 30, axis=0) ^ (rng.random((60, 60)) < 0.05)
    embedding = embed(CodeSpace.of(pack(bits), np.arange(60) // 30), points="samples", neighbours=5)
    one, two = (embedding.points[embedding.labels == label] for label in (0, 1))
    assert NearestNeighbors(n_neighbors=1).fit(one).kneighbors(two)[0].min() > 1


@pytest.mark.slow
def test_samples_of_one_cell_lie_together_rather_than_on_a_string():
    bits = np.repeat([[0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]], [500, 20, 60], axis=0)
    embedding = embed(CodeSpace.of(pack(bits)), points="samples")
    assert embedding.points[embedding.cells == 0].std(axis=0).max() < 3


@pytest.mark.parametrize("preset", ["paper", "released_code"])
def test_settings_are_plain_values_for_json(umap_calls, preset):
    bits, labels = grouped(40)
    embedding = embed(
        CodeSpace.of(pack(bits), labels), preset=preset, neighbours=np.int64(9), seed=np.uint32(7), epochs=2
    )
    assert json.loads(json.dumps(embedding.settings)) == embedding.settings
    assert (embedding.settings["preset"], embedding.settings["seed"], embedding.settings["epochs"]) == (preset, 7, 2)


def test_most_draws_a_seeded_sample_of_the_points(umap_calls):
    bits, labels = grouped(200)
    space = CodeSpace.of(pack(bits), labels)
    for preset in ("paper", "released_code"):
        whole, some = (embed(space, preset=preset, epochs=2, most=most) for most in (None, 50))
        again, other = (embed(space, preset=preset, epochs=2, most=50, seed=seed) for seed in (0, 1))
        assert (len(some), some.settings["of"], some.settings["most"]) == (50, len(whole), 50)
        assert np.array_equal(some.cells, again.cells)
        assert not np.array_equal(some.cells, other.cells)
        assert len(set(some.cells)) == 50
        assert np.array_equal(some.labels, labels[space.cells.first[some.cells]])
        assert len(embed(space, preset=preset, epochs=2, most=1_000)) == len(whole)


def test_one_layer_is_embedded_as_its_own_code_space():
    (first, labels), (second, _) = grouped(80), grouped(80, seed=1)
    one, two = pack(first, "one"), pack(second, "two")
    both = Codes(np.hstack([one.words, two.words]), (*one.layers, replace(two.layers[0], start=1)))
    space = CodeSpace.of(both, labels)
    embedding = embed(space, layer="two", epochs=5)
    assert np.array_equal(embedding.points, embed(CodeSpace.of(two, labels), epochs=5).points)
    assert embedding.settings["layer"] == "two"
    joint = embed(space, epochs=5)
    together = CodeSpace.of(pack(np.hstack([first, second])), labels)
    assert np.array_equal(joint.points, embed(together, epochs=5).points)


def test_the_released_preset_embeds_the_rows_of_the_released_code(umap_calls):
    """Each class' distinct codes, sorted, class after class; a code that two classes have is two rows."""
    rng = np.random.default_rng(0)
    bits, labels = rng.random((120, 9)) < 0.3, rng.integers(0, 3, 120)
    embedding = embed(CodeSpace.of(pack(bits), labels), preset="released_code", neighbours=9, min_dist=0.5)
    rows, classes, sizes = [], [], []
    for label in range(3):
        codes, counts = np.unique(bits[labels == label], axis=0, return_counts=True)
        rows.append(codes)
        classes += [label] * len(codes)
        sizes += counts.tolist()
    rows = np.vstack(rows)
    assert len(rows) > len(np.unique(bits, axis=0))
    features, settings = umap_calls[0]
    assert np.array_equal(features, (between(rows) / 9).astype(np.float32))
    assert embedding.labels.tolist() == classes
    assert embedding.sizes.tolist() == sizes
    assert {name: settings[name] for name in ("n_neighbors", "min_dist", "init")} == {
        "n_neighbors": 2,
        "min_dist": 0.1,
        "init": "random",
    }
    assert (embedding.settings["neighbours"], embedding.settings["min_dist"], embedding.settings["init"]) == (
        2,
        0.1,
        "random",
    )


@pytest.mark.parametrize("neurons", [3, 8, 64, 65, 130])
def test_the_released_presets_codes_are_in_lexicographic_order(umap_calls, neurons):
    bits = np.random.default_rng(neurons).random((60, neurons)) < 0.5
    space = CodeSpace.of(pack(bits), np.zeros(60, int))
    embedding = embed(space, preset="released_code")
    assert np.array_equal(space.codes.bits()[embedding.cells], np.unique(bits, axis=0))


@pytest.mark.slow
def test_the_released_presets_points_are_umaps_of_these_rows(umap):
    bits, labels = grouped(60, neurons=12, classes=2)
    embedding = embed(CodeSpace.of(pack(bits), labels), preset="released_code", seed=5, epochs=50)
    rows = np.vstack([np.unique(bits[labels == label], axis=0) for label in (0, 1)])
    peer = umap.UMAP(n_neighbors=2, min_dist=0.1, init="random", random_state=5, n_jobs=1, n_epochs=50)
    assert np.array_equal(embedding.points, peer.fit_transform(between(rows) / 12))


def test_settings_out_of_range_and_missing_data_are_errors(umap_calls, monkeypatch):
    space = CodeSpace.of(pack(np.eye(6)), np.arange(6) % 2)
    for wrong, message in (
        ({"layer": "head.7"}, "unknown layer 'head.7'. Known: layer"),
        ({"points": "codes"}, "unknown kind of points 'codes'. Known: cells, samples"),
        ({"preset": "text"}, "unknown preset 'text'. Known: paper, released_code"),
        ({"preset": "released_code", "points": "samples"}, "one point per class and code"),
        ({"neighbours": 1}, "neighbours 1 is not a whole number of at least 2"),
        ({"neighbours": None}, "neighbours None"),
        ({"min_dist": -0.1}, "min_dist -0.1 is out of range"),
        ({"min_dist": float("nan")}, "min_dist nan is out of range"),
        ({"seed": -1}, "seed -1"),
        ({"epochs": 0}, "epochs 0"),
        ({"most": 0.5}, "most 0.5"),
    ):
        with pytest.raises(InputError, match=message):
            embed(space, **wrong)
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(InputError, match=f"there are {shape[0]} codes of {shape[1]} neurons"):
            embed(CodeSpace.of(pack(np.empty(shape))))
    with pytest.raises(InputError, match="'released_code' needs labels"):
        embed(CodeSpace(space.cells), preset="released_code")
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    with pytest.raises(InputError, match=r"of 6 rows here and of 5 at most\. Give most=5"):
        embed(space, preset="released_code")
    assert len(embed(space, preset="released_code", most=5, epochs=2)) == 5


@pytest.mark.parametrize("count", [3, 5, 7, 64, 200])
def test_codes_that_are_all_equally_far_apart_have_two_axes(count):
    """Their products have count - 1 equal eigenvalues, half their distance: 1."""
    layout = module._principal_axes(pack(np.eye(count, dtype=int)), np.random.default_rng(0))
    assert np.allclose((layout**2).sum(axis=0), 1)
    assert abs(layout[:, 0] @ layout[:, 1]) < 1e-9
