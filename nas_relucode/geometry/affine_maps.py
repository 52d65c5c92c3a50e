"""The affine map of each sample's cell, as the gradients of the class scores, and how scores run between samples."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_relucode.codes.network_state import device_of, run, untouched
from nas_relucode.codes.reading import Forward
from nas_relucode.errors import InputError

BATCH = 128  # samples whose gradients are taken at once


@dataclass(frozen=True)
class AffineMaps:
    """On the cell of each sample the class scores are ``weight @ x + bias``; what is known of ``weight`` there."""

    scores: np.ndarray  # float64, (samples, classes)
    norm: np.ndarray  # float64, (samples,): Frobenius norm of the weight
    decision: np.ndarray  # float64, (samples,): Euclidean distance to the decision border of the affine map, see below
    principal: np.ndarray  # float64, (samples,): the same along the first principal directions of the samples

    @property
    def predicted(self) -> np.ndarray:
        """int64, (samples,): the class of the largest score."""
        return np.asarray(self.scores.argmax(axis=1))


def affine_maps(
    network: nn.Module, inputs: Tensor, *, directions: int = 10, forward: Forward | None = None
) -> AffineMaps:
    """The affine maps of the cells in which the samples lie, (samples, ...), by one backward pass a class.

    ``decision`` is the least (f_c - f_k) / |w_c - w_k| over the classes k other than the predicted one, c: the distance
    at which the cell's own affine map would change its decision (d_D of Croce, Andriushchenko and Hein, AISTATS 2019,
    arXiv:1810.07481). ``principal`` has |P (w_c - w_k)| in the denominator, where P projects to the first
    ``directions`` principal directions of the inputs (Mouton et al., arXiv:2308.15466). A class whose gradient equals
    that of c is never reached: its distance is infinite.

    Raises InputError unless the outputs are rows of two or more numbers.
    """
    device = device_of(network)
    components = principal_directions(inputs, directions).to(device)
    parts = []
    evaluation = untouched(network)
    if evaluation.inference:  # autograd takes no weights that were made in inference mode
        with torch.inference_mode(False):
            network = copy.deepcopy(network)
        evaluation = untouched(network)
    with evaluation, torch.inference_mode(False), torch.enable_grad():
        for batch in inputs.split(BATCH):
            parts.append(_maps(network, batch.to(device).clone(), components.clone(), forward))
    columns = (torch.cat(column).double().cpu().numpy() for column in zip(*parts, strict=True))
    return AffineMaps(*columns)


def principal_directions(inputs: Tensor, directions: int) -> Tensor:
    """The first principal directions of samples (samples, ...) in which they vary, as rows: (directions, features)."""
    flat = inputs.flatten(1).double()
    centred = flat - flat.mean(dim=0)
    _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
    varying = sizes > sizes.max() * len(flat) * torch.finfo(flat.dtype).eps
    return rows[varying][:directions].to(inputs.dtype)


def _maps(network: nn.Module, batch: Tensor, components: Tensor, forward: Forward | None) -> tuple[Tensor, ...]:
    batch = batch.detach().requires_grad_()
    scores = run(network, batch, forward)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.shape[1] < 2:
        raise InputError("affine maps need class scores: rows of two or more numbers, one row a sample.")
    columns = [
        torch.autograd.grad(scores[:, k].sum(), batch, retain_graph=k + 1 < scores.shape[1])[0].flatten(1)
        for k in range(scores.shape[1])
    ]
    gradients, scores = torch.stack(columns, dim=1), scores.detach()  # (samples, classes, features)
    samples = torch.arange(len(batch), device=batch.device)
    predicted = scores.argmax(dim=1)
    lead = scores[samples, predicted][:, None] - scores
    apart = gradients[samples, predicted][:, None] - gradients
    norm = gradients.flatten(1).norm(dim=1)
    return scores, norm, _least(lead, apart, predicted), _least(lead, apart @ components.T, predicted)


def _least(lead: Tensor, apart: Tensor, predicted: Tensor) -> Tensor:
    """The least distance over the other classes, (samples,)."""
    size = apart.norm(dim=2)
    distances = torch.where(size > 0, lead / size, torch.inf)
    distances.scatter_(1, predicted[:, None], torch.inf)
    return distances.min(dim=1).values


def affine_deviations(
    network: nn.Module, starts: Tensor, ends: Tensor, *, points: int = 8, forward: Forward | None = None
) -> np.ndarray:
    """How far the scores leave the straight line between those of two samples, float64 (pairs,).

    At ``points`` evenly spaced points of each segment from ``starts`` to ``ends``, (pairs, ...) each: the root mean
    squared distance of the scores from the line between the scores of its ends. 0 where the network is affine on the
    segment. Source: Gamba et al., arXiv:2202.11749.
    """
    device = device_of(network)
    shares = torch.arange(1, points + 1, dtype=starts.dtype) / (points + 1)
    deviations = []
    with untouched(network):
        for first, last in zip(starts.split(BATCH), ends.split(BATCH), strict=True):
            first, last = first.to(device), last.to(device)
            at_ends = [run(network, end, forward).double() for end in (first, last)]
            squares = torch.zeros(len(first), dtype=torch.float64, device=device)
            for share in shares.tolist():
                scores = run(network, torch.lerp(first, last, share), forward).double()
                squares += (scores - torch.lerp(*at_ends, share)).square().flatten(1).sum(dim=1)
            deviations.append((squares / points).sqrt())
    return np.asarray(torch.cat(deviations).cpu().numpy())


def spread(samples: Any) -> float:
    """The root of the mean squared distance of samples, (samples, ...), to their mean.

    >>> spread(np.array([[0.0, 3.0], [0.0, -3.0]]))
    3.0
    """
    flat = torch.as_tensor(samples).flatten(1).double()
    return float((flat - flat.mean(dim=0)).square().sum(dim=1).mean().sqrt())
