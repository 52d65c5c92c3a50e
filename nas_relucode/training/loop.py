"""The recipe of B.1: softmax loss, plain gradient descent, batch 256, seed 1234; a callback after each epoch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.codes.network_state import untouched
from nas_relucode.errors import InputError, NonFiniteError
from nas_relucode.training.data import Split
from nas_relucode.training.descent import Descent
from nas_relucode.training.perceptrons import by_products, written_out
from nas_relucode.training.products import quick_products
from nas_relucode.training.recipe import Recipe as Recipe
from nas_relucode.training.recipe import mean_loss, mean_of, outputs_of

GATHERED = 2**22  # numbers: so many of the inputs are put in the epoch's order at once


@dataclass(frozen=True)
class Epoch:
    """What the callback is told: after epoch 0 nothing has been trained yet, and the loss is NaN."""

    number: int
    loss: float  # mean over the samples of the epoch, taken while the weights move
    read: Callable[[], dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def state(self) -> dict[str, Any]:
        """All that `train` needs to go on from here (``resume``): copies of tensors on the CPU, and plain values.

        Raises InputError once the training has gone on, for the weights are those of a later epoch then.
        """
        if self.read is None:
            raise InputError("this epoch belongs to no training. Call state() of the epoch that on_epoch is given.")
        return self.read()


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, as means over the samples; NaN where there are none."""

    loss: float
    accuracy: float | None  # None where the loss is that of a reconstruction


def pick_device(device: str | None = None) -> torch.device:
    """``device``, or where there is none: ``cuda`` if there is one, else ``mps``, else ``cpu``."""
    if device is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used ({reason}). Give cpu, cuda, cuda:1 or mps.") from error
    return torch.device(device)


