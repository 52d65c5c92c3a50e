"""How codes are read off a network: the options that every function shares which reads codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict

from nas_relucode.errors import InputError, unknown, whole_number

if TYPE_CHECKING:
    from torch import nn

Forward = Callable[["nn.Module", Any], Any]  # network, batch -> output

MODES = ("eval", "train")
MAPS = ("pixel", "channel", "pooled")
PRESETS = ("paper", "released_code")  # a bit is set above 0, or from 1 on, which is int(activation) > 0
SMOOTH = ("gelu", "silu", "elu", "celu", "mish", "hardswish", "softplus", "tanh", "sigmoid", "hardsigmoid")


class ReadingOptions(TypedDict, total=False):
    """The keyword arguments of `capture`, `code_space`, `score` and all others that read codes; see `Reading`."""

    layers: str | Sequence[str]
    mode: str
    preset: str
    maps: str
    also: str | Sequence[str]
    batch_size: int
    forward: Forward | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How codes are read off a network. A single name for ``layers`` or ``also`` stands for a tuple of one.

    ``layers``: names, prefixes (``"classifier"`` means it and everything below it), globs (``"layer?.*"``), or

    - ``"all"``;
    - ``"fc"``: layers whose activation is one vector per sample;
    - ``"head"``: the module called head; if there is none, the ``"fc"`` layers after the last other layer.

    A name that no layer has is left out, since networks of one study may lack it; if none is left, that is an error.

    ``mode``: ``"eval"`` for trained networks. ``"train"``, for scores at initialisation, lets normalisation layers use
    the statistics of the batch, so that a sample's code depends on its batch; dropout, stochastic depth and auxiliary
    heads stay in evaluation mode, so that codes have no noise.

    ``preset``: ``"paper"`` sets a bit where the activation is positive, ``"released_code"`` where it is at least 1, as
    the code released with the paper does by rounding it down to a whole number.

    ``maps``: what counts as one neuron of a convolution, whose activation is (channels, height, width): ``"pixel"``
    each number; ``"channel"`` a channel, active if any of its pixels is; ``"pooled"`` a block of 2 x 2 pixels, active
    if any of them is (fewer pixels at the edge of an odd size).

    ``also``: smooth activations to read as well, by the sign of their inputs; names from ``SMOOTH``. They
    have no linear cells, so statements about cells do not hold for their layers, which are labelled.

    ``batch_size``: samples per forward pass, unless the data are batches already.

    ``forward``, an option of the functions only: ``forward(network, batch)`` is called instead of ``network(batch)``,
    with the batch as it came, labels among it.

    The first time that a network is read it runs once more, on two or three copies of a sample, to see that each sample
    has a row of its own, and the same one each time.

    Raises InputError for values other than these. An unknown option is a TypeError, as in any call.
    """

    layers: tuple[str, ...] = ("all",)  # names, prefixes or globs of layers, or "all", "fc", "head"
    mode: str = "eval"  # or "train": batch statistics, for scores at initialisation
    preset: str = "paper"  # a bit is 1 where the activation is positive; or "released_code": at least 1
    maps: str = "pixel"  # what one bit of a convolution stands for: "pixel", "channel" or "pooled" (2 x 2 pixels)
    also: tuple[str, ...] = ()  # smooth activations to read at 0 as well, e.g. ["gelu"]
    batch_size: int = 512  # samples in one forward pass

    def __post_init__(self) -> None:
        for name in ("layers", "also"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if not self.layers:
            raise InputError("layers is empty. Name at least one, or all.")
        for name, choices in {"mode": MODES, "preset": PRESETS, "maps": MAPS}.items():
            if getattr(self, name) not in choices:
                raise unknown("value", getattr(self, name), choices, name)
        for activation in self.also:
            if activation not in SMOOTH:
                raise unknown("smooth activation", activation, SMOOTH)
        object.__setattr__(self, "batch_size", whole_number("batch size", self.batch_size, least=1))

    @property
    def options(self) -> ReadingOptions:
        """The options as keyword arguments: ``capture(network, inputs, **reading.options)``."""
        return {field.name: getattr(self, field.name) for field in fields(Reading)}  # type: ignore[return-value]

    @property
    def decisive(self) -> dict[str, Any]:
        """The options that decide the codes, as values for JSON: all except the batch size."""
        values = {name: asdict(self)[name] for name in self.options if name != "batch_size"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def read_options(options: ReadingOptions) -> tuple[Reading, Forward | None]:
    """The keyword arguments of a function that reads codes, checked."""
    values: dict[str, Any] = dict(options)
    forward = values.pop("forward", None)
    if forward is not None and not callable(forward):
        raise InputError(f"forward is {forward!r}. Give a function of the network and a batch.")
    known = {field.name for field in fields(Reading)}
    for name in values:
        if name not in known:  # a TypeError, as of any call, but one that names no class of ours
            raise TypeError(str(unknown("option", name, ReadingOptions.__annotations__)))
    return Reading(**values), forward


def _names(option: str, names: Any) -> tuple[str, ...]:
    several = (names,) if isinstance(names, str) or not hasattr(names, "__iter__") else tuple(names)
    if not all(isinstance(name, str) for name in several):
        raise InputError(f"{option} is {names!r}. Give a name or a list of names.")
    return several
