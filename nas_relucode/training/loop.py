"""Training one network by the recipe of B.1: mini-batch gradient descent on images that all lie on one device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nas_relucode.codes.network_state import check_network, run, untouched
from nas_relucode.errors import InputError, NonFiniteError, a_type, finite_number
from nas_relucode.training.data import Split
from nas_relucode.training.losses import batch_loss, epoch_loss
from nas_relucode.training.names import check_seed
from nas_relucode.training.recipe import Recipe

GATHERED_NUMBERS = 2**22  # numbers of the inputs that are put in the epoch's order in one copy, at most


@dataclass(frozen=True)
class Epoch:
    """What ``on_epoch`` receives. Epoch 0 is the network before its training; its loss is NaN."""

    number: int
    loss: float  # mean over the samples of the epoch, each under the weights that its batch met
    read_state: Callable[[], dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def state(self) -> dict[str, Any]:
        """All that `train` needs to resume after this epoch: copies of tensors on the CPU, and plain values.

        Raises InputError once the training has gone on, because the weights are then those of a later epoch.
        """
        if self.read_state is None:
            raise InputError("this epoch belongs to no training. Call state() of the epoch that on_epoch receives.")
        return self.read_state()


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`: means over the samples, NaN if there are none."""

    loss: float
    accuracy: float | None  # None if the loss is that of a reconstruction


def pick_device(device: str | None = None) -> torch.device:
    """``device``; if it is None: ``cuda`` if available, else ``mps``, else ``cpu``.

    Raises InputError for a device that cannot be used.
    """
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
    """Trains ``network`` in place with torch.optim.SGD and leaves it in training mode.

    ``data`` lies on the network's device. ``seed`` decides the order of the samples. ``on_epoch`` is called before the
    first epoch and after each; it may take codes of the network. ``on_batch`` receives the row numbers (batch,) of
    each batch before its step, while the network has the weights that the step starts from.

    ``resume`` is the ``state()`` of an epoch: the training goes on after it, and ``on_epoch`` is called from the next
    epoch on. The same seed gives the same weights on the same machine and number of threads, resumed or not; random
    layers, such as dropout, draw from torch's own random state and are not covered. ``recipe.epochs`` may be increased
    on resuming unless the schedule is cosine.

    Raises NonFiniteError after the epoch in which the loss or a weight stopped being finite, and InputError for a
    state of another network, of other data or of other settings.
    """
    check_training(data, recipe, learning_rate)
    check_network(network)
    check_seed(seed)
    if recipe.channels_last and data.inputs.ndim == 4:
        network.to(memory_format=torch.channels_last)
    training = _Training(network, len(data), learning_rate, recipe, seed)
    if resume is not None:
        training.resume(resume)
    elif on_epoch:
        on_epoch(Epoch(0, math.nan, training.state_reader()))
    forward = recipe.compiled(network)
    steps_per_epoch = math.ceil(len(data) / recipe.batch_size)
    while training.epoch < recipe.epochs:
        network.train()
        losses: list[Tensor] = []
        for rows, inputs, targets in batches(data, training.next_order(), recipe):
            if on_batch:
                on_batch(rows)
            loss = batch_loss(forward(inputs), targets, recipe.loss)
            loss.backward()
            step = training.epoch * steps_per_epoch + len(losses)
            training.step(recipe.rate(learning_rate, step, recipe.epochs * steps_per_epoch))
            losses.append(loss.detach())
        training.epoch += 1
        mean = float(epoch_loss(torch.stack(losses), len(data), recipe.batch_size))
        if not (math.isfinite(mean) and all(bool(p.isfinite().all()) for p in network.parameters())):
            raise NonFiniteError(
                f"loss or weights stopped being finite in epoch {training.epoch} "
                f"(loss {mean:g}, learning rate {learning_rate:g})"
            )
        if on_epoch:
            on_epoch(Epoch(training.epoch, mean, training.state_reader()))


