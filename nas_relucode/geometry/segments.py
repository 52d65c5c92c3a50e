"""The cells crossed along a straight segment between two inputs, solved for and not sampled.

After Sotoudeh and Thakur, "Computing Linear Restrictions of Neural Networks" (NeurIPS 2019): between two points with no
border of the earlier bends between them, the input of the next bend is linear, so its borders can be solved for.

The network's own forward pass is run at the borders. Between two bends it may thus hold anything that is linear along
a segment, also what `read_program` cannot read: recurrent networks, writes into memory, FFT, TorchScript.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.bits import Codes, pack
from nas_relucode.codes.capturing import capture
from nas_relucode.codes.network_state import untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.codes.relus import ReluCalls
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.geometry.bends import Bend, Levels, Maxima
from nas_relucode.geometry.recording import BendCall, bend_calls, float64_copy

APART = 2.0**-40  # of the segment: borders closer than this count as one
ROUNDING = 2.0**-40  # of the largest value of a bend's input: what is smaller counts as 0
STRAIGHT = 2.0**-26  # of the same: by how much the input may be off a straight line
STORED = 2**27  # bytes of inputs that are kept at a time


@dataclass(frozen=True)
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
    border that is touched and not crossed is no transition, nor is one at t = 0 or 1. If all layers are chosen and
    nothing but ReLUs bends, a cell is met once (it is convex); otherwise it may be met again.

    Each border of a bend up to the last chosen layer, chosen or not, costs two forward passes in float64: a small
    network's segments take milliseconds each, a deep convolutional network's minutes.

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
    first, second = same_class_pairs(labels, segments, seed)
    if len(inputs) != len(np.asarray(labels)):
        raise InputError(
            f"there are {len(inputs)} inputs and {len(np.asarray(labels))} labels. Give one label for each input."
        )
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
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"labels are {labels.dtype} of shape {labels.shape}. Give one whole number per sample.")
    if pairs < 1:
        raise InputError(f"{pairs} pairs are too few. Give a whole number of at least 1.")
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
    """A float64 copy of a network, and its bends' inputs at points of some segments."""

    def __init__(
        self,
        network: nn.Module,
        starts: Tensor,
        ends: Tensor,
        layers: str | Sequence[str],
        forward: Forward | None,
        batch_size: int,
    ) -> None:
        self.starts, self.ends = (torch.as_tensor(points).detach().double() for points in (starts, ends))
        if self.starts.shape != self.ends.shape or self.starts.ndim == 0 or len(self.starts) == 0:
            raise InputError(
                f"the starts have the shape {tuple(self.starts.shape)}, the ends {tuple(self.ends.shape)}. "
                "Give one start and one end for each segment, at least one."
            )
        if not bool(torch.isfinite(self.starts).all() and torch.isfinite(self.ends).all()):
            raise NonFiniteError("a segment starts or ends at a point that is not finite. Check the inputs.")
        self.network = float64_copy(network)
        self.forward: Forward = forward or (lambda network, inputs: network(inputs))
        self.batch_size = batch_size
        self.relus = ReluCalls(self.network)
        self.evaluation = untouched(self.network)
        example = self.starts[[0, 0, 0]]
        self.layers = capture(self.network, example, layers=layers, forward=forward, batch_size=batch_size).layers
        chosen = {layer.name for layer in self.layers}
        calls = self._calls(example)
        self.operations = [(call.layer, call.operation) for call in calls]
        # What has no row a point does not depend on the input; what is behind the last chosen layer changes no bit.
        last = max(k for k, call in enumerate(calls) if call.layer in chosen)
        self.used = [k for k, call in enumerate(calls) if call.inputs.ndim and len(call.inputs) == 3 and k <= last]
        self.bends = [calls[k] for k in self.used]
        self.chosen = [k for k, call in enumerate(self.bends) if call.layer in chosen]
        self.most = max(STORED * 3 // sum(8 * call.inputs.numel() for call in self.bends), 16)  # points kept at a time

    def at(self, segments: np.ndarray, t: np.ndarray) -> list[_Inputs]:
        """The inputs of the bends at the points t of some segments."""
        batches: list[list[_Inputs]] = []
        for start in range(0, len(t), self.batch_size):
            stop = start + self.batch_size
            rows = torch.from_numpy(segments[start:stop])
            share = torch.from_numpy(t[start:stop]).reshape(-1, *[1] * (self.starts.ndim - 1))
            calls = self._calls((1 - share) * self.starts[rows] + share * self.ends[rows])
            if [(call.layer, call.operation) for call in calls] != self.operations:
                raise InputError(
                    f"{type(self.network).__name__} calls other operations on segment {rows[0]} than at the start of "
                    "segment 0. Segments need a forward pass that takes the same path for every input."
                )
            batches.append([_Inputs.of_call(calls[k]) for k in self.used])
        return [_Inputs.joined(parts) for parts in zip(*batches, strict=True)]

    def _calls(self, points: Tensor) -> list[BendCall]:
        points = points.to(self.evaluation.device)
        with self.evaluation:
            return bend_calls(self.relus, lambda: self.forward(self.network, points))[0]


@dataclass(frozen=True)
class _Inputs:
    """The inputs of one bend."""

    values: np.ndarray  # float64, (points, values)
    winners: np.ndarray | None  # int64, (points, windows): of a maximum, which of a point's values are the largest

    @classmethod
    def of_call(cls, call: BendCall) -> _Inputs:
        values = call.inputs.reshape(len(call.inputs), -1).cpu().numpy()
        if not np.isfinite(values).all():
            raise NonFiniteError(f"the input of {call.name} is not finite. Check the weights and the inputs.")
        winners = call.bend.winners(call.inputs).cpu().numpy() if isinstance(call.bend, Maxima) else None
        return cls(values, winners)

    @classmethod
    def joined(cls, parts: Sequence[_Inputs]) -> _Inputs:
        winners = [part.winners for part in parts if part.winners is not None]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate(winners) if winners else None)

    def __getitem__(self, points: Any) -> _Inputs:
        return _Inputs(self.values[points], None if self.winners is None else self.winners[points])


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
        borders = _borders(run, group, low, high)
        if borders is not None:
            yield _codes(run, *borders)
            size = max(1, int(0.7 * run.most / len(borders[0]) * len(group)))
        elif len(group) > 1:
            size = len(group) // 2
            work.append((group, low, high))
        else:
            middle = (low + high) / 2
            work += [(group, middle, high), (group, low, middle)]


