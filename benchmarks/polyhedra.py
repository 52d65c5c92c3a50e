"""Cells as polyhedra: a whole complex against relucent and affinitree, facets in 784 dimensions, margins, the audit."""

from __future__ import annotations

import measure

# isort: split
import itertools
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from codes_to_measure import DATA_ROOT, KINDS, source, trained
from measure import Bench, Claim
from torch import Tensor, nn

import nas_relucode as rc
from nas_relucode.geometry.complexes import Complex
from nas_relucode.geometry.facets import Facets
from nas_relucode.geometry.polyhedra import Polyhedron

COMPLEX = "whole complex of network A (2-16-16-1), {cells} cells"
IN_SPACE = {(3, 10, 10, 1): 762, (4, 8, 8, 1): 2321, (5, 6, 6, 1): 831, (4, 6, 6, 6, 1): 1505}  # widths: cells
MLP = "perceptron 784-256-128-128"
CLAIMS = {
    "relucent": Claim(f"{COMPLEX}, facets and facet neighbours", "relucent, cells one bit apart", 20, 450),
    "affinitree": Claim(f"{COMPLEX}, facets and facet neighbours", "affinitree, cells only", None, 450),
    **{
        f"{peer} {'-'.join(map(str, widths))}": Claim(
            f"whole complex of a random {'-'.join(map(str, widths))}, {{cells}} cells, facets and facet neighbours",
            f"{peer}, {what}",
            at_least,
            cells,
        )
        for widths, cells in IN_SPACE.items()
        for peer, what, at_least in (("relucent", "cells one bit apart", 20), ("affinitree", "cells only", 1))
    },
    "facets": Claim(f"facets of the cell of a sample, {MLP}, median of {{cells}}, by the clock", "8 s", 1, 50, 4, 1),
    "margins": Claim(f"margins of {{cells}} samples in all layers, {MLP}", "1 s", 1, 1_000, 1_000, 1),
    "audit": Claim(f"audit of {{cells}} adjacent pairs, {MLP}", "60 s", 1, 10_000, 500, 1),
}
ORACLES = DATA_ROOT / "oracles"
HEAD = "256-128-128"
INSIDE = np.array([0.0123, 0.0077])  # the start of the search, which is on no border


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    whole_complexes(bench)
    data = rc.load_data(source(bench.data_root), data_root=bench.data_root)
    network = trained(data, HEAD).double().eval()
    unseen = data.train.inputs[10_000:]  # digits are too few to leave any out
    inputs = (unseen if len(unseen) else data.train.inputs).double()
    facets(bench, network, inputs[: bench.cells("facets")])
    margins(bench, network, inputs[: bench.cells("margins")])
    audit(bench, network, data.train.inputs)
    bench.finish()


def whole_complexes(bench: Bench) -> None:
    """In the plane and, of random networks, in three to five dimensions."""
    cells = rc.complex_of(network_a(), 2)
    if len(cells.facet_neighbours) != 868 or cells.facet_counts.sum() != 1736:
        raise SystemExit(f"network A does not have the facets that were found in {cells}. No time was measured.")
    race_to_the_complex(bench, network_a(), "", INSIDE)
    for widths in IN_SPACE:
        start = np.full(widths[0], 0.0123)
        race_to_the_complex(bench, random_network(widths), f" {'-'.join(map(str, widths))}", start)


def race_to_the_complex(bench: Bench, network: nn.Sequential, case: str, start: np.ndarray) -> None:
    """Both peers must have the same cells as ours before a time is taken. What else they find is not the same.

    relucent joins all cells one bit apart, so its pairs are our adjacent ones and not the facet neighbours;
    affinitree has no pairs and no facets. relucent always works in a process of its own, whose time is counted.
    """

    def ours() -> Any:
        return rc.complex_of(network)

    cells = ours()
    if len(cells) != bench.cells(f"affinitree{case}"):
        raise SystemExit(f"{case or 'network A'} has {len(cells)} cells, not those that were found. No time was taken.")
    peers: dict[str, tuple[int, Callable[[], Any]]] = {
        "relucent": (3 if not case else 1, lambda: by_relucent(network, start)),
        "affinitree": (5 if case else 15, lambda: by_affinitree(network)),
    }
    check_relucent(bench, by_relucent(network, start), cells)
    check_affinitree(bench, by_affinitree(network), cells)
    for peer, (turns, theirs) in peers.items():
        seconds = [(with_children(ours), with_children(theirs)) for _ in range(turns)]
        mine, other = (statistics.median(column) for column in zip(*seconds, strict=True))
        speeds = f"{len(cells) / mine:,.0f} and {len(cells) / other:,.0f} cells/s; {turns} runs"
        bench.row(peer + case, mine, other, speeds)
        if peer == "relucent":  # it uses Gurobi, whose bundled licence forbids to publish measurements
            bench.lines.pop()


def facets(bench: Bench, network: nn.Module, inputs: Tensor) -> None:
    program = rc.geometry.read_program(network, inputs[:1])
    seconds, counts = [], []
    for x in inputs:
        start = time.perf_counter()
        cell = rc.polyhedron(program, x)
        facets = cell.facets(threads=os.cpu_count())
        seconds.append(time.perf_counter() - start)
        counts.append(len(facets))
        check_facets(cell, facets)
    few, median, many = (round(float(q)) for q in np.quantile(counts, [0, 0.5, 1]))
    note = f"longest {max(seconds):.3g} s; {few} to {many} facets, median {median}; {os.cpu_count()} threads"
    bench.row("facets", statistics.median(seconds), 8, note)