def evaluate(network: nn.Module, data: Split, *, loss: str = "cross_entropy", batch_size: int = 512) -> Evaluation:
    """The mean loss and the accuracy of ``network`` on ``data``, in one pass in evaluation mode.

    The network's modes, buffers and gradients are left as they were.

    >>> evaluate(nn.Linear(2, 2), Split(torch.zeros(3, 2), None), loss="mse").accuracy is None
    True
    """
    check_split(data)
    recipe = Recipe(loss=loss, batch_size=batch_size)
    reconstructs = loss != "cross_entropy"
    targets = data.inputs if reconstructs else data.labels
    if targets is None:
        raise InputError(
            "there are no labels to evaluate by. Give some, or the loss of a reconstruction: sigmoid, mse."
        )
    if not len(data):
        return Evaluation(math.nan, None if reconstructs else math.nan)
    losses: list[Tensor] = []
    correct: list[Tensor] = []
    with untouched(network), torch.no_grad():
        for inputs, batch_targets in zip(data.inputs.split(batch_size), targets.split(batch_size), strict=True):
            outputs = run(network, inputs)
            losses.append(batch_loss(outputs, batch_targets, loss))
            if not reconstructs:
                correct.append((outputs.argmax(dim=1) == batch_targets).sum())
    mean = float(epoch_loss(torch.stack(losses), len(data), recipe.batch_size))
    return Evaluation(mean, None if reconstructs else int(torch.stack(correct).sum()) / len(data))


def accuracy(network: nn.Module, data: Split, *, batch_size: int = 512) -> float:
    """The fraction of the samples that are classified as labelled (see `evaluate`); NaN if there are none."""
    check_split(data)
    value = None if data.labels is None else evaluate(network, data, batch_size=batch_size).accuracy
    return math.nan if value is None else value


def check_training(data: Split, recipe: Recipe, learning_rate: float) -> None:
    """Raises InputError unless the data suit the recipe's loss and the learning rate is positive."""
    check_split(data)
    if not isinstance(recipe, Recipe):
        raise InputError(f"the recipe is {a_type(recipe)}. Give a Recipe.")
    finite_number("learning rate", learning_rate, above=True)
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


def check_split(data: object) -> None:
    """Raises InputError for data that are no Split."""
    if not isinstance(data, Split):
        raise InputError(f"the data are {a_type(data)}. Give a Split: Split(inputs, labels).")


