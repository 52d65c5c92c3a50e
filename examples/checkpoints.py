"""Networks that come from anywhere, here a folder of checkpoints: the same verdict and page, without a study.

Run: python examples/checkpoints.py. It trains nine small networks, saves and compares them.
"""

from pathlib import Path

import torch

import nas_relucode as rc

HEADS = ("32", "16-16", "64-32")


def train_and_save(folder, data, seeds, epochs):
    """Stands for what you have: weights of several networks, each trained with several seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    for head in HEADS:
        for seed in seeds:
            network = rc.build_network(head, data.image_shape, len(data.classes), backbone="none", seed=seed)
            rc.train(network, data.train, learning_rate=0.05, recipe=rc.Recipe(epochs=epochs, momentum=0.9), seed=seed)
            torch.save(network.state_dict(), folder / f"{head}_seed{seed}.pt")


def load_all(folder, data, seeds):
    """Name of a network -> seed -> the network."""
    networks = {}
    for head in HEADS:
        for seed in seeds:
            network = rc.build_network(head, data.image_shape, len(data.classes), backbone="none")
            network.load_state_dict(torch.load(folder / f"{head}_seed{seed}.pt", weights_only=True))
            networks.setdefault(head, {})[seed] = network
    return networks


def main(folder="runs/checkpoints", seeds=(0, 1, 2), epochs=10):
    data = rc.load_data("digits", validation=0.25)
    train_and_save(Path(folder), data, seeds, epochs)
    chosen = rc.compare(load_all(Path(folder), data, seeds), data)
    print(chosen)
    return chosen


if __name__ == "__main__":
    main()