def _borders(
    run: _Run, group: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, list[_Inputs]] | None:
    """The points where something bends between low and high, these two included: segments, t, inputs there.

    None if they are more than can be stored.
    """
    segments, t = np.repeat(group, 2), np.tile([low, high], len(group))
    parts = [[inputs] for inputs in run.at(segments, t)]
    order = np.arange(len(t))
    for k, call in enumerate(run.bends):
        again = True
        while again:
            inputs = _Inputs.joined(parts[k])[order]
            same_segment = segments[order[1:]] == segments[order[:-1]]
            left, share = _between(call.bend, inputs, same_segment)
            start, stop = t[order[left]], t[order[left + 1]]
            at = start + share * (stop - start)
            # Of several borders at one place one is enough.
            by_time = np.lexsort([at, left])
            left, start, stop, at = left[by_time], start[by_time], stop[by_time], at[by_time]
            first = np.diff(left, prepend=-1) > 0
            apart = np.diff(at, prepend=0) > APART
            kept = np.where(first, at - start > APART, apart) & (stop - at > APART)
            left, start, stop, at = left[kept], start[kept], stop[kept], at[kept]
            if len(at) == 0:
                break
            if len(t) + len(at) > run.most and (len(group) > 1 or high - low > 2 * APART * run.most):
                return None
            new = run.at(segments[order[left]], at)
            share = ((at - start) / (stop - start))[:, None]
            line = (1 - share) * inputs.values[left] + share * inputs.values[left + 1]
            _check_straight(call, line, new[k].values, np.abs(inputs.values).max())
            for part, more in zip(parts, new, strict=True):
                part.append(more)
            segments, t = np.append(segments, segments[order[left]]), np.append(t, at)
            order = np.lexsort([t, segments])
            again = inputs.winners is not None  # a third value may be the largest where two are equal
    return segments[order], t[order], [_Inputs.joined(part)[order] for part in parts]


def _between(bend: Bend, inputs: _Inputs, same_segment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Borders strictly between a point and the next of its segment: the point's number, the share of the way."""
    values, winners = inputs.values, inputs.winners
    tiny = ROUNDING * np.abs(values).max(initial=0)
    borders = []
    for level in bend.pieces.levels if isinstance(bend, Levels) else ():
        below, above = values - level < -tiny, values - level > tiny
        i, j = np.nonzero((below[:-1] & above[1:] | above[:-1] & below[1:]) & same_segment[:, None])
        borders.append((i, values[i, j] - level, values[i + 1, j] - level))
    if winners is not None:
        i, j = np.nonzero((winners[:-1] != winners[1:]) & same_segment[:, None])
        one, other = winners[i, j], winners[i + 1, j]
        before, after = values[i, one] - values[i, other], values[i + 1, one] - values[i + 1, other]
        crossed = (before > tiny) & (after < -tiny)
        borders.append((i[crossed], before[crossed], after[crossed]))
    left, before, after = (np.concatenate(parts) for parts in zip(*borders, strict=True))
    return left, before / (before - after)


def _codes(
    run: _Run, segments: np.ndarray, t: np.ndarray, inputs: list[_Inputs]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes between neighbouring borders, read in the middle, where every input is checked to be the mean."""
    left = np.flatnonzero(segments[1:] == segments[:-1])
    scales = [np.abs(at_borders.values).max(initial=0) for at_borders in inputs]
    words = []
    for start in range(0, len(left), run.batch_size):
        rows = left[start : start + run.batch_size]
        middle = run.at(segments[rows], (t[rows] + t[rows + 1]) / 2)
        for call, at_borders, between, scale in zip(run.bends, inputs, middle, scales, strict=True):
            mean = (at_borders.values[rows] + at_borders.values[rows + 1]) / 2
            _check_straight(call, mean, between.values, scale)
        words.append(np.hstack([pack(middle[k].values > ROUNDING * scales[k]).words for k in run.chosen]))
    return segments[left], t[left], np.concatenate(words)


def _check_straight(call: BendCall, line: np.ndarray, values: np.ndarray, scale: float) -> None:
    off = np.abs(line - values).max(initial=0)
    if off > STRAIGHT * scale:
        raise InputError(
            f"the input of {call.name} is off a straight line between two borders, by {off / scale:.1e} of its largest "
            "value. What comes before it must be piecewise linear: not GELU, tanh, softmax or LayerNorm, no batch "
            "statistics, no ReLU written as a product or torch.where. Choose layers before such an operation."
        )
