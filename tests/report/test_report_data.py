"""What the page shows: presets, rankings, shares of seeds, profiles of kept codes, curves, pictures."""

import json
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from hand_made import hand_made, study_of
from small_studies import run, settings_in

from nas_relucode.cells.code_spaces import load_code_space
from nas_relucode.paper.numbers import clustering_frame
from nas_relucode.ranking.choices import RULES
from nas_relucode.ranking.selecting import select
from nas_relucode.report import contents
from nas_relucode.report.contents import accuracy_intervals, gather, page_data
from nas_relucode.report.page import embedding_pictures
from nas_relucode.report.write import write_report
from nas_relucode.study.settings import CodeSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ran")


@pytest.fixture(scope="module")
def study(folder: Path) -> optuna.Study:
    """Three networks of two seeds, run with predictions and the codes of the last epoch kept."""
    settings = settings_in(folder, ("8", "4-4", "2"), seeds=(0, 1), codes=CodeSettings(kept_epochs=(0, 1)))
    return run(settings, f"sqlite:///{folder}/study.db")


def test_the_presets_are_the_rules_of_select(study: optuna.Study, folder: Path):
    for chosen in RULES:
        data = page_data(gather(study, folder / "own", selection=select(study, rule=chosen)))
        assert [rule["key"] for rule in data["rules"]] == [chosen, *(rule for rule in RULES if rule != chosen)]
        for rule in data["rules"]:
            selection = select(study, rule=rule["key"])
            ranked = [data["label"][row] for row in data["rankings"][rule["ranking"]]["order"]]
            assert ranked == selection.finalists["network"].tolist()
            difference = selection.comparison.loc[selection.finalists.index, "difference"]
            assert rule["gap"] == difference.max()


def test_the_interval_of_an_accuracy_is_equal_or_worse_where_it_lies_beside_the_margin():
    trials = [
        hand_made(head, seed=seed, accuracy=accuracy + seed / 5000, samples=50_000)
        for head, accuracy in (("8", 0.95), ("4", 0.949), ("2", 0.945), ("1", 0.9))
        for seed in (0, 1, 2)
    ]
    selection = select(study_of(trials), margin=0.008)
    intervals, answers = accuracy_intervals(selection), selection.comparison["answer"]
    best = selection.networks["accuracy"].max()
    assert set(answers) >= {"best", "equal", "worse"}
    for answer, low, high in zip(answers, intervals["low"], intervals["high"], strict=True):
        assert (answer == "best") == np.isnan(low)
        if answer != "best":
            assert (answer == "equal") == (low > best - 0.008)
            assert answer != "worse" or high < best


def test_the_page_holds_the_ranking_of_every_gap_at_which_the_networks_change():
    accuracies = {"8": 0.9, "16": 0.9, "4": 0.89, "2": 0.87, "1": 0.89, "0": 0.5}
    trials = [
        hand_made(head, accuracy=accuracy, cell_count=float(number % 3), parameters=number // 5)
        for number, (head, accuracy) in enumerate(accuracies.items())
    ]
    study = study_of(trials)
    data = page_data(gather(study, Path("nowhere")))
    by_gap = [ranking for ranking in data["rankings"] if ranking["from"] is not None]
    assert [round(ranking["from"], 9) for ranking in by_gap] == [0, 0.01, 0.03, 0.4]
    assert not data["thinned"]
    accuracy, best = select(study).networks.set_index("network")["accuracy"], 0.9
    for ranking in by_gap:
        names = [data["label"][row] for row in ranking["order"]]
        assert sorted(names) == sorted(accuracy.index[best - accuracy <= ranking["from"] + 1e-9])
        assert "occupied cells (minimize)" in data["orders"][ranking["by"]]
        cells = [data["mean"]["cell_count"][row] for row in ranking["order"]]
        assert cells == sorted(cells)  # one index: its Pareto rank is its order
    assert by_gap[0]["tied"] == []
    equal = study_of([hand_made("8"), hand_made("4"), hand_made("2", cell_count=11.0)])
    assert page_data(gather(equal, Path("nowhere")))["rankings"][0]["tied"] == [1]


def test_of_very_many_networks_rankings_are_thinned_out_and_the_last_holds_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contents, "MOST_PLACES", 300)
    study = study_of([hand_made("8", 0.001 * number, accuracy=0.9 - number / 1000) for number in range(1, 61)])
    data = page_data(gather(study, Path("nowhere")))
    sizes = [len(ranking["order"]) for ranking in data["rankings"] if ranking["from"] is not None]
    assert data["thinned"]
    assert sizes[:3] == [1, 2, 3]
    assert sizes[-1] == 60
    assert sum(sizes) <= 300


