"""A cell-based search space (the operations and the cell of NAS-Bench-201) searched by NSGA-II.

Six edges, each with one of five operations; the number of cells per stage and the width are fixed. Run:
python examples/cell_space.py. It takes a few minutes on two cores.
"""

import optuna
import torch
from torch import nn

import nas_relucode as rc

OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "pool3x3")
EDGES = [(source, target) for target in range(1, 4) for source in range(target)]


class Nothing(nn.Module):
    def forward(self, inputs):
        return torch.zeros_like(inputs)


def convolution(channels, size):
    layers = nn.Conv2d(channels, channels, size, padding=size // 2, bias=False), nn.BatchNorm2d(channels)
    return nn.Sequential(nn.ReLU(), *layers)


def operation(name, channels):
    return {
        "none": Nothing,
        "skip": nn.Identity,
        "conv1x1": lambda: convolution(channels, 1),
        "conv3x3": lambda: convolution(channels, 3),
        "pool3x3": lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
    }[name]()


class Cell(nn.Module):
    """Four nodes; each is the sum of the operations on the edges that end in it."""

    def __init__(self, names, channels):
        super().__init__()
        self.edges = nn.ModuleList(operation(name, channels) for name in names)

    def forward(self, inputs):
        nodes = [inputs]
        for target in range(1, 4):
            edges = [(edge, source) for edge, (source, end) in enumerate(EDGES) if end == target]
            nodes.append(sum(self.edges[edge](nodes[source]) for edge, source in edges))
        return nodes[-1]


def build(names, classes, channels=8):
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        Cell(names, channels),
        nn.MaxPool2d(2),
        Cell(names, channels),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, 16),
        nn.ReLU(),
        nn.Linear(16, classes),
    )


def main(trials=24, epochs=5):
    data = rc.load_data("digits", validation=0.25)
    record = rc.Recorder(
        train=data.train,
        validation=data.validation,
        test=data.test,
        objectives=["accuracy", "cell_count", "parameters"],
    )

    def objective(trial, seed=0):
        names = [trial.suggest_categorical(f"edge_{source}{target}", OPERATIONS) for source, target in EDGES]
        torch.manual_seed(seed)
        network = build(names, len(data.classes))
        rc.train(network, data.train, learning_rate=0.05, recipe=rc.Recipe(epochs=epochs, momentum=0.9), seed=seed)
        return record(trial, network, seed=seed)

    sampler = optuna.samplers.NSGAIISampler(population_size=8, seed=0)
    study = optuna.create_study(directions=record.directions, sampler=sampler)
    study.optimize(objective, n_trials=trials)
    chosen = rc.select(study)
    print(chosen)
    return chosen


if __name__ == "__main__":
    main()
