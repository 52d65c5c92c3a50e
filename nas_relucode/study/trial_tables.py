"""The trials of a study read from the tables of its database, in half the time that Optuna's own objects take."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import DateTime, column, table

UNTYPED = {  # table -> its key, then what is read of it after the trial's id
    "trial_values": ("trial_value_id", "objective", "value", "value_type"),
    "trial_params": ("param_id", "param_name", "param_value", "distribution_json"),
    "trial_user_attributes": ("trial_user_attribute_id", "key", "value_json"),
    "trial_system_attributes": ("trial_system_attribute_id", "key", "value_json"),
    "trial_intermediate_values": (
        "trial_intermediate_value_id",
        "step",
        "intermediate_value",
        "intermediate_value_type",
    ),
}
INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}  # types of values that have no number
TRIALS = table(
    "trials",
    *map(column, ("study_id", "trial_id", "number", "state")),
    *(column(name, DateTime) for name in ("datetime_start", "datetime_complete")),
)


def stored_trials(storage: RDBStorage, study_id: int) -> list[FrozenTrial]:
    """The trials of a study by their numbers, as Optuna reads them; trials with equal distributions share them."""
    with storage.engine.connect() as connection:

        def rows(name: str) -> Iterable[Any]:
            """What is read of the study's trials in a table, in the order in which it was written."""
            key, *names = UNTYPED[name]
            columns = table(name, *map(column, (key, "trial_id", *names))).c
            own = sqlalchemy.select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id)
            statement = sqlalchemy.select(columns.trial_id, *(columns[each] for each in names))
            return connection.execute(statement.where(columns.trial_id.in_(own)).order_by(columns[key]))

        # The trials first: one that another process completes meanwhile stays what it was.
        _, *columns = TRIALS.c
        statement = sqlalchemy.select(*columns).where(TRIALS.c.study_id == study_id)
        trials = list(connection.execute(statement.order_by(TRIALS.c.trial_id)))
        values = _gathered(rows("trial_values"), _number)
        params = _gathered(rows("trial_params"), _reader_of_params())
        user = _gathered(rows("trial_user_attributes"), json.loads)
        system = _gathered(rows("trial_system_attributes"), json.loads)
        steps = _gathered(rows("trial_intermediate_values"), _number)
    read = [
        FrozenTrial(
            number=number,
            state=TrialState[state],
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


def _number(value: float | None, kind: str) -> float:
    return INFINITE[kind] if value is None else value


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
