"""Scores at initialisation against published ones of NAS-Bench-201 networks, which were built and scored by others."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from pink_noise import pink_noise
from scipy.stats import spearmanr

from nas_relucode import capture
from nas_relucode.evidence.nas_bench_201 import build
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
