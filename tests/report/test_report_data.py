"""What the page shows: presets, rankings, shares of seeds, profiles of kept codes, curves, pictures."""

import json
import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from hand_made import hand_made, study_of
from small_studies import run, settings_in

from nas_relucode.cli.main import main
from nas_relucode.paper.numbers import clustering_frame
from nas_relucode.ranking.selection import select
from nas_relucode.report import contents
from nas_relucode.report.contents import gather, page_data
from nas_relucode.report.page import embedding_pictures
from nas_relucode.report.sections import remarks
from nas_relucode.report.write import write_report
from nas_relucode.study.curves import kept_spaces
from nas_relucode.study.predictions import FOLDER, file_store
from nas_relucode.study.settings import CodeSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ran")


@pytest.fixture(scope="module")
def study(folder: Path) -> optuna.Study:
    """Three networks of two seeds, run with predictions and the codes of the last epoch kept."""
    settings = settings_in(folder, ("8", "4-4", "2"), seeds=(0, 1), codes=CodeSettings(kept_epochs=(0, 1)))
    return run(settings, f"sqlite:///{folder}/study.db")


def test_the_presets_are_the_rules_of_rank(study: optuna.Study, folder: Path):
    ours = folder / "own"
    data = page_data(gather(study, ours, ""))
    assert [rule["key"] for rule in data["rules"]] == ["1se", "mcnemar"]
    tested = select(study, tolerance="mcnemar", store=file_store(ours))
    by_label = {f"{row['head']} @ 0.1": i for i, row in tested.networks.iterrows()}
    equal = {data["label"][row] for row in data["rankings"][data["rules"][1]["ranking"]]["order"]}
    assert equal == {f"{head} @ 0.1" for head in tested.equal["head"]}
    for label, p in zip(data["label"], data["rules"][1]["p"], strict=True):
        assert p == tested.comparison.loc[by_label[label], "p"]
    best = max(data["mean"]["accuracy"])
    assert data["rules"][0]["tolerance"] == best - select(study).threshold


@pytest.mark.parametrize(
    ("seeds", "name"), [((0,), "McNemar's test"), ((0, 1), "the test of crossed seeds and samples")]
)
def test_the_test_is_called_mcnemar_s_where_every_network_was_trained_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: tuple[int, ...], name: str
):
    url = f"sqlite:///{tmp_path}/study.db"
    report = gather(run(settings_in(tmp_path, seeds=seeds), url), tmp_path / "own", "")
    assert [rule["name"] for rule in page_data(report)["rules"]] == ["the one-standard-error rule", name]
    assert f"{name[0].upper()}{name[1:]}, corrected for all pairs, leaves" in " ".join(remarks(report))
    assert main(["select", "own", "--storage", url, "--output", str(tmp_path / "own"), "--tolerance", "mcnemar"]) == 0
    assert f"by {name} at the level 0.05, corrected for all pairs: " in capsys.readouterr().out