def train(
    network: nn.Module,
    data: Split,
    *,
    learning_rate: float,
    recipe: Recipe,
    seed: int = 1234,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_batch: Callable[[Tensor], None] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> None:
    """Trains ``network`` in place on images that lie, all of them, on its device; leaves it in training mode.

    ``seed`` decides the order of the samples. ``on_epoch`` is called before the first epoch and after each; it may
    take codes of the network. ``on_batch`` is told the row numbers (batch,) before each step, while the weights are
    those that the step starts from. The same seed gives the same weights on the same machine and number of threads,
    and so does a run that goes on from the ``state()`` of an epoch (``resume``), which is not told to ``on_epoch``
    again; random layers, such as dropout, draw from torch's own random state and are not covered.
    Raises NonFiniteError after the epoch in which the loss stopped being finite, and InputError for a state of another
    network, of other data or of other settings; more epochs than before are none, but for the cosine.
    """
    check_training(data, recipe, learning_rate)
    if data.inputs.ndim == 4:
        network.to(memory_format=torch.channels_last)
    steps = recipe.epochs * math.ceil(len(data) / recipe.batch_size)
    run = _Run(network, data, recipe, learning_rate, seed)
    if resume is not None:
        run.resume(resume)
    elif on_epoch:
        on_epoch(Epoch(0, math.nan, run.reader()))
    slopes = _slopes(network, data, recipe, run.descent.weights)
    step = run.epoch * math.ceil(len(data) / recipe.batch_size)
    while run.epoch < recipe.epochs:
        network.train()
        losses: list[Tensor] = []
        for rows, inputs, labels in batches(data, run.order(), recipe):
            if on_batch:
                on_batch(rows)
            loss, gradients = slopes(inputs, inputs if labels is None else labels)
            run.descent.step(gradients, recipe.rate(1.0, step, steps))
            losses.append(loss)
            step += 1
        run.epoch += 1
        mean = float(mean_loss(torch.stack(losses), len(data), recipe.batch_size))
        if not (math.isfinite(mean) and all(bool(p.isfinite().all()) for p in network.parameters())):
            raise NonFiniteError(
                f"loss or weights stopped being finite in epoch {run.epoch} "
                f"(loss {mean:g}, learning rate {learning_rate:g})"
            )
        if on_epoch:
            on_epoch(Epoch(run.epoch, mean, run.reader()))


def evaluate(network: nn.Module, data: Split, *, loss: str = "cross_entropy", batch_size: int = 512) -> Evaluation:
    """The mean loss and the accuracy of ``network``, which is left as it was, in one pass in evaluation mode.

    >>> evaluate(nn.Linear(2, 2), Split(torch.zeros(3, 2), None), loss="mse").accuracy is None
    True
    """
    recipe = Recipe(loss=loss, batch_size=batch_size)
    reconstructs = loss != "cross_entropy"
    if not reconstructs and data.labels is None:
        raise InputError(
            "there are no labels to evaluate by. Give some, or the loss of a reconstruction: sigmoid, mse."
        )
    if not len(data):
        return Evaluation(math.nan, None if reconstructs else math.nan)
    losses: list[Tensor] = []
    right: list[Tensor] = []
    targets = data.inputs if reconstructs else data.labels
    assert targets is not None
    with untouched(network), torch.no_grad():
        for inputs, wanted in zip(data.inputs.split(batch_size), targets.split(batch_size), strict=True):
            outputs = network(inputs)
            losses.append(mean_of(outputs, wanted, loss))
            if not reconstructs:
                right.append((outputs.argmax(dim=1) == wanted).sum())
    mean = float(mean_loss(torch.stack(losses), len(data), recipe.batch_size))
    return Evaluation(mean, None if reconstructs else int(torch.stack(right).sum()) / len(data))


def accuracy(network: nn.Module, data: Split, *, batch_size: int = 512) -> float:
    """The fraction of the samples that are classified as labelled, see `evaluate`; NaN if there are none."""
    found = None if data.labels is None else evaluate(network, data, batch_size=batch_size).accuracy
    return math.nan if found is None else found


def check_training(data: Split, recipe: Recipe, learning_rate: float) -> None:
    """Raises InputError unless there is something to train on by this loss, at a positive learning rate."""
    if not 0 < learning_rate < math.inf:
        raise InputError(f"learning rate {learning_rate!r} is out of range. Give a positive number, e.g. 0.01.")
    if recipe.loss == "cross_entropy" and (data.labels is None or not len(data)):
        raise InputError("there are no labelled samples to train on. Give at least one.")
    if not len(data):
        raise InputError("there are no samples to train on. Give at least one.")
    if recipe.loss == "sigmoid":
        low, high = (float(bound) for bound in data.inputs.aminmax())
        if low < 0 or high > 1:
            raise InputError(
                f"the loss sigmoid needs images from 0 to 1, but these lie in {low:g} .. {high:g}. "
                "Load them without normalise, or take the loss mse."
            )


def batches(data: Split, order: Tensor, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Rows, inputs and labels (None where the inputs are reconstructed) of each batch of one epoch.

    ``order`` is (samples,), or (networks, samples) for networks that each see an order of their own.
    """
    labels = data.labels if recipe.loss == "cross_entropy" else None
    size, axis = recipe.batch_size, order.ndim - 1
    numbers = data.inputs[0].numel() * order[..., 0].numel() * size
    fit = max(1, GATHERED // max(1, numbers))  # batches gathered in one go
    for rows in order.to(data.inputs.device).split(size * fit, axis):
        inputs = _rows(data.inputs, rows).split(size, axis)
        wanted = [None] * len(inputs) if labels is None else _rows(labels, rows).split(size, axis)
        yield from zip(rows.split(size, axis), inputs, wanted, strict=True)


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    """``values[rows]``, which index_select takes a third of the time for."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def _slopes(
    network: nn.Module, data: Split, recipe: Recipe, weights: Sequence[Tensor]
) -> Callable[[Tensor, Tensor], tuple[Tensor, Sequence[Tensor | None]]]:
    """The loss of a batch and its gradients: of a small network written out, else by autograd."""
    products = quick_products(network, recipe.batch_size)
    layers = written_out(network, data, recipe) if isinstance(products, contextlib.nullcontext) else None
    if layers:
        views = {name: value.detach().unsqueeze(0) for name, value in network.named_parameters()}

        def small(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Sequence[Tensor | None]]:
            means, gradients = by_products(layers, views, inputs, wanted, recipe.loss, own=False)
            return means[0], [gradients[name][0] for name in views]

        return small
    forward = torch.compile(network) if recipe.compile else network
    if recipe.compile or recipe.mixed_precision:
        products = contextlib.nullcontext()

    def any_network(inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Sequence[Tensor | None]]:
        with products:
            loss = mean_of(outputs_of(forward, inputs, recipe), wanted, recipe.loss)
        return loss.detach(), torch.autograd.grad(loss, weights, allow_unused=True)

    return any_network


class _Run:
    """What changes from epoch to epoch, so that it can be written down and gone on from."""

    def __init__(self, network: nn.Module, data: Split, recipe: Recipe, learning_rate: float, seed: int) -> None:
        self.network = network
        self.samples = len(data)
        self.epoch = 0
        self.epochs = recipe.epochs
        self.generator = torch.Generator().manual_seed(seed)
        self.settings = asdict(recipe) | {"learning_rate": learning_rate, "seed": seed, "samples": len(data)}
        del self.settings["compile"]
        if recipe.schedule == "constant":
            del self.settings["epochs"]
        self.descent = Descent(
            [p for p in network.parameters() if p.requires_grad],
            float(learning_rate),
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    def order(self) -> Tensor:
        return torch.randperm(self.samples, generator=self.generator)

    def reader(self) -> Callable[[], dict[str, Any]]:
        number = self.epoch

        def read() -> dict[str, Any]:
            if self.epoch != number:
                raise InputError(f"epoch {number} is over. Call its state() within on_epoch.")
            found = {
                "epoch": number,
                "settings": self.settings,
                "network": self.network.state_dict(),
                "velocities": self.descent.velocities,
                "order": self.generator.get_state(),
            }
            copied: dict[str, Any] = _copied(found)
            return copied

        return read

    def resume(self, state: Mapping[str, Any]) -> None:
        missing = {"epoch", "settings", "network", "velocities", "order"} - set(state)
        if missing:
            raise InputError(
                f"the state to resume from has no {', '.join(sorted(missing))}. Give that of Epoch.state()."
            )
        before = state["settings"]
        pairs = {name: (before.get(name), self.settings.get(name)) for name in sorted({*before, *self.settings})}
        other = [f"{name} {was!r}, not {now!r}" for name, (was, now) in pairs.items() if was != now]
        if other:
            raise InputError(
                f"the state to resume from was made with {'; '.join(other)}. Give the same, or start anew."
            )
        if state["epoch"] > self.epochs:
            raise InputError(
                f"the state is that of epoch {state['epoch']}, but {self.epochs} are wanted. Ask for more."
            )
        given, own = state["network"], self.network.state_dict()
        strange = [name for name in {**given, **own} if _shape(given.get(name)) != _shape(own.get(name))]
        if strange:
            raise InputError(
                f"the state to resume from is that of another network ({', '.join(strange[:3])} differ). "
                "Build the network as it was built then."
            )
        self.network.load_state_dict(given)
        for velocity, value in zip(self.descent.velocities, state["velocities"], strict=True):
            velocity.copy_(value)
        self.generator.set_state(state["order"])
        self.epoch = state["epoch"]


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _copied(value: Any) -> Any:
    """Tensors copied to the CPU, dicts and lists as plain ones."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value
