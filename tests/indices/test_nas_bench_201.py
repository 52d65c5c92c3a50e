"""Scores at initialisation against published ones of NAS-Bench-201 networks, which were built and scored by others."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pink_noise import pink_noise
from scipy.stats import spearmanr

from nas_relucode import capture
from nas_relucode.errors import InputError
from nas_relucode.evidence.nas_bench_201 import IMAGES, build, read_images, score_networks
from nas_relucode.indices.batch_scores import distinct_codes, distinct_patterns, logdet_kernel

BATCH = 32


@pytest.fixture(scope="module")
def published():
    with (Path(__file__).parents[1] / "data" / "nas_bench_201.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def scored(published):
    """Every third of the first 180 networks, with one cell a stage: what is published, and ours at initialisation."""
    noise = pink_noise(BATCH)
    rows = []
    for row in published[:180:3]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build(row["arch_str"], cells=1)
        codes = capture(network, noise, mode="train")
        scores = [float(row["nwot"]), logdet_kernel(codes), distinct_codes(codes), distinct_patterns(codes[:16])]
        rows.append(scores)
    return dict(zip(["published", "logdet", "codes", "patterns"], np.array(rows).T, strict=True))


def test_the_networks_have_the_published_numbers_of_parameters(published):
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build(row["arch_str"]).parameters()) for row in published[::10]]
    assert counts == [round(float(row["params"]) * 1e6) for row in published[::10]]


@pytest.mark.slow
def test_the_logdet_ranks_networks_as_the_published_naswot_does(scored):
    assert len(scored["logdet"]) == 60
    assert np.isfinite(scored["logdet"]).all()
    assert spearmanr(scored["logdet"], scored["published"]).statistic >= 0.95


@pytest.mark.slow
def test_the_number_of_distinct_codes_is_saturated_and_that_of_patterns_is_not(scored):
    assert np.mean(scored["codes"] == BATCH) >= 0.95
    assert len(set(scored["patterns"])) >= 50


def test_images_are_read_with_mean_0_and_deviation_1_in_each_channel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES + 4, 8, 8, 3)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x_train=pixels)
    images = read_images(tmp_path / "images.npz")
    assert images.shape == (IMAGES, 3, 8, 8)
    for channel in range(3):
        mine = pixels[:IMAGES, :, :, channel].astype(float)
        assert np.allclose(images[:, channel], (mine - mine.mean()) / mine.std(), atol=1e-5)
    np.savez(tmp_path / "few.npz", x_train=pixels[:5])
    for file in ("few.npz", "none.npz"):
        with pytest.raises(InputError):
            read_images(tmp_path / file)


def test_scores_are_added_to_those_that_a_stopped_run_left(published, tmp_path, monkeypatch):
    monkeypatch.setattr("nas_relucode.evidence.nas_bench_201.build", lambda arch: build(arch, cells=1))
    table, file = pd.DataFrame({"architecture": [row["arch_str"] for row in published[:3]]}), tmp_path / "scores.csv"
    counts: list[int] = []

    def stop_after_two(count: int) -> None:
        counts.append(count)
        if count == 2:
            raise KeyboardInterrupt

    images = pink_noise(4)
    with pytest.raises(KeyboardInterrupt):
        score_networks(table, images, file, on_network=stop_after_two)
    first, written = pd.read_csv(file), file.read_bytes()
    kept = file.with_name("hard_link.csv")
    kept.hardlink_to(file)
    score_networks(table, images, file, on_network=counts.append)
    assert kept.read_bytes() == written  # a kill while a row is added leaves the table as it was
    assert file.read_bytes().startswith(written)
    assert counts == [1, 2, 3]
    both = pd.read_csv(file)
    assert both[:2].equals(first)
    assert sorted(both["architecture"]) == sorted(table["architecture"])
