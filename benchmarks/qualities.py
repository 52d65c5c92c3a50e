"""What it costs to measure each quality of one network: a CNN of two convolutions on images of 3 x 32 x 32 pixels.

The peer is a pass over the same images, which is what accuracy itself costs.
"""

from __future__ import annotations

import measure

# isort: split
import statistics

import torch
from measure import Claim
from torch import nn

from nas_relucode.qualities import QUALITIES, corruption_accuracy
from nas_relucode.qualities import measure as measure_qualities
from nas_relucode.qualities.samples import over_batches

IMAGES, FEW = 500, 20
PASS = "a pass over the images"
CLAIMS = {
    name: Claim(f"`{name}`, {{cells}} images", PASS, None, IMAGES, 100)
    for name, quality in QUALITIES.items()
    if quality.held_out and name != "corruption_accuracy"
} | {
    "first": Claim("`corruption_accuracy` of the first network, {cells} images", PASS, None, FEW, 5),
    "next": Claim("`corruption_accuracy` of every other network, {cells} images", PASS, None, FEW, 5),
}
RUNS = 3


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS, f"Random images; processor time, medians of {RUNS}, one thread.")
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(2048, 64), nn.ReLU(), nn.Linear(64, 10)),
    ).eval()
    for name in CLAIMS:
        generator = torch.Generator().manual_seed(0)
        samples = bench.cells(name)
        images = torch.rand(samples, 3, 32, 32, generator=generator)
        data = images, torch.randint(10, (samples,), generator=generator)

        def accuracy(data: object = data) -> object:
            return over_batches(network, data, lambda batch: batch.correct(batch.inputs))

        def quality(data: object = data, name: str = name) -> object:
            if name in QUALITIES:
                return measure_qualities(network, data, [name])
            return corruption_accuracy(network, data)

        runs = 1 if bench.quick or name == "first" else RUNS
        if name in QUALITIES:
            quality()  # imports, and fills the processor's caches
        elif name == "first":
            corruption_accuracy(network, (1 - images[:1], data[1][:1]))  # imports and compiles
        ours = statistics.median(measure.processor_seconds(quality) for _ in range(runs))
        accuracy()
        peer = statistics.median(measure.processor_seconds(accuracy) for _ in range(runs))
        bench.row(name, ours, peer, f"{ours / peer:.1f} passes")
    bench.finish()


if __name__ == "__main__":
    main()
