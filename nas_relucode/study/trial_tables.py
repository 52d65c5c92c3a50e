"""The trials of a study read from the tables of its database, in half the time that Optuna's own objects take."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import (
    TrialIntermediateValueModel,
    TrialModel,
    TrialParamModel,
    TrialSystemAttributeModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial

TIMES = ("_datetime_start_utc", "_datetime_complete_utc")
VALUES = ("objective", "value", "value_type")
PARAMS = ("param_name", "param_value", "distribution_json")
ATTRIBUTES = ("key", "value_json")
STEPS = ("step", "intermediate_value", "intermediate_value_type")


def stored_trials(storage: RDBStorage, study_id: int) -> list[FrozenTrial]:
    """The trials of a study by their numbers, as Optuna reads them; trials with equal distributions share them."""
    with storage.engine.connect() as connection:

        def rows(model: Any, *names: str) -> Iterable[Any]:
            """These columns of the study's trials, after the trial's id, in the order in which they were written."""
            own = sqlalchemy.select(TrialModel.trial_id).where(TrialModel.study_id == study_id)
            columns = [getattr(model, name) for name in ("trial_id", *names)]
            statement = sqlalchemy.select(*columns).where(model.trial_id.in_(own))
            return connection.execute(statement.order_by(*model.__table__.primary_key))

        # The trials first: one that another process completes meanwhile stays what it was.
        trials = list(rows(TrialModel, "number", "state", *TIMES))
        values = _gathered(rows(TrialValueModel, *VALUES), TrialValueModel.stored_repr_to_value)
        params = _gathered(rows(TrialParamModel, *PARAMS), _reader_of_params())
        user = _gathered(rows(TrialUserAttributeModel, *ATTRIBUTES), json.loads)
        system = _gathered(rows(TrialSystemAttributeModel, *ATTRIBUTES), json.loads)
        step = TrialIntermediateValueModel.stored_repr_to_intermediate_value
        steps = _gathered(rows(TrialIntermediateValueModel, *STEPS), step)
    read = [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=[value for _, value in sorted(values[trial].items())] or None,
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params={name: value for name, (_, value) in params[trial].items()},
            distributions={name: distribution for name, (distribution, _) in params[trial].items()},
            user_attrs=user[trial],
            system_attrs=system[trial],
            intermediate_values=steps[trial],
            trial_id=trial,
        )
        for trial, number, state, start, complete in trials
    ]
    return sorted(read, key=lambda trial: trial.number)


def _gathered(rows: Iterable[Any], value_of: Callable[..., Any]) -> defaultdict[int, dict[Any, Any]]:
    """Trial -> name -> value."""
    gathered: defaultdict[int, dict[Any, Any]] = defaultdict(dict)
    for trial, name, *stored in rows:
        gathered[trial][name] = value_of(*stored)
    return gathered


def _reader_of_params() -> Callable[[float, str], tuple[BaseDistribution, Any]]:
    """What makes a distribution and a parameter of a stored number and the distribution's text."""
    distribution_of = cache(json_to_distribution)

    def read(number: float, text: str) -> tuple[BaseDistribution, Any]:
        distribution = distribution_of(text)
        return distribution, distribution.to_external_repr(number)

    return read


def _local(time: datetime | None) -> datetime | None:
    """A time as Optuna shows it: the database has it in UTC."""
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
