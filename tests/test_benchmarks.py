"""The benchmarks can be started, say what they claim, and judge what they measure; what they measure is not tested."""

import gc
import runpy
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SHARED = {"measure", "codes_to_measure", "alone", "fleets", "database"}
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in SHARED)
# On Python 3.12 the bindings of FAISS warn when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
NEEDED = {"pairs": "faiss", "matrix": "faiss", "components": "networkx"}


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """The scripts find their shared parts beside them; what a bench sets in this process is set back."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = numba.get_num_threads()
    yield
    gc.unfreeze()
    numba.set_num_threads(threads)
    for name in SHARED:
        sys.modules.pop(name, None)


@pytest.fixture
def bench(monkeypatch):
    """Makes a bench of one claim, that a peer takes at least ten times as long, with words of a command line."""
    import measure

    def make(*words, **changed):
        monkeypatch.setattr(sys, "argv", ["pairs.py", "--quick", *words])
        claim = measure.Claim("sums of {cells} numbers", "a slow sum", 10, 1_000, **changed)
        return measure.bench("pairs.py", "Sums.", {"sum": claim})

    return make


def ways(measure, *, peer=lambda numbers: int(numbers.sum())):
    numbers = np.arange(1_000)
    answer = lambda result: (np.array([result]),)  # noqa: E731
    return measure.Way(lambda: int(numbers.sum()), answer), {"sum": measure.Way(lambda: peer(numbers), answer)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_states_its_claims_in_its_help(script, monkeypatch, capsys):
    if script in NEEDED:
        pytest.importorskip(NEEDED[script], reason=f"{NEEDED[script]} comes with the extra named bench")
    import measure

    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    names = runpy.run_path(str(BENCHMARKS / f"{script}.py"))
    with pytest.raises(SystemExit) as stop:
        names["main"]()
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert names["CLAIMS"]
    for claim in names["CLAIMS"].values():
        assert f"  {claim}" in printed
        assert "{" not in str(claim)
        assert claim.at_least is None or f"at least {measure.figure(claim.at_least)}" in printed


def test_every_work_of_the_issue_is_claimed(monkeypatch):
    for name in ("faiss", "networkx"):
        pytest.importorskip(name, reason=f"{name} comes with the extra named bench")
    claims = [c for script in SCRIPTS for c in runpy.run_path(str(BENCHMARKS / f"{script}.py"))["CLAIMS"].values()]
    wanted = sorted(round(claim.at_least, 3) for claim in claims if claim.at_least is not None)
    pairs = [300, 25, 1000, 400, 30, 0.167]
    cells, matrix, components = [300, 15, 4], [60], [40]
    tree = [150, 2, 1, 1]  # the last two: its memory, and its time at 300,000 cells
    capture = [33.333, 16.667, 20]  # at most 3 %, 6 % and 5 % of the forward pass
    polyhedra = [20, *4 * [20, 1], 1, 1, 1]  # relucent; in space, affinitree, too; facets, margins, audit in seconds
    embedding = [1, 1, 1]  # in 4 minutes, in 4 GiB, and no slower than umap-learn's own search
    training = [1.4, 2.5, 1.5, 1, 10, 2.2]  # digits, perceptron, autoencoder, VGG16; frozen; 8 rates together
    workers = [2, 10, 1, 1, 1, 0.67, 0.67, 0.95]  # planning, handing out; at most; 10,000 waiting; 32 workers
    capacity = 9 * [1]  # connections, flushes, bytes, statements and memory, at most
    equality = 11 * [1]  # false answers: 5 % at most, in all and in each part; the time of a judgement
    start = 6 * [2]  # as python -c 'import torch'
    large = 7 * [1]  # three commands in so many seconds and GiB, a page in so many MiB
    shown = (
        equality
        + start
        + large
        + pairs
        + cells
        + matrix
        + components
        + tree
        + capture
        + polyhedra
        + embedding
        + training
        + workers
        + capacity
    )
    assert wanted == sorted(shown)


def test_no_time_is_taken_of_a_peer_with_another_result(bench, monkeypatch):
    import measure

    benchmark = bench()
    monkeypatch.setattr(measure, "processor_seconds", lambda run: pytest.fail("a time was taken"))
    ours, peers = ways(measure, peer=lambda numbers: int(numbers.sum()) + 1)
    with pytest.raises(SystemExit, match="gives another result than ours"):
        benchmark.race(ours, peers)


def measured(benchmark, monkeypatch, *, peer_seconds):
    """A race in which ours takes 200 ms."""
    import measure

    ours, peers = ways(measure)
    monkeypatch.setattr(measure, "processor_seconds", lambda run: 0.2 if run is ours.run else peer_seconds)
    benchmark.race(ours, peers)


@pytest.mark.parametrize(("words", "ends"), [(["--check"], True), ([], False)])
def test_a_ratio_that_falls_short_is_said_and_fails_the_check(bench, monkeypatch, capsys, words, ends):
    benchmark = bench(*words)
    measured(benchmark, monkeypatch, peer_seconds=1.8)
    try:
        benchmark.finish()
        ended = False
    except SystemExit as stop:
        ended = stop.code == 1
    assert ended == ends
    printed = capsys.readouterr()
    assert "| sums of 1,000 numbers; a slow sum (1 run) | 200 ms | 1,800 ms | 9 | 10 (short) |" in printed.out
    assert "short: sums of 1,000 numbers; a slow sum: 9, at least 10" in printed.err


def test_a_ratio_that_is_reached_passes_the_check(bench, monkeypatch):
    benchmark = bench("--check")
    measured(benchmark, monkeypatch, peer_seconds=2.2)
    benchmark.finish()
    assert benchmark.short == []


def test_a_quick_run_has_its_own_size_and_ratio(bench):
    benchmark = bench(quick_cells=10, quick_at_least=2)
    assert (benchmark.cells("sum"), benchmark.claims["sum"].at_least) == (10, 2)


def test_rows_are_written_between_their_markers(bench, monkeypatch, tmp_path):
    import measure

    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- pairs -->\nold\n<!-- end of pairs -->\nafter\n")
    monkeypatch.setattr(measure, "PAGE", page)
    benchmark = bench("--write")
    benchmark.row("sum", 1.0, 20.0)
    benchmark.finish()
    text = page.read_text()
    assert text.startswith("before\n<!-- pairs -->\n")
    assert text.endswith("<!-- end of pairs -->\nafter\n")
    assert "| sums of 1,000 numbers; a slow sum | 1,000 ms | 20,000 ms | 20 | 10 |" in text
    assert "old" not in text


def test_a_page_without_markers_is_left_as_it_is(bench, monkeypatch, tmp_path):
    import measure

    page = tmp_path / "performance.md"
    page.write_text("nothing here\n")
    monkeypatch.setattr(measure, "PAGE", page)
    with pytest.raises(SystemExit, match=r"performance\.md has no place for pairs"):
        bench("--write").finish()
    assert page.read_text() == "nothing here\n"


def test_measured_cells_are_distinct_and_codes_of_a_trained_network(monkeypatch, tmp_path):
    import codes_to_measure

    monkeypatch.setattr(codes_to_measure, "CACHE", tmp_path / "cache")
    codes = codes_to_measure.distinct_cells(500, "64-64", tmp_path)  # no MNIST here: digits
    assert len(np.unique(codes.bits(), axis=0)) == codes.samples == 500
    assert codes.neurons == 128
    again = codes_to_measure.distinct_cells(500, "64-64", tmp_path)  # from the cache
    assert np.array_equal(again.words, codes.words)
    near = (codes.words[:, None] ^ codes.words[None]).view(np.uint64)
    assert (np.bitwise_count(near).sum(axis=2) == 1).any()
