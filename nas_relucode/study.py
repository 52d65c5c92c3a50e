"""A study from TOML: created or resumed, its candidates run once each, whatever happened in between."""

from __future__ import annotations

import dataclasses
import json
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from nas_relucode.data import ImageData, load_data
from nas_relucode.errors import InputError, known
from nas_relucode.objective import ATTRIBUTE, Objective, check_objective
from nas_relucode.search_space import Candidate, SearchSpace, load_search_space
from nas_relucode.settings import parse, read_toml
from nas_relucode.training import Recipe

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
MAX_RETRIES = 2  # of a candidate whose trial failed or was interrupted


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The arguments of `load_data`, but for the machine's own: data_root and download."""

    source: str
    classes: tuple[int | str, ...] | None = None
    image_size: int | None = None
    train_samples: int | None = None
    test_samples: int | None = None
    validation: float = 0.2
    normalise: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    backbone: str = "vgg16"
    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """A finite space is enumerated. With ``trials`` a sampler draws that many candidates instead."""

    space: str  # a built-in name or a path ending in .toml
    seeds: tuple[int, ...] = (0,)
    trials: int | None = None
    sampler: str = "tpe"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise known("sampler", self.sampler, SAMPLERS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds {list(self.seeds)} must be different whole numbers of at least 0.")
        if self.trials is not None and self.trials < 1:
            raise InputError(f"trials {self.trials} is too small. Give at least 1.")


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    layers: tuple[str, ...] = ("head",)
    graph_theta: int = 1
    distance_theta: int | None = None


def _default_objectives() -> dict[str, str]:
    return {"accuracy": "maximize", "cell_count": "minimize"}


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Everything that decides the numbers of a study; stored with it, and compared when it is resumed."""

    data: DataSettings
    search: SearchSettings
    description: str = ""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: Recipe = field(default_factory=Recipe)
    codes: CodeSettings = field(default_factory=CodeSettings)
    objectives: dict[str, str] = field(default_factory=_default_objectives)  # name -> "maximize" or "minimize"
    accuracy_floor: float | None = None  # networks below it are infeasible

    def __post_init__(self) -> None:
        for name, direction in self.objectives.items():
            check_objective(name)
            if direction not in ("maximize", "minimize"):
                raise known(f"direction of {name}", direction, ["maximize", "minimize"])
        if not self.objectives:
            raise InputError('objectives is empty. Name at least one, e.g. accuracy = "maximize".')

    def as_dict(self, space: SearchSpace) -> dict[str, Any]:
        """As JSON values, with the search space itself in the place of its name."""
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        table["search"]["space"] = json.loads(json.dumps(dataclasses.asdict(space)))
        return table


def load_settings(name: str) -> StudySettings:
    """A built-in study by name, or the user's own by a path that ends in .toml.

    >>> load_settings("digits").data.source
    'digits'
    """
    return parse(StudySettings, read_toml("studies", name), f"study {name}")


def load_study_data(settings: DataSettings, data_root: str | Path = "data", download: bool = False) -> ImageData:
    """The data of a study."""
    return load_data(**dataclasses.asdict(settings), data_root=data_root, download=download)


def redact(url: str) -> str:
    """A storage URL without its password.

    >>> redact("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        return "(not a URL)"
    secret = {key: "***" for key in parsed.query if "password" in key}
    return parsed.update_query_dict(secret).render_as_string(hide_password=True)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turns what a storage raises inside into an InputError that names it without its password."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise InputError(
            f"the storage {redact(url)} cannot be used ({reason}). "
            "Check that it is reachable, writable, not full and not locked; the same command then goes on."
        ) from error


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage at ``url``; a missing folder of an SQLite file is made."""
    with storage_errors(url):
        path = _sqlite_path(url)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(url)


@contextmanager
def only_process(url: str) -> Iterator[None]:
    """Holds the lock beside an SQLite file: one process at a time runs a study there. Other storages need none."""
    path = _sqlite_path(url)
    if path is None:
        yield
        return
    lock = filelock.FileLock(path.with_suffix(".lock"), blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise InputError(
            f"another process is running a study in {path}. SQLite takes one: wait for it, or give another --storage."
        ) from error
    with lock:
        yield
    lock.release()


def create_or_resume(name: str, settings: StudySettings, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """The study ``name``, new or as it was left. Raises InputError if it was made with other settings."""
    now = settings.as_dict(load_search_space(settings.search.space))
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        then = study.user_attrs.get("settings")
        if then is None:
            raise InputError(
                f"study {name!r} exists in this storage and is not one of ours. Give another --study-name."
            )
        changed = list(_differences(then, now))
        if changed:
            raise InputError(
                f"study {name!r} was made with other settings: {'; '.join(changed)}. "
                "Give another --study-name to start a new study, or set the settings back."
            )
        return study
    directions = [optuna.study.StudyDirection[direction.upper()] for direction in settings.objectives.values()]
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    study.set_user_attr("settings", now)
    study.set_user_attr(
        "versions",
        {p: version(p) for p in ("nas-relucode", "torch", "optuna", "numpy")} | {"python": platform.python_version()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(settings.objectives))
    return study


def run_study(
    name: str,
    settings: StudySettings,
    *,
    storage: str | None = None,
    data_root: str | Path = "data",
    download: bool = False,
    device: str | None = None,
    on_epoch: Callable[..., None] | None = None,
    on_start: Callable[[optuna.Study, int], None] | None = None,
    on_trial: Callable[[optuna.Study, FrozenTrial], None] | None = None,
) -> optuna.Study:
    """Runs what is left of a study, in this process, and returns it.

    ``storage`` is any URL that Optuna takes; None stands for ``runs/<name>/study.db``. Whatever ended an earlier run,
    each candidate is completed once: trials that were left running are failed, and a candidate whose trial failed is
    tried again, up to 2 times, in a trial that carries ``retry_of``. ``on_start`` is told the study and the
    number of trials that it will hold; ``on_epoch`` is that of `Objective`, ``on_trial`` is a callback of Optuna's.
    """
    url = storage or default_storage(name)
    space = load_search_space(settings.search.space)
    if settings.search.trials is None and not space.is_finite:
        raise InputError(
            "the search space has an interval of learning rates. Set trials in [search]: how many to draw."
        )
    data = load_study_data(settings.data, data_root, download)
    objective = Objective(
        data,
        space,
        objectives=list(settings.objectives),
        backbone=settings.network.backbone,
        width=settings.network.width,
        recipe=settings.training,
        layers=settings.codes.layers,
        graph_theta=settings.codes.graph_theta,
        distance_theta=settings.codes.distance_theta,
        seeds=settings.search.seeds,
        accuracy_floor=settings.accuracy_floor,
        device=device,
        on_epoch=on_epoch,
    )
    engine = open_storage(url)
    with storage_errors(url), only_process(url):
        study = create_or_resume(name, settings, engine)
        if _sqlite_path(url):
            _fail_interrupted(study)
        plan = Plan(study, settings.search, space)
        study.sampler = SAMPLERS[settings.search.sampler](len(study.trials))  # a seed used twice draws the same twice
        if on_start:
            on_start(study, plan.size)
        while todo := plan.next():
            study.optimize(
                plan.once(objective),
                n_trials=todo,
                catch=(RuntimeError, MemoryError),
                callbacks=[on_trial] if on_trial else None,
            )
    return study


def default_storage(name: str) -> str:
    """The SQLite file of a study in the current folder."""
    return f"sqlite:///runs/{name}/study.db"


class Plan:
    """Which trials a study still needs, read from the trials it has."""

    def __init__(self, study: optuna.Study, search: SearchSettings, space: SearchSpace) -> None:
        self.study, self.search, self.space = study, search, space
        self.seeds = list(search.seeds)

    @property
    def size(self) -> int:
        """Trials in the whole study, without retries."""
        if self.search.trials is not None:
            return self.search.trials * len(self.seeds)
        return len(self.space.candidates(self.seeds))

    def next(self) -> int:
        """Enqueues what is missing and returns how many trials wait; 0 when the study is complete."""
        waiting = len(self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]))
        if waiting:  # left over from a run that was stopped
            return waiting
        trials = self.study.get_trials(deepcopy=False)
        todo = [(c.params, retry) for c, retry in self._missing(trials)]
        if not todo and self.search.trials is not None and self._draws(trials) < self.search.trials:
            todo = [({"seed": self.seeds[0]}, None)]  # the sampler chooses the rest
        for params, retry in todo:
            attributes = None if retry is None else {"retry_of": retry}
            self.study.enqueue_trial(params, user_attrs=attributes)
        return len(todo)

    def once(self, objective: Objective) -> Callable[[optuna.Trial], tuple[float, ...]]:
        """``objective``, but a candidate that is complete already is pruned, and the reason of a failure is kept."""

        def call(trial: optuna.Trial) -> tuple[float, ...]:
            candidate = self.space.suggest(trial, self.seeds)
            for other in self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
                if self._candidate(other) == candidate:
                    trial.set_user_attr("same_as", other.number)
                    raise optuna.TrialPruned(f"the same candidate as trial {other.number}")
            try:
                return objective(trial)
            except (RuntimeError, MemoryError) as error:
                trial.set_user_attr(ATTRIBUTE, {"failed": f"{type(error).__name__}: {error}"[:1000]})
                raise

        return call

    def _missing(self, trials: list[FrozenTrial]) -> list[tuple[Candidate, int | None]]:
        """The candidates without a result, each with the number of the trial that failed on it last."""
        done: set[Candidate] = set()
        failed: dict[Candidate, list[int]] = {}
        drawn: dict[Candidate, None] = {}
        for trial in trials:
            candidate = self._candidate(trial)
            if candidate is None:
                continue
            drawn[Candidate(candidate.head, candidate.learning_rate, self.seeds[0])] = None
            if trial.state == TrialState.FAIL:
                failed.setdefault(candidate, []).append(trial.number)
            else:
                done.add(candidate)
        if self.search.trials is None:
            wanted = self.space.candidates(self.seeds)
        else:
            wanted = [Candidate(c.head, c.learning_rate, seed) for c in drawn for seed in self.seeds]
        return [
            (candidate, failed[candidate][-1] if candidate in failed else None)
            for candidate in wanted
            if candidate not in done and len(failed.get(candidate, [])) <= MAX_RETRIES
        ]

    def _draws(self, trials: list[FrozenTrial]) -> int:
        """How often the sampler was asked: repeated candidates count, so that a small space comes to an end."""
        firsts = [t for t in trials if t.params.get("seed", self.seeds[0]) == self.seeds[0]]
        return len([t for t in firsts if "retry_of" not in t.user_attrs and "head" in t.params])

    def _candidate(self, trial: FrozenTrial) -> Candidate | None:
        """The candidate of a trial; None if it was stopped before it had one."""
        if "head" not in trial.params or "learning_rate" not in trial.params:
            return None
        return Candidate(trial.params["head"], trial.params["learning_rate"], trial.params.get("seed", self.seeds[0]))


def _fail_interrupted(study: optuna.Study) -> None:
    """Fails the trials that a dead process left running; the lock says that no living one runs them."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)


def _differences(then: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            if key != "description":
                yield from _differences(then.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif then != now:
        yield f"{path} was {then!r} and is {now!r}"


def _sqlite_path(url: str) -> Path | None:
    """The file behind an SQLite URL; None for other storages and for one in memory."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise InputError(f"the storage is not a URL. Write it like {default_storage('digits')}.") from error
    on_disk = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if on_disk else None