def batches(data: Split, order: Tensor, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Row numbers, inputs and targets of each batch of one epoch; many batches are copied into their order at once.

    ``order`` is (samples,), or (networks, samples) for networks that each see an order of their own. The targets are
    the labels, or the inputs themselves if the recipe's loss is that of a reconstruction.
    """
    labels = data.labels if recipe.loss == "cross_entropy" else None
    size, axis = recipe.batch_size, order.ndim - 1
    numbers_per_batch = data.inputs[0].numel() * order[..., 0].numel() * size
    batches_at_once = max(1, GATHERED_NUMBERS // max(1, numbers_per_batch))
    for rows in order.to(data.inputs.device).split(size * batches_at_once, axis):
        inputs = _gather(data.inputs, rows)
        targets = inputs.clone() if labels is None else _gather(labels, rows)  # a forward pass may overwrite its inputs
        yield from zip(*(part.split(size, axis) for part in (rows, inputs, targets)), strict=True)


def sgd(weights: Sequence[Tensor], learning_rate: float, *, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """torch.optim.SGD, fused (one kernel for all weights) where that is possible. Weights without gradients stay.

    Raises InputError if there are no weights.
    """
    if not weights:
        raise InputError("the network has nothing to train. Give one with parameters that require gradients.")
    # The fused kernel runs over memory in order: it needs weights without gaps, whose gradients are laid out likewise.
    dense = all(weight.stride() == torch.empty_like(weight).stride() for weight in weights)
    fused = dense and weights[0].device.type in ("cpu", "cuda")
    return torch.optim.SGD(weights, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=fused)


def load_optimizer() -> None:
    """Lets torch import its compiler now, which takes seconds, and not while the time of a first training is taken."""
    sgd([nn.Parameter(torch.zeros(1))], 1.0, momentum=0.0, weight_decay=0.0)


def clear_gradients(weights: Sequence[Tensor]) -> None:
    """Like Optimizer.zero_grad, without its entry in torch's profiler: a twentieth of a small network's step."""
    for weight in weights:
        weight.grad = None


def _gather(values: Tensor, rows: Tensor) -> Tensor:
    """``values[rows]``; index_select takes a third of the time of indexing."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


class _Training:
    """What changes from epoch to epoch: the network, its optimizer and the generator of the samples' orders."""

    def __init__(self, network: nn.Module, samples: int, learning_rate: float, recipe: Recipe, seed: int) -> None:
        self.network = network
        self.weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = sgd(
            self.weights, float(learning_rate), momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        clear_gradients(self.weights)
        self.samples, self.generator = samples, torch.Generator().manual_seed(seed)
        self.epoch, self.epochs = 0, recipe.epochs
        # What decides the weights after an epoch; a training is resumed with the same.
        self.settings = recipe.as_dict() | {"learning_rate": learning_rate, "seed": seed, "samples": samples}
        for name in ("compile", "channels_last", *(["epochs"] if recipe.schedule == "constant" else [])):
            self.settings.pop(name, None)

    def next_order(self) -> Tensor:
        return torch.randperm(self.samples, generator=self.generator)

    def step(self, learning_rate: float) -> None:
        """One step down the gradients, which are cleared."""
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()
        clear_gradients(self.weights)

    def state_reader(self) -> Callable[[], dict[str, Any]]:
        """A function that reads the state after this epoch, and refuses to once the next one is over."""
        number = self.epoch

        def read_state() -> dict[str, Any]:
            if self.epoch != number:
                raise InputError(f"epoch {number} is over. Call its state() within on_epoch.")
            state = {
                "epoch": number,
                "settings": self.settings,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "order": self.generator.get_state(),
            }
            copied: dict[str, Any] = _copied(state)
            return copied

        return read_state

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes over a state. Raises InputError, and changes nothing, if it is not a state of this training."""
        if not isinstance(state, Mapping):
            raise InputError(f"the state to resume from is {a_type(state)}. Give that of Epoch.state().")
        self._check_settings(state)
        stored, current = state["network"], self.network.state_dict()
        differing = [name for name in {**stored, **current} if _shape(stored.get(name)) != _shape(current.get(name))]
        momenta, weights = _momenta(state), dict(enumerate(self.weights))
        differing += [f"momentum {n}" for n in momenta if _shape(momenta[n]) != _shape(weights.get(n))]
        if differing:
            raise InputError(
                f"the state to resume from is that of another network ({', '.join(differing[:3])} differ). "
                "Build the network as it was built then."
            )
        self.network.load_state_dict(stored)
        for number, momentum in momenta.items():  # in the layout of the weights, which the fused optimizer relies on
            weight = self.weights[number]
            self.optimizer.state[weight]["momentum_buffer"] = torch.empty_like(weight).copy_(momentum)
        self.generator.set_state(state["order"])
        self.epoch = state["epoch"]

    def _check_settings(self, state: Mapping[str, Any]) -> None:
        """Raises InputError unless the state is complete and was made with the settings of this training."""
        missing = {"epoch", "settings", "network", "optimizer", "order"} - set(state)
        if missing:
            raise InputError(
                f"the state to resume from has no {', '.join(sorted(missing))}. Give that of Epoch.state()."
            )
        stored, current = state["settings"], self.settings
        changed = [
            f"{name} {stored.get(name)!r}, not {current.get(name)!r}"
            for name in sorted({*stored, *current})
            if stored.get(name) != current.get(name)
        ]
        if changed:
            raise InputError(
                f"the state to resume from was made with {'; '.join(changed)}. Give the same, or start anew."
            )
        if state["epoch"] > self.epochs:
            raise InputError(
                f"the state is that of epoch {state['epoch']}, but the training has {self.epochs} epochs. "
                "Increase epochs."
            )


def _momenta(state: Mapping[str, Any]) -> dict[int, Tensor]:
    """The momentum of each trained weight by its number; weights that have taken no step yet have none."""
    entries = state["optimizer"]["state"].items()
    return {n: entry["momentum_buffer"] for n, entry in entries if entry.get("momentum_buffer") is not None}


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _copied(value: Any) -> Any:
    """Tensors copied to the CPU; mappings and sequences as plain dicts and lists."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value
