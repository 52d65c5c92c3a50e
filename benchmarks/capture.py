"""What taking codes adds to the forward passes that it rides on: VGG16 at 32x32 and a perceptron."""

from __future__ import annotations

import measure

# isort: split
import gc
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from measure import Bench, Claim
from torch import Tensor, nn

import nas_relucode as rc
from nas_relucode import capture

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
TURNS = {"vgg16, head": 25, "vgg16, all": 25, "perceptron": 100}
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
    parts = inputs.split(batch)
    if not np.array_equal(capture(network, parts, layers=layers)[:batch].bits(), by_hooks(network, parts[0], layers)):
        raise SystemExit(f"{bench.claims[name]}: hooks see other codes. No time was taken.")
    turns = [one_turn(network, parts, layers) for _ in range(3 if bench.quick else TURNS[name])]
    alone, with_codes = (np.array(seconds) for seconds in zip(*turns, strict=True))
    total = np.median(alone, axis=0).sum()
    added = np.median(with_codes - alone, axis=0).sum()
    bench.row(name, max(added, 1e-9), total, f"{100 * added / total:.1f} %; batches of {batch}, {len(turns)} runs")


def one_turn(network: nn.Module, parts: Sequence[Tensor], layers: str) -> tuple[list[float], list[float]]:
    """Seconds of each batch, alone and with its codes, one right after the other: the machine's pace changes slowly.

    What is run alone beside a batch is another one of the same size, so that neither finds its inputs in the cache.
    """
    alone, with_codes = list[float](), list[float]()

    def forward(number: int) -> None:
        start = time.process_time()
        with torch.no_grad():
            network(parts[number])
        alone.append(time.process_time() - start)

    def in_turn() -> Iterator[Tensor]:
        nonlocal start
        for number, part in enumerate(parts):
            with_codes.append(time.process_time() - start)  # what it did since the batch before was given
            forward((number + len(parts) // 2) % len(parts))
            start = time.process_time()
            yield part
        with_codes.append(time.process_time() - start)
        start = time.process_time()

    gc.collect()
    gc.disable()
    start = time.process_time()
    capture(network, in_turn(), layers=layers)
    end = time.process_time() - start
    gc.enable()
    before, *with_codes = with_codes
    with_codes[0] += before
    with_codes[-1] += end
    return alone, with_codes


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
