"""A LightningModule in an Optuna study: Lightning trains it, the recorder scores it.

Run: pip install 'nas-relucode[lightning]', then python examples/lightning_module.py. It takes about a minute.
"""

from itertools import pairwise

import lightning
import optuna
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nas_relucode as rc


class Classifier(lightning.LightningModule):
    def __init__(self, width, depth, learning_rate):
        super().__init__()
        widths = [64] + [width] * depth
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))
        self.learning_rate = learning_rate

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, _):
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.learning_rate)


def main(trials=6, epochs=5, seeds=(1, 2)):
    data = rc.load_data("digits", validation=0.25)
    sets = {name: TensorDataset(part.inputs, part.labels) for name, part in
            {"train": data.train, "validation": data.validation, "test": data.test}.items()}  # fmt: skip
    loader = DataLoader(sets["train"], batch_size=32, shuffle=True)
    record = rc.Recorder(**sets, objectives=["accuracy", "cell_count"])

    def objective(trial, seed=0):
        lightning.seed_everything(seed, verbose=False)
        width, depth = trial.suggest_categorical("width", [8, 16, 32]), trial.suggest_int("depth", 1, 3)
        module = Classifier(width, depth, trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True))
        trainer = lightning.Trainer(
            max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(module, loader)
        return record(trial, module.network, seed=seed)

    study = optuna.create_study(directions=record.directions, sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    rc.reseed(study, objective, seeds=seeds)
    chosen = rc.select(study)
    print(chosen)
    return chosen


if __name__ == "__main__":
    main()
