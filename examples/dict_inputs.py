"""A small transformer with a dict of inputs (tokens and a mask): ``forward`` says how a batch enters the network.

The task: does the sequence hold more ones than twos? Run: python examples/dict_inputs.py. It takes about a minute.
"""

import optuna
import torch
from torch import nn

import nas_relucode as rc

LENGTH, TOKENS = 12, 6


def sequences(count, seed):
    """Token numbers with a mask of their lengths, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(TOKENS, (count, LENGTH), generator=generator)
    lengths = torch.randint(4, LENGTH + 1, (count, 1), generator=generator)
    mask = torch.arange(LENGTH) < lengths
    ones, twos = (((tokens == token) & mask).sum(dim=1) for token in (1, 2))
    return {"tokens": tokens, "mask": mask}, (ones > twos).long()


class Transformer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, tokens, mask):
        embedded = self.embedding(tokens)
        attended, _ = self.attention(embedded, embedded, embedded, key_padding_mask=~mask, need_weights=False)
        hidden = embedded + attended
        hidden = hidden + self.feed_forward(hidden)
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * weights).sum(dim=1))


def forward(network, batch):
    inputs, _ = batch  # the labels
    return network(inputs["tokens"], inputs["mask"])


def main(trials=6, epochs=8, samples=2000):
    train, validation, test = (sequences(samples, seed) for seed in (0, 1, 2))
    record = rc.Recorder(
        train=train,
        validation=validation,
        test=test,
        layers="head",
        objectives=["accuracy", "cell_count", "flops"],
        forward=forward,
    )

    def objective(trial, seed=0):
        torch.manual_seed(seed)
        width = trial.suggest_categorical("width", [8, 16])
        network = Transformer(width, trial.suggest_categorical("heads", [1, 2]), trial.suggest_int("hidden", 4, 32))
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        inputs, labels = train
        for _ in range(epochs):
            for batch in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                outputs = network(inputs["tokens"][batch], inputs["mask"][batch])
                nn.functional.cross_entropy(outputs, labels[batch]).backward()
                optimizer.step()
        return record(trial, network, seed=seed)

    study = optuna.create_study(directions=record.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=trials)
    chosen = rc.select(study)
    print(chosen)
    return chosen


if __name__ == "__main__":
    main()
