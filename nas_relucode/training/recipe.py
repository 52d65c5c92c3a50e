"""The training recipe of B.1 (everything except a candidate's learning rate and seed)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError, finite_number, unknown, whole_number

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULES = ("constant", "cosine")
COMPILE = (False, True, "reduce-overhead")
LOSSES = ("cross_entropy", "sigmoid", "mse")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How every candidate of a study is trained. The defaults are the paper's.

    The loss ``cross_entropy`` needs labels. ``sigmoid`` and ``mse`` compare a network's outputs with its inputs, which
    it reconstructs: the binary cross-entropy of the outputs' sigmoid, and the squared error, both as means over
    samples and pixels.

    Three options are for speed, most of all on a GPU, and change results by rounding only. ``mixed_precision`` runs
    the training steps in bfloat16 by autocast; codes are always taken in float32. ``compile`` runs the network through
    torch.compile; ``"reduce-overhead"`` also records its kernels as CUDA graphs, which helps small networks.
    ``channels_last`` keeps the convolutions' weights in the memory layout that is fastest for large ones; it applies
    to `train` and to images (samples, channels, height, width).
    """

    epochs: int = 20  # passes over the training images
    batch_size: int = 256  # images in one step
    momentum: float = 0.0  # of SGD
    weight_decay: float = 0.0  # of SGD
    schedule: str = "constant"  # or "cosine": from the learning rate down to 0 over all steps
    mixed_precision: bool = False  # steps in bfloat16 where autocast allows; codes are always taken in float32
    compile: bool | str = False  # through torch.compile: true, or "reduce-overhead" (CUDA graphs)
    loss: str = "cross_entropy"  # or "sigmoid", "mse", for autoencoders
    channels_last: bool = True  # the memory layout that is fastest for large convolutions

    def __post_init__(self) -> None:
        for name, low in {"epochs": 0, "batch_size": 1}.items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least=low))
        finite_number("momentum", self.momentum, most=1, below=True)
        finite_number("weight_decay", self.weight_decay)
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.compile not in COMPILE:
            raise InputError(f"compile {self.compile!r} is unknown. Give true, false or 'reduce-overhead'.")
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)

    def rate(self, learning_rate: float, step: int, steps: int) -> float:
        """The learning rate of step number ``step``, counted from 0, of ``steps``.

        >>> [round(Recipe(schedule="cosine").rate(0.1, step, 4), 6) for step in range(4)]
        [0.1, 0.085355, 0.05, 0.014645]
        """
        if self.schedule == "constant":
            return learning_rate
        return learning_rate * (1 + math.cos(math.pi * step / steps)) / 2

    def as_dict(self) -> dict[str, Any]:
        """The recipe as plain values, for checkpoints; earlier versions wrote no ``channels_last``, which was true.

        >>> "channels_last" in Recipe().as_dict(), Recipe(channels_last=False).as_dict()["channels_last"]
        (False, False)
        """
        values = asdict(self)
        if self.channels_last:
            del values["channels_last"]
        return values

    def compiled(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``forward`` through torch.compile where the recipe asks for it, in the precision of the recipe.

        Outputs are float32 at least, so that losses are taken in it.
        """
        import torch  # takes seconds, and the settings of a study need none of it

        if self.compile:
            forward = torch.compile(forward, mode=self.compile if isinstance(self.compile, str) else None)
        if not self.mixed_precision:
            return forward

        def mixed(*arguments: Any) -> Tensor:
            with torch.autocast(arguments[-1].device.type, torch.bfloat16):
                return forward(*arguments).float()

        return mixed