def test_the_page_holds_the_ranking_of_every_tolerance_at_which_the_equal_networks_change():
    accuracies = {"8": 0.9, "16": 0.9, "4": 0.89, "2": 0.87, "1": 0.89, "0": 0.5}
    trials = [
        hand_made(head, accuracy=accuracy, cell_count=float(number % 3), parameters=number // 5)
        for number, (head, accuracy) in enumerate(accuracies.items())
    ]
    study = study_of(trials)
    data = page_data(gather(study, Path("nowhere"), ""))
    by_tolerance = [ranking for ranking in data["rankings"] if ranking["from"] is not None]
    assert [round(ranking["from"], 9) for ranking in by_tolerance] == [0, 0.01, 0.03, 0.4]
    assert not data["thinned"]
    for ranking in by_tolerance:
        selection = select(study, tolerance=ranking["from"])
        assert [data["label"][row] for row in ranking["order"]] == selection.equal["network"].tolist()
        ranks = selection.equal["rank"].tolist()
        assert ranking["tied"] == [i for i in range(1, len(ranks)) if ranks[i] == ranks[i - 1]]
        silent = data["silents"][ranking["silent"]]
        assert {name: silent.get(name) for name in selection.silent} == selection.silent


def test_of_very_many_networks_rankings_are_thinned_out_and_the_last_holds_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(contents, "MOST_PLACES", 300)
    study = study_of([hand_made("8", 0.001 * number, accuracy=0.9 - number / 1000) for number in range(1, 61)])
    data = page_data(gather(study, Path("nowhere"), ""))
    sizes = [len(ranking["order"]) for ranking in data["rankings"] if ranking["from"] is not None]
    assert data["thinned"]
    assert sizes[:3] == [1, 2, 3]
    assert sizes[-1] == 60
    assert sum(sizes) <= 300


def test_without_predictions_there_is_no_mcnemar(study: optuna.Study, tmp_path: Path):
    assert [rule["key"] for rule in page_data(gather(study, tmp_path, ""))["rules"]] == ["1se"]


def test_lost_predictions_are_named_and_the_report_is_written_all_the_same(study: optuna.Study, tmp_path: Path):
    (tmp_path / FOLDER).mkdir()
    write_report(study, tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")
    assert "McNemar's test was not possible: the predictions of trial 0" in text


def test_the_share_of_resamples_is_that_of_select():
    trials = [
        hand_made(head, seed=seed, accuracy=0.95, cell_count=count)
        for head, counts in {"8": (20.0, 24.0), "16": (22.0, 23.0), "4": (30.0, 31.0)}.items()
        for seed, count in enumerate(counts)
    ]
    study = study_of(trials)
    report = gather(study, Path("nowhere"), "")
    ahead = np.diagonal(select(study).ahead, offset=1)
    assert list(report.ahead.values()) == ahead.tolist()
    assert page_data(report)["ahead"][:2] == ahead.tolist()


def test_profiles_are_those_of_the_kept_codes_of_the_last_epoch(study: optuna.Study, folder: Path):
    data = page_data(gather(study, folder / "own", ""))
    assert data["profiles"]
    for row, profile in data["profiles"].items():
        assert (profile["epoch"], profile["seed"]) == (1, 0)
        (kept,) = [
            space
            for space in kept_spaces(study, folder / "own")
            if (space.label, space.epoch, space.seed) == (data["label"][int(row)], 1, 0)
        ]
        frame = clustering_frame(kept.load())
        joint = frame[frame["layer"] == "joint"]
        assert profile["theta"] == joint["theta"].tolist()
        assert profile["components"] == joint["components"].tolist()
    assert page_data(gather(study, folder, ""))["profiles"] == {}  # nothing lies there


def test_curves_are_means_over_the_seeds(study: optuna.Study, folder: Path):
    data = page_data(gather(study, folder, ""))
    for row, layers in data["curves"].items():
        curves_of_seeds = [
            trial.user_attrs["relucode"]["curve"]
            for trial in study.trials
            if trial.user_attrs["relucode"]["candidate"]["head"] == data["head"][int(row)]
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
    assert json.loads(data) == json.loads(json.dumps(page_data(gather(study, tmp_path, ""))))


def test_embeddings_in_the_folder_are_shown_and_those_too_large_for_the_page_are_named(tmp_path: Path):
    study = study_of([hand_made("8")])
    (tmp_path / "embedding_8.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    (tmp_path / "embedding_large.png").write_bytes(bytes(3_000_000))
    assert len(embedding_pictures(gather(study, tmp_path, ""))) == 2
    path = write_report(study, tmp_path)["report.html"]
    text = path.read_text("utf-8")
    assert text.count('<img alt="Codes of the layers') == 1
    assert "Too large for this page" in text
    assert "embedding_large.png" in text
    assert path.stat().st_size < 8 * 2**20


def test_the_same_study_gives_the_same_svg(tmp_path: Path):
    study = study_of([hand_made("8"), hand_made("16", cell_count=20.0)])
    first, second = (write_report(study, tmp_path / name)["pareto.svg"].read_bytes() for name in "ab")
    assert first == second
    assert b"<svg" in first
