"""The indices after each epoch of any training loop, as a plain callback or as one for Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Unpack

import pandas as pd
from torch import nn

from nas_relucode.codes.reading import ReadingOptions
from nas_relucode.errors import InputError, whole_number
from nas_relucode.integrations.candidates import needed
from nas_relucode.scoring.scores import score
from nas_relucode.training.loop import Epoch


class EpochIndices:
    """A callback that scores a network while it is trained, and keeps the results in ``points``.

    It serves as the ``on_epoch`` of `train`, or is called in your own training loop, with the number of the epoch or
    without: then it counts from 0, which is the network before the training. ``data`` are read anew each time, so they
    may be anything that `score` accepts except an iterator: a tensor, a pair of inputs and labels, a Split, ImageData,
    a DataLoader (which should not shuffle or augment, so that curves are of the same samples). The network, its mode
    and torch's random state are left unchanged: the training is the same with and without the callback.

    ``network`` is None where a framework brings its own, as Lightning does. Epoch 0 is scored, and then each
    ``every``-th epoch. ``indices``, ``split`` and ``held_out`` are those of `score`, the options those of `Reading`.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    >>> _ = nn.init.ones_(network[0].weight)
    >>> record = EpochIndices(network, torch.tensor([[-1.0], [1.0], [2.0]]), indices=["cell_count"])
    >>> record()["joint"], record(5)["epoch"], len(record.points)
    ({'cell_count': 2.0}, 5, 2)
    """

    def __init__(
        self,
        network: nn.Module | None,
        data: Any,
        *,
        indices: Iterable[str] | None = ("cell_count", "largest_component_share", "dead_neuron_fraction"),
        every: int = 1,
        split: str | None = None,
        held_out: Any = None,
        **options: Unpack[ReadingOptions],
    ) -> None:
        every = whole_number("every", every, least=1)
        if hasattr(data, "__next__"):
            raise InputError("data is an iterator, which is empty after the first epoch. Give tensors or a DataLoader.")
        self.network, self.data, self.every = network, data, every
        chosen = indices if indices is None or isinstance(indices, str) else list(indices)
        self._score = partial(score, indices=chosen, split=split, held_out=held_out, **options)
        self._calls = 0
        self.points: list[dict[str, Any]] = []  # plain values for JSON, one point per epoch

    def __call__(self, epoch: Epoch | int | None = None) -> dict[str, Any] | None:
        """The new point: epoch, loss (of `train`, otherwise None) and `Score.as_dict`; None between points."""
        if self.network is None:
            raise InputError("there is no network to score. Give it as the first argument of EpochIndices.")
        number = epoch.number if isinstance(epoch, Epoch) else self._calls if epoch is None else epoch
        self._calls = number + 1
        if number % self.every:
            return None
        loss = epoch.loss if isinstance(epoch, Epoch) and epoch.loss == epoch.loss else None
        self.points.append({"epoch": number, "loss": loss, **self._score(self.network, self.data).as_dict()})
        return self.points[-1]

    def frame(self) -> pd.DataFrame:
        """One row per point and layer ("joint" too): epoch, layer, loss, accuracy, and one column per index.

        NaN if an index is undefined, or belongs to the whole network and the row to a layer.
        """
        rows = []
        for point in self.points:
            common = {"epoch": point["epoch"]}
            rest = {"loss": point["loss"], **_accuracy(point)}
            for layer, values in {"joint": point["joint"], **point["layers"]}.items():
                rows.append(common | {"layer": layer} | rest | values)
        frame = pd.DataFrame(rows)
        return frame.astype(dict.fromkeys(frame.columns.drop(["epoch", "layer"], errors="ignore"), float))


def _accuracy(point: dict[str, Any]) -> dict[str, Any]:
    """The accuracy of a point by its name: ``train_accuracy`` of a split, ``accuracy`` of samples given."""
    return {name: value for name, value in point.items() if name.endswith("accuracy")}


def lightning_callback(record: EpochIndices, *, network: Callable[[Any], nn.Module] | None = None) -> Any:
    """A `lightning.pytorch.Callback` that calls ``record`` before the training and after each training epoch.

    It scores the LightningModule, or the part of it that ``network(module)`` returns, and logs the joint indices and
    the accuracy as ``relucode/NAME``, a metric for loggers, EarlyStopping and ModelCheckpoint. If several processes
    train, the first one scores and logs.

    Raises InputError if Lightning is not installed: it comes with the extra ``lightning``. ``pytorch_lightning`` is
    used if only it is installed.
    """
    base = needed("lightning.pytorch", "pytorch_lightning", extra="lightning").Callback

    class EpochIndicesCallback(base):  # type: ignore[misc, valid-type, unused-ignore]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:  # otherwise a training is resumed
                self._record(trainer, pl_module, 0)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            point = self._record(trainer, pl_module, trainer.current_epoch + 1)
            if point is not None:
                values = {**_accuracy(point), **point["joint"]}
                metrics = {f"relucode/{name}": value for name, value in values.items() if value is not None}
                pl_module.log_dict(metrics, rank_zero_only=True)

        def _record(self, trainer: Any, pl_module: Any, epoch: int) -> dict[str, Any] | None:
            if not trainer.is_global_zero:
                return None
            record.network = pl_module if network is None else network(pl_module)
            return record(epoch)

        def state_dict(self) -> dict[str, Any]:
            return {"points": record.points}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            record.points[:] = state_dict["points"]

    return EpochIndicesCallback()
