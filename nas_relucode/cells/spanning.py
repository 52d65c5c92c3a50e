"""The exact minimum spanning tree of codes under the Hamming distance, from which the graph at every theta follows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from nas_relucode.cells.hamming import as_columns
from nas_relucode.codes.bits import Codes, check_codes
from nas_relucode.codes.words import BLOCK, compiled, distances_to, doubled, inlined, popcount
from nas_relucode.errors import thread_count

GROUP = 64  # rows around one centre, which are compared with another row at once
FEW = 8192  # up to this number of rows Prim's algorithm is as fast as groups
ROUND = 16  # groups that are compared with all groups before them, on any number of threads, before the tree is updated
NEIGHBOURS = 4  # nearest groups in which each row looks for its first edges
FIRST_ROOM = 1024  # edges for which there is room at first


@dataclass(frozen=True, eq=False)
class SpanningTree:
    """Edges of a minimum spanning tree, ordered by distance. All such trees have the same distances."""

    first: np.ndarray  # int64, (rows - 1,): the smaller of the two rows
    second: np.ndarray  # int64, (rows - 1,)
    distance: np.ndarray  # int64, (rows - 1,): Hamming distances, ascending

    def __len__(self) -> int:
        return len(self.distance)

    def __repr__(self) -> str:
        lengths = f", {self.distance[0]} to {self.distance[-1]} bits long" if len(self) else ""
        return f"SpanningTree: {len(self)} edges{lengths}"


def spanning_tree(codes: Codes, *, threads: int | None = None) -> SpanningTree:
    """A minimum spanning tree of the rows under the Hamming distance, exactly, in memory that grows with the rows.

    A pair of rows is compared only if its distance can be below the largest edge on the path between them in the best
    tree so far; otherwise it is in no better tree. Rows lie in groups around centres: the triangle inequality rules out
    most pairs of groups, and most other pairs where the tree's edges are far below the typical distance. Time grows
    with the square of the rows, by a small fraction of a nanosecond per pair for trained networks. ``threads`` (None:
    torch's number) do not change the tree.

    >>> from nas_relucode.codes import pack
    >>> tree = spanning_tree(pack([[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]]))
    >>> tree.first, tree.second, tree.distance
    (array([0, 1]), array([1, 2]), array([1, 3]))
    """
    check_codes(codes)
    threads = thread_count(threads) or torch.get_num_threads()
    rows = np.ascontiguousarray(codes.words)
    if len(rows) <= FEW:
        return _sorted_tree(_prim(rows, as_columns(codes)))
    order, groups = _grouped(rows)
    rows = np.ascontiguousarray(rows[order])
    edges = _grow(rows, groups, threads)
    edges[1:] = order[edges[1:]]
    return _sorted_tree(edges)


def _sorted_tree(edges: np.ndarray) -> SpanningTree:
    """The tree of ``edges``, int64, (3, edges): distances and both ends."""
    distance, ends = edges[0], np.sort(edges[1:], axis=0)
    order = np.lexsort((ends[1], ends[0], distance))
    return SpanningTree(ends[0, order], ends[1, order], distance[order])


@dataclass(frozen=True)
class _Groups:
    """Groups of consecutive rows, start <= row < stop, all within the radius of a code, the centre."""

    start: np.ndarray  # int64, (groups,)
    stop: np.ndarray  # int64, (groups,)
    centre: np.ndarray  # uint64, (groups, words)
    radius: np.ndarray  # int64, (groups,)


def _grouped(rows: np.ndarray) -> tuple[np.ndarray, _Groups]:
    """An order of the rows, (rows,), and its groups: rows with the same nearest centre, the nearest first, GROUP each.

    The centres are first drawn from the rows, and then twice the majority of each bit: of the rows nearest to a centre,
    and of a group.
    """
    columns = np.ascontiguousarray(rows.T)
    centres = rows[np.sort(np.random.default_rng(0).choice(len(rows), len(rows) // GROUP, replace=False))]
    for last_pass in (False, True):
        radius, centre = _nearest(centres, columns)
        order = np.lexsort((radius, centre))
        starts = np.flatnonzero(np.diff(centre[order], prepend=-1))
        if last_pass:  # cut into pieces of at most GROUP rows
            within = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
            starts = np.flatnonzero(within % GROUP == 0)
        stops = np.append(starts[1:], len(rows))
        centres = _majorities(rows, order, starts, stops)
    return order, _Groups(starts, stops, centres, _radii(rows, order, starts, stops, centres))


def _grow(rows: np.ndarray, groups: _Groups, threads: int) -> np.ndarray:
    """The edges of the tree: int64, (3, rows - 1), distances and both ends."""
    n = len(rows)
    sizes = groups.stop - groups.start
    group = np.repeat(np.arange(len(sizes)), sizes)
    tiles = np.zeros((len(sizes), rows.shape[1], GROUP), np.uint64)  # the same word of all rows of a group together
    tiles[group, :, np.arange(n) - groups.start[group]] = rows
    heads = np.ascontiguousarray(rows[groups.start])
    tree = _prim(heads, np.ascontiguousarray(heads.T))
    tree[1:] = groups.start[tree[1:]]
    centre_columns = np.ascontiguousarray(groups.centre.T)
    first_edges = _near_rows(rows, tiles, groups.start, groups.stop, groups.centre, centre_columns, NEIGHBOURS)
    tree, forest = _kruskal(n, np.hstack([tree, first_edges]))

    def compare(task: tuple[int, int]) -> tuple[np.ndarray, int]:
        group_arrays = (groups.start, groups.stop, groups.centre, centre_columns, groups.radius)
        return _compare(rows, tiles, *group_arrays, *forest, *task, 2 * n)

    tasks = [(number, 0) for number in range(len(groups.start))]  # a group, and the first it is compared with
    candidates: list[np.ndarray] = []
    with ThreadPoolExecutor(threads) as pool:
        while tasks:
            batch, tasks = tasks[:ROUND], tasks[ROUND:]
            results = list(pool.map(compare, batch))
            candidates += [edges for edges, _ in results]
            unfinished = [(task[0], stop) for task, (_, stop) in zip(batch, results, strict=True) if stop <= task[0]]
            tasks = unfinished + tasks
            if unfinished or not tasks or sum(edges.shape[1] for edges in candidates) > n // 2:
                tree, forest = _kruskal(n, np.hstack([tree, *candidates]))
                candidates = []
    return tree


def _kruskal(n: int, edges: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The ``edges`` (3, edges) that make a minimum spanning tree of n rows; and all rows' parents, links, heights."""
    dtype = np.uint16 if edges[0].max() < 2**16 else np.int64  # numpy sorts 16 bits by counting
    chosen, parent, link = _join(n, edges, np.argsort(edges[0].astype(dtype), kind="stable"))
    return edges[:, chosen], (parent, link, _heights(parent, link))


@compiled
def _nearest(centres, columns):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The distance to the nearest centre, and its number, for each column: int64, (columns,) each."""
    n = columns.shape[1]
    best = np.empty(n, np.uint64)
    out = np.empty(BLOCK, np.uint64)
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        nearest = best[start:stop]
        nearest[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        for k in range(centres.shape[0]):
            distances_to(centres[k], columns, start, stop, out)
            for j in range(stop - start):
                nearest[j] = min(nearest[j], (out[j] << np.uint64(32)) | np.uint64(k))
    return (best >> np.uint64(32)).astype(np.int64), (best & np.uint64(0xFFFFFFFF)).astype(np.int64)


@compiled
def _majorities(rows, order, starts, stops):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The bits that most rows of a group have set: uint64, (groups, words)."""
    words = rows.shape[1]
    majorities = np.zeros((starts.shape[0], words), np.uint64)
    for group in range(starts.shape[0]):
        half = np.int32((stops[group] - starts[group]) // 2)
        for word in range(words):
            counts = np.zeros(64, np.int32)
            for k in range(starts[group], stops[group]):
                x = rows[order[k], word]
                for bit in range(64):
                    counts[bit] += np.int32((x >> np.uint64(bit)) & np.uint64(1))
            for bit in range(64):
                if counts[bit] > half:
                    majorities[group, word] |= np.uint64(1) << np.uint64(bit)
    return majorities


@compiled
def _radii(rows, order, starts, stops, centres):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The largest distance from a group's centre to its rows: int64, (groups,)."""
    radii = np.zeros(starts.shape[0], np.int64)
    for group in range(starts.shape[0]):
        for k in range(starts[group], stops[group]):
            distance = np.uint64(0)
            for word in range(rows.shape[1]):
                distance += popcount(rows[order[k], word] ^ centres[group, word])
            radii[group] = max(radii[group], np.int64(distance))
    return radii


@compiled
def _prim(rows, columns):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Prim's algorithm: int64, (3, rows - 1), distances and both ends.

    The key of a row that is not in the tree is its distance to the tree << 32 | the nearest row of the tree.
    """
    n = rows.shape[0]
    edges = np.empty((3, max(0, n - 1)), np.int64)
    keys = np.full(n, 0x7FFFFFFFFFFFFFFF, np.uint64)
    in_tree = np.zeros(n, np.uint64)  # the top bit, once a row is in the tree: its key is then never the least
    out = np.empty(BLOCK, np.uint64)
    row = np.int64(0)
    for k in range(n - 1):
        in_tree[row] = np.uint64(0x8000000000000000)
        keys[row] |= np.uint64(0x8000000000000000)
        least = np.uint64(0xFFFFFFFFFFFFFFFF)
        for start in range(0, n, BLOCK):
            stop = min(n, start + BLOCK)
            distances_to(rows[row], columns, start, stop, out)
            key, used = keys[start:stop], in_tree[start:stop]
            for j in range(stop - start):
                key[j] = min(key[j], (out[j] << np.uint64(32)) | np.uint64(row) | used[j])
                least = min(least, (key[j] & np.uint64(0xFFFFFFFF00000000)) | np.uint64(start + j))
        nearest = np.int64(least & np.uint64(0xFFFFFFFF))
        edges[0, k] = np.int64(least >> np.uint64(32))
        edges[1, k], edges[2, k] = np.int64(keys[nearest] & np.uint64(0xFFFFFFFF)), nearest
        row = nearest
    return edges


@compiled
def _join(n, edges, order):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Kruskal's algorithm by union by size, without path compression: the numbers of the tree's edges, and the forest.

    Of each row the forest holds the parent, and the length of the edge that linked them: these links grow along every
    path to the root.
    """
    parent, size = np.arange(n), np.ones(n, np.int64)
    link = np.full(n, 0x7FFFFFFFFFFFFFFF, np.int64)
    chosen, count = np.empty(max(0, n - 1), np.int64), 0
    for edge in order:
        a, b = edges[1, edge], edges[2, edge]
        while parent[a] != a:
            a = parent[a]
        while parent[b] != b:
            b = parent[b]
        if a == b:
            continue
        if size[a] > size[b]:
            a, b = b, a
        parent[a], link[a] = b, edges[0, edge]
        size[b] += size[a]
        chosen[count] = edge
        count += 1
        if count == n - 1:
            break
    return chosen[:count], parent, link


@inlined
def _largest_edge(a, b, parent, link):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The largest edge on the tree's path between rows a and b: the last link before their paths to the root meet."""
    largest = np.int64(0)
    while a != b:
        if link[a] <= link[b]:
            largest, a = link[a], parent[a]
        else:
            largest, b = link[b], parent[b]
    return largest


@compiled
def _heights(parent, link):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The largest edge between each row and the root: the larger of two rows' heights bounds the edges between them."""
    n = parent.shape[0]
    root = 0
    while parent[root] != root:
        root = parent[root]
    heights = np.empty(n, np.uint64)
    for row in range(n):
        heights[row] = np.uint64(_largest_edge(row, root, parent, link))
    return heights


@compiled
def _to_tile(rows, i, tiles, group, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Writes the distances of rows[i] to the rows of a group to ``out``; beyond its last row they mean nothing."""
    words, size = tiles.shape[1], tiles.shape[2]
    for j in range(size):
        out[j] = 0
    for word in range(0, words - words % 4, 4):
        p, q, r, s = rows[i, word], rows[i, word + 1], rows[i, word + 2], rows[i, word + 3]
        for j in range(size):
            out[j] += (
                popcount(p ^ tiles[group, word, j])
                + popcount(q ^ tiles[group, word + 1, j])
                + popcount(r ^ tiles[group, word + 2, j])
                + popcount(s ^ tiles[group, word + 3, j])
            )
    for word in range(words - words % 4, words):
        p = rows[i, word]
        for j in range(size):
            out[j] += popcount(p ^ tiles[group, word, j])


@compiled
def _near_rows(rows, tiles, starts, stops, centres, centre_columns, neighbours):  # type: ignore  # pragma: no cover
    """Edges from each row to the first row of its group, and to the nearest row of its own and of each near group."""
    groups = starts.shape[0]
    edges, count = np.empty((3, rows.shape[0] * (neighbours + 2)), np.int64), 0
    out, to_centres = np.empty(tiles.shape[2], np.uint64), np.empty(groups, np.uint64)
    for b in range(groups):
        for i in range(starts[b] + 1, stops[b]):  # with the tree of the first rows, these edges span all rows
            _to_tile(rows, i, tiles, b, out)
            edges[0, count], edges[1, count], edges[2, count] = np.int64(out[0]), i, starts[b]
            count += 1
        distances_to(centres[b], centre_columns, 0, groups, to_centres)
        to_centres[b] = 0
        for _ in range(min(neighbours + 1, groups)):
            a = np.argmin(to_centres)
            to_centres[a] = np.uint64(0xFFFFFFFFFFFFFFFF)
            for i in range(starts[b], stops[b]):
                _to_tile(rows, i, tiles, a, out)
                nearest = np.uint64(0xFFFFFFFFFFFFFFFF)
                for j in range(stops[a] - starts[a]):
                    if starts[a] + j != i:
                        nearest = min(nearest, (out[j] << np.uint64(32)) | np.uint64(j))
                if nearest != np.uint64(0xFFFFFFFFFFFFFFFF):
                    edges[0, count] = np.int64(nearest >> np.uint64(32))
                    edges[1, count], edges[2, count] = i, starts[a] + np.int64(nearest & np.uint64(0xFFFFFFFF))
                    count += 1
    return edges[:, :count].copy()


@compiled
def _compare(  # type: ignore  # pragma: no cover
    rows, tiles, starts, stops, centres, centre_columns, radius, parent, link, heights, b, first, enough
):
    """The pairs of rows of group b and groups first..b that are shorter than the largest edge between them in the tree.

    Returns them, and the group to go on with once there are ``enough``. A pair is compared only if the triangle
    inequality through the centre of b allows a distance below the height of one of the two rows, as the larger height
    bounds the edges between them.
    """
    edges, count = np.empty((3, FIRST_ROOM), np.int64), 0
    out, to_centres = np.empty(tiles.shape[2], np.uint64), np.empty(b + 1, np.uint64)
    to_centre = np.empty(tiles.shape[2], np.uint64)
    start, stop = starts[b], stops[b]
    high = heights[start:stop]
    highest = high.max()
    distances_to(centres[b], centre_columns, 0, b + 1, to_centres)
    for a in range(first, b + 1):
        if count > enough:
            return edges[:, :count].copy(), a
        begin, end = starts[a], stops[a]
        if np.int64(to_centres[a]) >= radius[a] + radius[b] + np.int64(max(highest, heights[begin:end].max())):
            continue
        _to_tile(centres, b, tiles, a, to_centre)
        for i in range(begin, end):
            height = heights[i]
            if np.int64(to_centre[i - begin]) >= radius[b] + np.int64(max(highest, height)):
                continue
            _to_tile(rows, i, tiles, b, out)
            near = np.int64(0)
            for j in range(stop - start):
                near += np.int64(out[j] < max(height, high[j]))
            if near == 0:
                continue
            for j in range(i + 1 - start if a == b else 0, stop - start):
                d = np.int64(out[j])
                if out[j] < max(height, high[j]) and d < _largest_edge(i, start + j, parent, link):
                    if count == edges.shape[1]:
                        edges = doubled(edges)
                    edges[0, count], edges[1, count], edges[2, count] = d, i, start + j
                    count += 1
    return edges[:, :count].copy(), b + 1
