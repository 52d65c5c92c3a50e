"""The cells crossed along a straight segment between two inputs, solved for and not sampled.

After Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks" (NeurIPS 2019): between two points with no
border of the earlier bends between them, the input of the next bend is linear, so its borders can be solved for.

The points of a segment at which something bends are carried through the steps of the network's program. A network that
`read_program` cannot read counts as one step, its own forward pass, which may hold anything that is linear between two
borders: recurrent networks, writes into memory, FFT, TorchScript.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.batches import as_array
from nas_relucode.codes.bits import Codes, pack
from nas_relucode.codes.capturing import capture
from nas_relucode.codes.network_state import run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import ReluCalls
from nas_relucode.errors import InputError, NonFiniteError, whole_number
from nas_relucode.geometry.bends import Bend, flat
from nas_relucode.geometry.program import Between, Program, read_copy
from nas_relucode.geometry.recording import BendCall, bend_calls, float64_copy, float64_points, forward_errors

APART = 2.0**-40  # of the segment: borders closer than this count as one
ROUNDING = 2.0**-40  # of the largest value of a bend's input: what is smaller counts as 0
STRAIGHT = 2.0**-26  # of the same: by how much the input may be off a straight line
STORED = 2**27  # bytes of inputs that are kept at a time


@dataclass(frozen=True, eq=False)
class Crossings:
    """The cells that one segment crosses, in order from its start (t = 0) to its end (t = 1)."""

    times: np.ndarray  # float64, (transitions,): the t at which the code changes, increasing, between 0 and 1
    cells: Codes  # (transitions + 1) codes: before the first time, between two, after the last

    @property
    def transitions(self) -> int:
        return len(self.times)


def crossings(
    network: nn.Module,
    starts: Tensor,
    ends: Tensor,
    *,
    layers: str | Sequence[str] = "all",
    forward: Forward | None = None,
    batch_size: int = 512,
) -> list[Crossings]:
    """The cells crossed from each of ``starts`` to the same row of ``ends``, both of shape (segments, ...).

    Computed on a copy of the network in float64 and evaluation mode. The borders are solved for, so no cell is missed,
    however small, down to 2^-40 of the segment; borders closer than that count as one. ``layers`` are chosen as in
    `capture`; ``forward(network, inputs)`` calls a network that takes more than one tensor.

    The bits are those of the open stretches between borders, where a pre-activation that is 0 all along has bit 0. A
    border that is touched and not crossed is not a transition, nor is one at t = 0 or 1. If all layers are chosen and
    nothing but ReLUs bends, a cell is met once (it is convex); otherwise it may be met again.

    Each border of a bend up to the last chosen layer, chosen or not, is carried in float64 through the layers behind
    it; where `read_program` cannot read the network, it costs two forward passes.

    >>> layer = nn.Linear(1, 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0], [1.0]])), layer.bias.data.copy_(torch.tensor([0.0, -1.0]))
    >>> network = nn.Sequential(layer, nn.ReLU())
    >>> segment = crossings(network, torch.tensor([[-1.0]]), torch.tensor([[3.0]]))[0]
    >>> segment.transitions, segment.times, segment.cells.bits().astype(int).tolist()
    (2, array([0.25, 0.5 ]), [[0, 0], [1, 0], [1, 1]])

    Raises InputError where a layer's input is not linear between the borders: behind a smooth operation (GELU, tanh,
    attention, LayerNorm) or a bend that `bends` does not know, such as ``torch.where``; also as `capture` does.
    """
    run = _Run(network, starts, ends, layers, forward, batch_size)
    segments, times, words = (np.concatenate(parts) for parts in zip(*_changes(run), strict=True))
    cuts = np.searchsorted(segments, np.arange(len(run.starts) + 1))
    return [
        Crossings(times[start + 1 : stop], Codes(words[start:stop], run.layers))
        for start, stop in itertools.pairwise(cuts)
    ]


def segment_transitions(
    network: nn.Module,
    inputs: Tensor,
    labels: Any,
    *,
    segments: int = 1000,
    seed: int = 0,
    layers: str | Sequence[str] = "all",
    forward: Forward | None = None,
    batch_size: int = 512,
) -> np.ndarray:
    """The number of transitions (`crossings`) between two samples of one class: int64, (pairs,).

    ``segments`` different pairs are drawn from all pairs of samples of one class, each equally likely. If there are no
    more pairs than that, all are taken, in a fixed order. No code is kept.

    >>> network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    >>> _ = network[0].weight.data.fill_(1), network[0].bias.data.fill_(-1)
    >>> segment_transitions(network, torch.tensor([[0.0], [3.0], [0.5]]), [7, 7, 7])
    array([1, 0, 1])
    """
    labels = as_array(labels)
    first, second = same_class_pairs(labels, segments, seed)
    if len(inputs) != len(labels):
        raise InputError(f"there are {len(inputs)} inputs and {len(labels)} labels. Give one label for each input.")
    run = _Run(network, inputs[first], inputs[second], layers, forward, batch_size)
    cells = np.zeros(len(first), np.int64)
    for numbers, _, _ in _changes(run):
        np.add.at(cells, numbers, 1)
    return cells - 1


def same_class_pairs(labels: Any, pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Different pairs of two samples of one class, all equally likely: two int64, (pairs,), first < second.

    If there are at most ``pairs``, all are returned, in a fixed order.

    >>> same_class_pairs([5, 8, 5, 5], 10)
    (array([0, 0, 2]), array([2, 3, 3]))
    """
    labels = as_array(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"labels are {labels.dtype} of shape {labels.shape}. Give one whole number per sample.")
    pairs, seed = whole_number("the number of pairs", pairs, least=1), whole_number("seed", seed)
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    ends = np.cumsum(sizes * (sizes - 1) // 2)  # pairs are numbered class by class, by the second and then the first
    if len(labels) == 0 or ends[-1] == 0:
        raise InputError(f"no two of the {len(labels)} samples are of one class, so there is no pair to draw.")
    total = int(ends[-1])
    numbers = np.arange(total) if pairs >= total else np.random.default_rng(seed).choice(total, pairs, replace=False)
    classes = np.searchsorted(ends, numbers, side="right")
    within = numbers - (ends - sizes * (sizes - 1) // 2)[classes]
    second = ((1 + np.sqrt(1 + 8 * within.astype(np.float64))) / 2).astype(np.int64)
    second -= within < second * (second - 1) // 2  # where the square root was rounded up
    first = within - second * (second - 1) // 2
    return order[starts[classes] + first], order[starts[classes] + second]


class _Run:
    """Some segments, and what is run along them: the network's program, or else its own forward pass as one step."""

    def __init__(
        self,
        network: nn.Module,
        starts: Tensor,
        ends: Tensor,
        layers: str | Sequence[str],
        forward: Forward | None,
        batch_size: int,
    ) -> None:
        self.starts, self.ends = float64_points(starts, "the starts"), float64_points(ends, "the ends")
        if self.starts.shape != self.ends.shape or self.starts.ndim < 2 or len(self.starts) == 0:
            raise InputError(
                f"the starts have the shape {tuple(self.starts.shape)}, the ends {tuple(self.ends.shape)}. "
                "Give tensors (segments, ...), with one start and one end for each segment, at least one."
            )
        if not bool(torch.isfinite(self.starts).all() and torch.isfinite(self.ends).all()):
            raise NonFiniteError("a segment starts or ends at a point that is not finite. Check the inputs.")
        copy, example = float64_copy(network), self.starts[[0, 0, 0]]
        with forward_errors(network, example):
            self.layers = capture(copy, example, layers=layers, forward=forward, batch_size=batch_size).layers
        chosen = {layer.name for layer in self.layers}
        self.source: Program | _ForwardPass = _ForwardPass(copy, example, chosen, forward, batch_size)
        if forward is None:
            with suppress(InputError):
                self.source = read_copy(copy, torch.stack([self.starts[0], self.ends[0]]))
        self.chosen = [k for k, name in enumerate(self.source.layers) if name in chosen and self.source.has_bits[k]]
        self.most = max(STORED // (8 * sum(self.source.widths)), 16)  # points at a time


class _ForwardPass:
    """A network as a program of one step, which gives the inputs of all bends; where they are not linear it raises."""

    def __init__(
        self, network: nn.Module, example: Tensor, chosen: set[str], forward: Forward | None, batch_size: int
    ) -> None:
        self.network, self.batch_size = network, batch_size
        self.forward = forward
        self.relus = ReluCalls(network)
        self.evaluation = untouched(network)
        self.device = self.evaluation.device
        calls = self._calls(example)
        self.operations = [(call.layer, call.operation) for call in calls]
        # What has no row a point does not depend on the input; what is behind the last chosen layer changes no bit.
        last = max(k for k, call in enumerate(calls) if call.layer in chosen)
        self.used = [k for k, call in enumerate(calls[: last + 1]) if call.inputs.ndim and len(call.inputs) == 3]
        self.bends = [calls[k].bend for k in self.used]
        self.layers = [calls[k].name for k in self.used]
        self.has_bits = [calls[k].layer is not None for k in self.used]
        self.widths = [calls[k].inputs[0].numel() for k in self.used]

    def bend(self, at: int) -> Bend:
        return self.bends[at]

    def run(self, points: Tensor, *, to_the_end: bool) -> Generator[tuple[int, Tensor, Tensor, None], Between | None]:
        """As `Program.run`, for points of which two by two are the ends of segments."""
        inputs = self._inputs(points)
        has_next = torch.tensor([True, False], device=self.device).repeat(len(points) // 2)
        for at, bend in enumerate(self.bends):
            state = bend.state(inputs[at])
            while (between := (yield at, inputs[at], state, None)) is not None:
                added = self._inputs(between.on_lines(points))
                self._check_straight(at, between, inputs[at], added[at])
                state = between.added_to(state, bend.state(added[at]))
                points = between.added_to(points)
                has_next = between.added_to(has_next, torch.ones(1, dtype=torch.bool, device=self.device))
                inputs = [between.added_to(one, more) for one, more in zip(inputs, added, strict=True)]
        for left in has_next.nonzero()[:, 0].split(self.batch_size):
            middle = Between(left, torch.full_like(left, 0.5, dtype=torch.float64))
            for at, added in enumerate(self._inputs(middle.on_lines(points))):
                self._check_straight(at, middle, inputs[at], added)

    def _inputs(self, points: Tensor) -> list[Tensor]:
        """The inputs of all bends at points."""
        batches = []
        for part in points.split(self.batch_size):
            calls = self._calls(part)
            if [(call.layer, call.operation) for call in calls] != self.operations:
                raise InputError(
                    f"{type(self.network).__name__} calls other operations on segments than at the start of the "
                    "first. Segments need a forward pass that takes the same path for every input."
                )
            batches.append([calls[k].inputs for k in self.used])
        return [torch.cat(parts) for parts in zip(*batches, strict=True)]

    def _calls(self, points: Tensor) -> list[BendCall]:
        points = points.to(self.device)
        with self.evaluation:
            return bend_calls(self.relus, lambda: run(self.network, points, self.forward))[0]

    def _check_straight(self, at: int, between: Between, values: Tensor, added: Tensor) -> None:
        off, scale = (between.on_lines(values) - added).abs().max(), values.abs().max()
        if not off <= STRAIGHT * scale:
            raise InputError(
                f"the input of {self.layers[at]} is off a straight line between two borders, by {off / scale:.1e} of "
                "its largest value. What comes before it must be piecewise linear: not GELU, tanh, softmax or "
                "LayerNorm, no batch statistics, no ReLU written as a product or torch.where. Choose layers before "
                "such an operation."
            )


def _changes(run: _Run) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The stretches of one code, in order: their segments, the t where they begin, the words of their codes."""
    before: tuple[Any, Any] = (-1, None)
    for segments, t, words in _stretches(run):
        new = np.ones(len(t), bool)
        new[1:] = (segments[1:] != segments[:-1]) | (words[1:] != words[:-1]).any(axis=1)
        new[0] = segments[0] != before[0] or (words[0] != before[1]).any()
        before = segments[-1], words[-1]
        yield segments[new], t[new], words[new]


def _stretches(run: _Run) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The stretches without a border, as in `_changes`, of as many segments at a time as can be stored."""
    work = [(np.arange(len(run.starts)), 0.0, 1.0)]
    size = 1
    while work:
        group, low, high = work.pop()
        if len(group) > size:
            work.append((group[size:], low, high))
            group = group[:size]
        stretches = _stretches_of(run, group, low, high)
        if stretches is not None:
            yield stretches
            size = max(1, int(0.7 * run.most / len(stretches[0]) * len(group)))
        elif len(group) > 1:
            size = len(group) // 2
            work.append((group, low, high))
        else:
            middle = (low + high) / 2
            work += [(group, middle, high), (group, low, middle)]


def _stretches_of(
    run: _Run, group: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The stretches of some segments between low and high; None if they are more than can be stored.

    Layer by layer, points are added where the layer bends. Between two that follow each other lies a stretch.
    """
    source, bits = run.source, list[Tensor]()  # of each chosen layer so far
    along = torch.cartesian_prod(torch.from_numpy(group).double(), torch.tensor([low, high]).double()).to(source.device)
    ends = [torch.lerp(run.starts[group], run.ends[group], t) for t in (low, high)]
    layers = source.run(torch.stack(ends, 1).flatten(0, 1).to(source.device), to_the_end=False)
    for k, x, state, _ in layers:
        if k > run.chosen[-1]:
            break
        scale = float(torch.linalg.vector_norm(x, torch.inf))
        if not np.isfinite(scale):
            raise NonFiniteError(f"the input of {source.layers[k]} is not finite. Check the weights and the inputs.")
        while len((between := _borders(source.bend(k), x, state, along, ROUNDING * scale)).left):
            if len(along) + len(between.left) > run.most and (len(group) > 1 or high - low > 2 * APART * run.most):
                return None
            _, x, state, _ = layers.send(between)
            along = between.added_to(along)
            bits = [between.added_to(part, part[between.left]) for part in bits]
        if k in run.chosen:
            middle = flat(x[:-1] + x[1:]) / 2 > ROUNDING * scale
            bits.append(torch.cat([middle, middle[:1]]))
    begin = (along[1:, 0] == along[:-1, 0]).nonzero()[:, 0]
    segments, t = along[begin].cpu().numpy().T
    return segments.astype(np.int64), t, np.hstack([pack(part[begin].cpu().numpy()).words for part in bits])


def _borders(bend: Bend, x: Tensor, state: Tensor, along: Tensor, tiny: float) -> Between:
    """Where a state ends before the next point of its segment; ``along`` holds the points' segments and their t.

    Of each neuron only the first border is given: beyond, another state may begin.
    """
    state = flat(state)
    same_segment = along[1:, 0] == along[:-1, 0]
    left, neuron = ((state[:-1] != state[1:]) & same_segment[:, None]).nonzero(as_tuple=True)
    before, after = (bend.rows_of(x, points, neuron, state[left, neuron]) for points in (left, left + 1))
    share = (before / (before - after)).where((before > tiny) & (after < -tiny), torch.inf).amin(1)
    order = share.argsort()[: int((share < 1).sum())]
    order = order[left[order].argsort(stable=True)]
    between = Between(left[order], share[order])
    t = along[:, 1]
    at, start, stop = between.on_lines(t), t[between.left], t[between.left + 1]
    is_first = torch.diff(between.left, prepend=between.left.new_tensor([-1])) > 0
    apart = (at - torch.where(is_first, start, at.roll(1)) > APART) & (stop - at > APART)
    return Between(between.left[apart], between.share[apart])  # of several borders at one place one is enough
