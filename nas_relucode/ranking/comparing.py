"""Comparing networks that come from anywhere, without a study: the same verdict and the same page."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, Unpack

import optuna
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial
from torch import nn

from nas_relucode.codes.reading import ReadingOptions
from nas_relucode.errors import InputError, NonFiniteError, a_type, listed_items, unknown, whole_number
from nas_relucode.indices.registry import Indices
from nas_relucode.qualities.quality import Quality
from nas_relucode.qualities.registry import QUALITIES
from nas_relucode.qualities.samples import PixelRange
from nas_relucode.ranking.choices import PURPOSES
from nas_relucode.ranking.options import RankingOptions
from nas_relucode.ranking.selecting import select
from nas_relucode.ranking.selection import Selection
from nas_relucode.study.candidates import NAME
from nas_relucode.study.objectives import Objectives
from nas_relucode.study.record import record_of
from nas_relucode.study.recorder import Recorder
from nas_relucode.study.storage import study_in_memory
from nas_relucode.training.data import ImageData
from nas_relucode.training.names import LARGEST_SEED

Trained: TypeAlias = nn.Module | Callable[[], nn.Module]  # a network, or what loads it when its turn comes
STUDY = "comparison"  # its name


class ComparingOptions(RankingOptions, ReadingOptions, total=False):
    """The keyword arguments of `compare` that are those of `Ranking` or `Reading`."""


def compare(
    networks: Mapping[str, Trained | Mapping[int, Trained]],
    data: Any,
    *,
    train: Any = None,
    test: Any = None,
    objectives: Objectives = ("accuracy",),
    indices: Indices = None,
    qualities: Iterable[str | Quality] = ("parameters",),
    pixel_range: PixelRange | None = None,
    **options: Unpack[ComparingOptions],
) -> Selection:
    """Which of some trained networks are equally accurate, and which to choose: what `select` says of a study.

    ``networks`` are given by their names: a network, or one for each seed that it was trained with, ``{"a": {0: first,
    1: second}}``. A function without arguments stands for the network that it returns; it is called when its turn
    comes, so that not all networks need to be in memory at once. Nothing can be shown to be equal with one seed each.

    ``data`` are labelled samples that no network was trained on, in any form that `Recorder` takes; accuracies are
    compared on them. Codes are those of ``train``, or of ``data`` if there are no others; ``test`` is for reports only.
    Of ImageData, accuracies are compared on the validation split, or on the test split if that is empty, and codes are
    those of the training split.

    ``objectives``, ``indices``, ``qualities``, ``pixel_range`` and the options of `Reading` are those of `Recorder`,
    and the options of `Ranking` those of `select`; the qualities that ``by`` and ``purpose`` name are measured as well.
    No accuracy is too low to be compared. `write_report` writes the page of what is returned.

    Raises InputError for what is not a network, and for whatever `Recorder` and `select` refuse.

    >>> import torch
    >>> inputs, labels = torch.tensor([[-1.0], [1.0], [2.0]]), torch.tensor([0, 1, 1])
    >>> wide, narrow = (nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 2)) for width in (8, 2))
    >>> compare({"wide": wide, "narrow": narrow}, (inputs, labels), objectives=["accuracy"]).networks["seeds"].tolist()
    [1, 1]
    """
    split = "validation"
    if isinstance(data, ImageData):
        if train is not None or test is not None:
            raise InputError("ImageData have splits of their own. Leave out train= and test=, or give samples as data.")
        split = "validation" if len(data.validation) else "test"
        train, test = data.train, data.test if split == "validation" and len(data.test) else None
        data = getattr(data, split)
    trainings = list(_trainings(networks))
    for name in options:
        if name not in ComparingOptions.__annotations__:
            raise TypeError(str(unknown("option", name, ComparingOptions.__annotations__)))
    ranking: Any = {name: value for name, value in options.items() if name in RankingOptions.__annotations__}
    reading: Any = {name: value for name, value in options.items() if name not in ranking}
    qualities = listed_items("qualities", qualities, Quality)
    record = Recorder(
        train=train,
        validation=data,
        test=test,
        objectives=objectives,
        indices=indices,
        qualities=[*qualities, *_ordering(qualities, ranking)],
        pixel_range=pixel_range,
        accuracy_floor=0.0,
        **reading,
    )
    record.splits = replace(record.splits, validation=replace(record.splits.validation, split=split))
    study = study_in_memory(study_name=STUDY, directions=record.directions)
    for number, (name, seed, network) in enumerate(trainings):
        trial = FixedTrial({NAME: name}, number)
        trial.suggest_categorical(NAME, list(networks))
        study.add_trial(_recorded(trial, record, _loaded(network, name), seed))
    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        (name, seed, _), reason = trainings[0], record_of(study.trials[0])["pruned"]
        raise NonFiniteError(f"no network could be measured. Network {name!r}, seed {seed}: {reason}")
    return select(study, **ranking)


def _ordering(qualities: Iterable[str | Quality], ranking: Mapping[str, Any]) -> list[str]:
    """The qualities that are to order the networks, and are not among ``qualities``."""
    given = {item.name if isinstance(item, Quality) else item for item in qualities}
    purpose, by = ranking.get("purpose"), ranking.get("by")
    names = (
        []
        if by is None
        else [item if isinstance(item, str) else next(iter(item), "") for item in listed_items("by", by, tuple)]
    )
    if purpose is not None:
        if not isinstance(purpose, str) or purpose not in PURPOSES:
            raise unknown("purpose", purpose, PURPOSES)
        names.append(PURPOSES[purpose])
    wanted = dict.fromkeys(name.lstrip("+-") for name in names if isinstance(name, str))
    return [name for name in wanted if name in QUALITIES and name not in given]


def _trainings(networks: Any) -> Iterator[tuple[str, int, Trained]]:
    """The name, the seed and the network of each training."""
    if not isinstance(networks, Mapping) or not networks:
        given = "an empty dict" if isinstance(networks, Mapping) else a_type(networks)
        raise InputError(
            f"networks are {given}. Give them by their names, "
            '{"a": network, "b": {0: network, 1: network}}, at least one.'
        )
    for name, entry in networks.items():
        if not isinstance(name, str):
            raise InputError(f"the name {name!r} is not a string. Give networks by names, or seeds below a name.")
        of_seeds = entry if isinstance(entry, Mapping) else {0: entry}
        if not of_seeds:
            raise InputError(f"network {name!r} has no seed. Give at least one: {{{name!r}: {{0: network}}}}.")
        for seed, network in of_seeds.items():
            seed = whole_number(f"a seed of network {name!r}", seed, most=LARGEST_SEED - 1)
            if not callable(network):  # as networks are, and functions that load one
                raise InputError(
                    f"network {name!r} is {a_type(network)}. Give a torch.nn.Module, a function that loads one, "
                    "or {seed: network}."
                )
            yield name, seed, network


def _recorded(trial: FixedTrial, record: Recorder, network: nn.Module, seed: int) -> FrozenTrial:
    """The trial as it stands in a study."""
    values: list[float] | None = None
    with contextlib.suppress(optuna.TrialPruned):
        result = record(trial, network, seed=seed)
        values = list(result) if isinstance(result, tuple) else [result]
    return create_trial(
        state=TrialState.PRUNED if values is None else TrialState.COMPLETE,
        values=values,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
    )


def _loaded(network: Trained, name: str) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    loaded = network()
    if not isinstance(loaded, nn.Module):
        raise InputError(f"what loads network {name!r} returns {a_type(loaded)}. Return a torch.nn.Module.")
    return loaded