def margins(bench: Bench, network: nn.Module, inputs: Tensor) -> None:
    distance = rc.margins(network, inputs).distance
    for place in range(3):
        if not np.isclose(distance[place], by_autograd(network, inputs[place : place + 1]), rtol=1e-9):
            raise SystemExit("The margins are not those of the gradients. No time was taken.")
    runs = [measure.processor_seconds(lambda: rc.margins(network, inputs)) for _ in range(3 if bench.quick else 7)]
    if len(distance) != bench.cells("margins"):
        raise SystemExit(f"There are {len(distance):,} margins, not {bench.cells('margins'):,}.")
    bench.row("margins", statistics.median(runs), 1, f"{len(runs)} runs")


def audit(bench: Bench, network: nn.Module, images: Tensor) -> None:
    wanted = bench.cells("audit")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.cat([kind(images, 2_000 + wanted, generator) for kind in KINDS]).double()
    start = time.process_time()
    audit = rc.audit(network, inputs, max_pairs=wanted)
    seconds = time.process_time() - start
    if len(audit.pairs) != wanted:
        raise SystemExit(f"{len(inputs):,} inputs have {len(audit.pairs):,} adjacent pairs, not {wanted:,}.")
    counts = ", ".join(f"{count:,} {name}" for name, count in audit.counts.items())
    bench.row("audit", seconds, 60, f"{counts}; {len(inputs):,} inputs; 1 run")


def network_a() -> nn.Sequential:
    stored = np.load(ORACLES / "A.npz")
    layers: list[nn.Module] = []
    for place in range(int(stored["n_layers"])):
        weight, bias = (torch.from_numpy(stored[f"{kind}{place}"]) for kind in "Wb")
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.weight.data.copy_(weight)
        layer.bias.data.copy_(bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def random_network(widths: tuple[int, ...]) -> nn.Sequential:
    """Normal weights and biases."""
    rng = np.random.default_rng(0)
    layers: list[nn.Module] = []
    for before, width in itertools.pairwise(widths):
        layer = nn.Linear(before, width, dtype=torch.float64)
        layer.weight.data.copy_(torch.from_numpy(rng.standard_normal((width, before))))
        layer.bias.data.copy_(torch.from_numpy(rng.standard_normal(width)))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def by_relucent(network: nn.Sequential, start: np.ndarray) -> Any:
    """relucent's fastest search in processor time: breadth first, one worker, without a check at the end."""
    import relucent

    relucent.update_settings(VERBOSE=0)
    peer = relucent.Complex(network)
    peer.bfs(start=start, nworkers=1, verify=False)
    return peer


def by_affinitree(network: nn.Sequential) -> Any:
    import affinitree

    with silent():
        layers = affinitree.extract_pytorch_architecture(network[0].in_features, network)
        return affinitree.builder.from_layers(layers)


def check_relucent(bench: Bench, peer: Any, ours: Complex) -> None:
    def text(bits: np.ndarray) -> str:
        return "".join("01"[int(bit)] for bit in bits)

    codes = [text(bits) for bits in ours.codes.bits()]
    joined = {frozenset(codes[cell] for cell in pair) for pair in ours.adjacent_pairs}
    theirs = {frozenset(text(cell.ss_np.ravel() > 0) for cell in pair) for pair in peer.G.edges}
    if {text(cell.ss_np.ravel() > 0) for cell in peer} != set(codes) or theirs != joined:
        raise SystemExit(f"{bench.claims['relucent']} gives another result than ours. No time was taken.")


def check_affinitree(bench: Bench, tree: Any, ours: Complex) -> None:
    """Each of its cells holds the point of exactly one of ours."""
    leaves = [polytope for _, node, polytope in tree.polyhedra() if node.is_terminal()]
    holds = np.array([(leaf.mat @ ours.points.T <= leaf.bias[:, None]).all(axis=0) for leaf in leaves])
    if len(leaves) != len(ours) or (holds.sum(axis=0) != 1).any() or (holds.sum(axis=1) != 1).any():
        raise SystemExit(f"{bench.claims['affinitree']} gives another result than ours. No time was taken.")


def check_facets(cell: Polyhedron, facets: Facets) -> None:
    """As no peer has facets: the point of each is on its row, and inside all rows that are not on that facet."""
    distance = facets.points @ cell.weight.T + cell.bias
    norms = np.linalg.norm(cell.weight, axis=1)
    distance[:, norms > 0] /= norms[norms > 0]
    on_it = facets.facet_of == np.arange(len(facets.rows))[:, None]
    if (np.abs(distance[on_it]) > 1e-9).any() or (distance[~on_it & (norms > 0)] <= 0).any():
        raise SystemExit("A point of a facet is not on it.")


def by_autograd(network: nn.Module, point: Tensor) -> float:
    """The smallest |z| / ||gradient of z|| over the neurons of all ReLUs, one gradient after another."""
    point = point.clone().requires_grad_()
    kept: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: kept.append(given[0].flatten().clone()))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    network(point)
    for hook in hooks:
        hook.remove()
    least = np.inf
    for z in torch.cat(kept):
        (gradient,) = torch.autograd.grad(z, point, retain_graph=True)
        if gradient.any():
            least = min(least, float(z.detach().abs() / gradient.norm()))
    return least


def with_children(run: Callable[[], Any]) -> float:
    """Processor time, including that of child processes that have ended."""
    before = of_children()
    return measure.processor_seconds(run) + of_children() - before


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def silent() -> Iterator[None]:
    """Discards what compiled code prints."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    main()