def test_the_share_of_resamples_is_that_of_select():
    trials = [
        hand_made(head, seed=seed, accuracy=0.95, cell_count=count)
        for head, counts in {"8": (20.0, 24.0), "16": (22.0, 23.0), "4": (30.0, 31.0)}.items()
        for seed, count in enumerate(counts)
    ]
    study = study_of(trials)
    report = gather(study, Path("nowhere"))
    ahead = np.diagonal(select(study).ahead, offset=1)
    assert list(report.ahead.values()) == ahead.tolist()


def test_profiles_are_those_of_the_kept_codes_of_the_last_epoch(study: optuna.Study, folder: Path):
    selection = select(study)
    data = page_data(gather(study, folder / "own"))
    assert data["profiles"]
    kept = {
        (network, candidate.seed): record["codes"]["1"]
        for network, candidate, record in zip(
            selection.source.networks, selection.source.candidates, selection.source.records, strict=True
        )
    }
    for row, profile in data["profiles"].items():
        assert (profile["epoch"], profile["seed"]) == (1, 0)
        space = load_code_space(folder / "own" / "codes" / kept[data["label"][int(row)], 0])
        frame = clustering_frame(space)
        joint = frame[frame["layer"] == "joint"]
        assert profile["theta"] == joint["theta"].tolist()
        assert profile["components"] == joint["components"].tolist()
    assert page_data(gather(study, folder))["profiles"] == {}  # nothing lies there


def test_curves_are_means_over_the_seeds(study: optuna.Study, folder: Path):
    data = page_data(gather(study, folder))
    for row, layers in data["curves"].items():
        curves_of_seeds = [
            trial.user_attrs["relucode"]["curve"]
            for trial in study.trials
            if data["params"][int(row)]["head"] == trial.params["head"]
        ]
        assert len(curves_of_seeds) == 2
        epochs, cells, _ = layers["joint"]
        assert epochs == [0, 1]
        for epoch in epochs:
            assert cells[epoch] == np.mean([curve[epoch]["joint"]["cell_count"] for curve in curves_of_seeds])
    assert len(data["curves"]) == 3


def test_trials_without_a_curve_get_a_report_too(tmp_path: Path):
    trial = hand_made("8")
    del trial.user_attrs["relucode"]["curve"]
    write_report(study_of([trial]), tmp_path)
    assert "Occupied cells by layer" not in (tmp_path / "report.md").read_text("utf-8")


def test_the_data_in_the_page_cannot_end_its_script(tmp_path: Path):
    study = study_of([hand_made("8", cell_count=20.0)], name="</script><b>")
    text = write_report(study, tmp_path)["report.html"].read_text("utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert "<" not in data
    assert json.loads(data) == json.loads(json.dumps(page_data(gather(study, tmp_path))))


def test_embeddings_in_the_folder_are_shown_and_those_too_large_for_the_page_are_named(tmp_path: Path):
    study = study_of([hand_made("8")])
    (tmp_path / "embedding_8.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    (tmp_path / "embedding_large.png").write_bytes(bytes(3_900_000))
    assert len(embedding_pictures(gather(study, tmp_path))) == 2
    path = write_report(study, tmp_path)["report.html"]
    text = path.read_text("utf-8")
    assert text.count('<img alt="Codes of the layers') == 1
    assert "Too large for this page" in text
    assert "embedding_large.png" in text
    assert path.stat().st_size < 4 * 2**20


def test_the_same_study_gives_the_same_svg(tmp_path: Path):
    study = study_of([hand_made("8"), hand_made("16", cell_count=20.0)])
    first, second = (write_report(study, tmp_path / name)["pareto.svg"].read_bytes() for name in "ab")
    assert first == second
    assert b"<svg" in first
