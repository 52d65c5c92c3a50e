"""Your own CNN in your own Optuna study: which of the equally accurate networks to choose, and how sure one can be.

Run: python examples/plain_optuna.py. It takes about a minute on two cores.
"""

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

import nas_relucode as rc


def splits():
    """Scikit-learn's digits as tensors: train, validation and test, each (images, labels)."""
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(labels)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return [(images[part], labels[part]) for part in order.split([900, 450, 447])]


def build(trial, seed):
    torch.manual_seed(seed)
    channels = trial.suggest_int("channels", 4, 16, log=True)
    width = trial.suggest_categorical("width", [16, 32, 64])
    dropout = (
        trial.suggest_float("dropout", 0.0, 0.5) if trial.suggest_categorical("regularise", [True, False]) else 0.0
    )
    features = nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    head = nn.Sequential(nn.Linear(9 * channels, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))
    return nn.Sequential(features, head)


def fit(network, data, learning_rate, epochs, seed):
    images, labels = data
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network


def main(trials=12, epochs=10, seeds=(1, 2), folder="runs/plain_optuna"):
    train, validation, test = splits()
    record = rc.Recorder(train=train, validation=validation, test=test, objectives=["accuracy", "cell_count"])

    def objective(trial, seed=0):
        network = build(trial, seed)
        fit(network, train, trial.suggest_float("lr", 1e-3, 1e-2, log=True), epochs, seed)
        return record(trial, network, seed=seed)

    study = optuna.create_study(directions=record.directions, sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    rc.reseed(study, objective, seeds=seeds)  # the networks that are still in question, again
    chosen = rc.select(study)
    print(chosen)
    rc.write_report(study, folder)
    return chosen


if __name__ == "__main__":
    main()
