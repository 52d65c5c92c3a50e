"""The network of a trial: built by a factory from the parameters of a search space, or by the user, define-by-run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import BaseTrial, FixedTrial
from torch import nn

from nas_relucode.errors import InputError, a_type
from nas_relucode.study.candidates import SEED, Candidate
from nas_relucode.study.search_space import LEARNING_RATE, SearchSpace, suggest_seed
from nas_relucode.study.settings import NetworkSettings
from nas_relucode.training.names import parse_head
from nas_relucode.training.networks import ImageShape, build_autoencoder, build_network, seeded

Factory = Callable[..., nn.Module]


class NetworkSource(Protocol):
    """Where the networks of a study's trials come from."""

    def begin(self, trial: BaseTrial, seeds: Sequence[int], seed: int | None) -> tuple[Candidate, nn.Module]:
        """The trial's candidate and its untrained network; its seed is ``seed``, or one of ``seeds``."""

    def build(self, candidate: Candidate) -> nn.Module:
        """The untrained network of a candidate."""

    def examples(self) -> list[Candidate]:
        """Candidates that show errors of the whole space before the first trial."""

    def key(self) -> list[Any]:
        """Plain values that identify the source of the networks, for checkpoints."""


@dataclass(frozen=True)
class FactoryNetworks:
    """Networks that ``factory`` makes of the parameters of a search space, except the learning rate.

    The factory also gets ``image_shape`` (channels, height, width), ``classes`` (their number) and ``seed`` if it names
    them. torch's random state is that of the seed while it builds.
    """

    space: SearchSpace
    factory: Factory
    data_arguments: dict[str, Any]  # image_shape and classes

    def begin(self, trial: BaseTrial, seeds: Sequence[int], seed: int | None) -> tuple[Candidate, nn.Module]:
        candidate = self.space.suggest(trial, seeds, seed)
        return candidate, self.build(candidate)

    def build(self, candidate: Candidate) -> nn.Module:
        arguments = {name: value for name, value in candidate.params.items() if name != LEARNING_RATE}
        signature = inspect.signature(self.factory)
        offered = {**self.data_arguments, SEED: candidate.seed}
        arguments |= {name: value for name, value in offered.items() if name in signature.parameters}
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise InputError(
                f"{name_of(self.factory)}{signature} cannot be called with {', '.join(arguments)} ({error}). Give the "
                "search space the parameters that it takes."
            ) from error
        with seeded(candidate.seed):
            return _checked(self.factory(**arguments), self.factory)

    def examples(self) -> list[Candidate]:
        """The first and the last network of the space; of heads the narrowest of each depth."""
        distributions = self.space.parameters
        first, last = ({name: _end(d, end) for name, d in distributions.items()} for end in (0, -1))
        if isinstance(self.factory, BuiltIn):
            return [Candidate(first | {"head": head}) for head in _narrowest(distributions["head"].choices)]
        return [Candidate(first), Candidate(last)]

    def key(self) -> list[Any]:
        return self.factory.key() if isinstance(self.factory, BuiltIn) else [name_of(self.factory)]


@dataclass(frozen=True)
class OwnNetworks:
    """Networks that ``build(trial)`` makes; it suggests what parameters it wants, and may make some conditional."""

    function: Callable[[Any], nn.Module]

    def begin(self, trial: BaseTrial, seeds: Sequence[int], seed: int | None) -> tuple[Candidate, nn.Module]:
        seed = suggest_seed(trial, seeds) if seed is None else seed
        with seeded(seed):
            network = _checked(self.function(trial), self.function)
        return Candidate({name: value for name, value in trial.params.items() if name != SEED}, seed), network

    def build(self, candidate: Candidate) -> nn.Module:
        return self.begin(FixedTrial(dict(candidate.params)), [], candidate.seed)[1]

    def examples(self) -> list[Candidate]:
        return []

    def key(self) -> list[Any]:
        return [name_of(self.function)]


@dataclass(frozen=True)
class BuiltIn:
    """The factory of the built-in networks: a head behind a backbone, or the encoder of an autoencoder."""

    settings: NetworkSettings

    def __call__(self, head: str, *, image_shape: ImageShape, classes: int, seed: int) -> nn.Module:
        settings = self.settings
        if settings.decoder is not None:
            return build_autoencoder(image_shape, head=head, decoder=settings.decoder, seed=seed)
        # A frozen backbone has run already: its features are the images.
        chosen = {"backbone": "none"} if settings.frozen else settings.backbone_arguments
        return build_network(head, image_shape, classes, seed=seed, **chosen)

    def key(self) -> list[Any]:
        settings = self.settings
        return [settings.backbone, settings.width, settings.weights, settings.frozen, settings.decoder]


def name_of(function: Callable[..., Any]) -> str:
    """How a user's function is called in messages.

    >>> name_of(parse_head)
    'nas_relucode.training.names:parse_head'
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}:{name}"


def _checked(network: Any, function: Callable[..., Any]) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise InputError(f"{name_of(function)} returns {a_type(network)}. It must return a torch.nn.Module.")
    return network


def _end(distribution: Any, end: int) -> Any:
    """The first or the last value of a distribution."""
    choices = getattr(distribution, "choices", None)
    return (distribution.low, distribution.high)[end] if choices is None else choices[end]


def _narrowest(heads: Sequence[str]) -> list[str]:
    """The narrowest head of each depth."""
    narrowest: dict[int, str] = {}
    for head in sorted(heads, key=lambda head: max(parse_head(head)), reverse=True):
        narrowest[len(parse_head(head))] = head
    return list(narrowest.values())
