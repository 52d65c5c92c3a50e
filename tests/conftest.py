"""Shared by all tests: one thread, hypothesis' profiles, a clean environment, and the fixtures of several files.

pytest imports this file in every process, also in those that run no test: what takes long is imported in the fixtures.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import private_postgres
import pytest
from hypothesis import settings

# Two suites on two cores wait for each other's threads; the networks here are too small to gain from more than one.
# NumPy, torch and the processes that tests start read this once, so neither package is imported above.
os.environ["OMP_NUM_THREADS"] = "1"

# How many examples test a property: few on a push, many in `make check` (--hypothesis-profile check). No deadline:
# the first call of a compiled function takes longer than hypothesis' usual 200 ms.
settings.register_profile("push", max_examples=10, deadline=None)
settings.register_profile("check", max_examples=200, deadline=None)
settings.load_profile("push")

DATA = Path(__file__).parent / "data"
# UMAP compiles for seconds in each process that uses it. These tests come first, so that one process runs them all:
# pytest-xdist deals them out in one piece, and takes from a busy process only what it would run last.
UMAP = ("test_embedding.py", "test_figure_study.py", "test_command_figure.py", "test_readme.py")
numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in UMAP)


@pytest.fixture(autouse=True, scope="module")
def machine() -> Iterator[None]:
    """No storage in the environment, as on a new machine; Optuna's log is silent, whatever earlier tests set."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPTUNA_STORAGE", raising=False)
        yield
    optuna.logging.set_verbosity(verbosity)


@pytest.fixture(autouse=True, scope="session")
def migrations() -> Iterator[None]:
    """Alembic reads Optuna's migrations once, and not three times for each storage that a test opens."""
    from alembic.script import ScriptDirectory

    read = ScriptDirectory.from_config
    scripts: dict[str | None, ScriptDirectory] = {}

    def read_once(config):
        place = config.get_main_option("script_location")
        if place not in scripts:
            scripts[place] = read(config)
        return scripts[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", read_once)
        yield


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the 300 training and 100 test images of tests/data/mnist.npz as torchvision's IDX files."""
    import numpy as np

    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    with np.load(DATA / "mnist.npz") as stored:
        for part, file in (("train", "train"), ("test", "t10k")):
            for name, array in (("images-idx3", stored[f"x_{part}"]), ("labels-idx1", stored[f"y_{part}"])):
                sizes = np.array([0x800 + array.ndim, *array.shape], dtype=">i4")  # 8: unsigned bytes
                (raw / f"{file}-{name}-ubyte").write_bytes(sizes.tobytes() + array.tobytes())
    return root


@pytest.fixture(scope="session")
def data_root() -> Path:
    """``shared/data`` beside the checkout: all of MNIST and a part of CIFAR-10."""
    root = Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no real data: {root} does not exist")
    return root


@pytest.fixture(scope="session")
def postgres() -> Iterator[private_postgres.Server]:
    """A PostgreSQL server that tests may restart."""
    if private_postgres.programs() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no driver: pip install 'nas-relucode[postgres]'")
    server = private_postgres.Server()
    yield server
    server.remove()


@pytest.fixture
def queue_url(postgres: private_postgres.Server) -> str:
    """An empty PostgreSQL database."""
    return postgres.database()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def without_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report's figure is an empty file: drawing takes two thirds of the time of a report whose words are tested."""
    monkeypatch.setattr("nas_relucode.report.write.save_pareto", lambda path, *_, **__: path.touch())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 500 KB: large enough for a study, too small for its report.html."""
    from damage import file_system

    disk = tmp_path / "disk"
    disk.mkdir()
    with ExitStack() as stack:
        try:
            stack.enter_context(file_system(disk, 500 * 1024))
        except OSError as error:
            pytest.skip(str(error))
        yield disk


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small study of one's own."""
    from command_line import write_study

    monkeypatch.chdir(tmp_path)
    write_study(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small study after `nas-relucode run`, for reading: copy it where a test changes it.

    It is trained once, also for all processes of pytest-xdist, whose temporary folders lie side by side.
    """
    from command_line import write_study
    from filelock import FileLock

    from nas_relucode.cli.main import main

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "trained"
    with FileLock(root / "trained.lock"), pytest.MonkeyPatch.context() as patch:
        if not folder.exists():
            unfinished = tmp_path_factory.mktemp("unfinished")
            write_study(unfinished)
            patch.chdir(unfinished)
            patch.delenv("OPTUNA_STORAGE", raising=False)
            assert main(["run", "own.toml", "-q", "--device", "cpu"]) == 0
            unfinished.rename(folder)
    return folder


@pytest.fixture
def module(here: Path) -> Callable[[str], str]:
    """Writes a module into the current folder and returns its name, which no other test has used."""

    def write(text: str) -> str:
        name = f"my_networks_{next(numbers)}"
        (here / f"{name}.py").write_text(text)
        return name

    return write


@pytest.fixture
def images(here: Path) -> str:
    """An .npz file: 30 training and 12 test images of 5 x 4 pixels, 3 classes."""
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez(
        "images.npz",
        x_train=rng.integers(0, 256, (30, 5, 4)).astype(np.uint8),
        y_train=np.arange(30) % 3,
        x_test=rng.integers(0, 256, (12, 5, 4)).astype(np.uint8),
        y_test=np.arange(12) % 3,
    )
    return "images.npz"
