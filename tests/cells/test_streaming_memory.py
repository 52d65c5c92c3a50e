"""A million samples from an iterator: memory grows with the cells, not with the samples."""

import subprocess
import sys

import pytest

STREAM = """
import sys
import resource
import numpy as np
import torch
from nas_relucode import build_network, code_space
from nas_relucode.codes import pack

network = build_network("256-256", (1, 28, 28), 10, backbone="none")
generator = torch.Generator().manual_seed(0)
noise = sys.argv[1] == "noise"
three = torch.rand(3, 1, 28, 28, generator=generator)

def batches(samples, size=2000):
    for _ in range(samples // size):  # new inputs of the plane through three images, or noise, as they are asked for
        weights = torch.rand(size, 3, generator=generator)
        images = torch.einsum("sk,kchw->schw", weights, three)
        if noise:
            images = torch.randn(images.shape, generator=generator)
        yield images, torch.randint(0, 10, (size,), generator=generator)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

code_space(network, batches(10_000), layers="head")
before = peak()
space = code_space(network, batches(1_000_000), layers="head")
print(space.samples, len(space.cells), int(space.class_counts.sum()), round(peak() - before))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("inputs", "fewest", "most"), [("plane", 1000, 100_000), ("noise", 990_000, 1_000_000)])
def test_a_million_samples_take_less_than_a_gibibyte(inputs, fewest, most):
    done = subprocess.run([sys.executable, "-c", STREAM, inputs], capture_output=True, text=True, check=True)
    samples, cells, counted, mebibytes = map(int, done.stdout.split())
    assert samples == counted == 1_000_000
    assert fewest <= cells <= most
    assert mebibytes < 1024
