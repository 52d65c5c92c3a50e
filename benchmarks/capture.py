"""What taking codes adds to the forward passes that it rides on: VGG16 at 32x32 and a perceptron."""

from __future__ import annotations

import measure

# isort: split
import statistics
from collections.abc import Callable

import numpy as np
import torch
from measure import Bench, Claim, processor_seconds
from torch import Tensor, nn

import nas_relucode as rc
from nas_relucode.capture import capture

WORK = "codes of {cells} samples"
CLAIMS = {
    "vgg16, head": Claim(
        f"{WORK}, VGG16 at 32x32, its head's 896 ReLUs", "its forward pass", 1 / 0.03, 256, 64, 1 / 0.03
    ),
    "vgg16, all": Claim(f"{WORK}, VGG16 at 32x32, all 277,376 ReLUs", "its forward pass", 1 / 0.05, 256, 64, 1 / 0.05),
    "perceptron": Claim(f"{WORK}, perceptron 784-512-256-128", "its forward pass", 1 / 0.06, 8_192, 8_192, 1 / 0.06),
}
HEAD = "512-256-128"
NETWORKS = {  # the shape of an image, the backbone, the samples in a batch
    "vgg16, head": ((3, 32, 32), "vgg16", 64),
    "vgg16, all": ((3, 32, 32), "vgg16", 64),
    "perceptron": ((1, 28, 28), "none", 512),
}
LAYERS = {"vgg16, head": "head", "vgg16, all": "all", "perceptron": "all"}


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    for name, (shape, backbone, batch) in NETWORKS.items():
        network = rc.build_network(HEAD, shape, 10, backbone=backbone).eval()
        # The values of the inputs do not change the time.
        inputs = torch.rand((bench.cells(name), *shape), generator=torch.Generator().manual_seed(0))
        measured(bench, name, network, inputs, LAYERS[name], batch)
    bench.finish()


def measured(bench: Bench, name: str, network: nn.Module, inputs: Tensor, layers: str, batch: int) -> None:
    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [network(part) for part in inputs.split(batch)]

    def ours() -> rc.Codes:
        return capture(network, inputs, layers=layers, batch_size=batch)

    if not np.array_equal(ours()[:batch].bits(), by_hooks(network, inputs[:batch], layers)):
        raise SystemExit(f"{bench.claims[name]}: hooks see other codes. No time was taken.")
    forward()
    alone, added = in_pairs(forward, ours, turns=3 if bench.quick else 25)
    bench.row(name, max(added, 1e-9), alone, f"{100 * added / alone:.1f} %; batches of {batch}")


def in_pairs(forward: Callable[[], object], ours: Callable[[], object], turns: int) -> tuple[float, float]:
    """The forward pass, and what ours adds to the one beside it: medians over the turns, each a few runs long."""
    alone, added = [], []
    repeats = max(1, round((0.3 if turns < 5 else 0.5) / processor_seconds(forward)))
    for turn in range(turns):
        first, second = (forward, ours) if turn % 2 else (ours, forward)
        seconds = [
            statistics.fmean(times)
            for times in zip(
                *((processor_seconds(first), processor_seconds(second)) for _ in range(repeats)), strict=True
            )
        ]
        with_forward, with_ours = seconds if turn % 2 else reversed(seconds)
        alone.append(with_forward)
        added.append(with_ours - with_forward)
    return statistics.median(alone), statistics.median(added)


def by_hooks(network: nn.Module, inputs: Tensor, layers: str) -> np.ndarray:
    """The bits of the network's nn.ReLU modules: all that these networks call."""
    bits: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: bits.append((output > 0).flatten(1)))
        for name, module in network.named_modules()
        if isinstance(module, nn.ReLU) and (layers == "all" or name.startswith(layers))
    ]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return torch.cat(bits, dim=1).numpy()


if __name__ == "__main__":
    main()
