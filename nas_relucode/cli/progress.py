"""Progress of a study: bars for trials and epochs on a terminal, lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from nas_relucode.study.artifact_stores import artifact_store
from nas_relucode.study.candidates import SEED
from nas_relucode.study.record import record_of, saturated_objectives
from nas_relucode.study.runner import run_study
from nas_relucode.study.settings import StudySettings
from nas_relucode.training.loop import Epoch


def run_shown(
    name: str, settings: StudySettings, options: argparse.Namespace, *, storage: str, folder: Path
) -> tuple[optuna.Study, Progress]:
    """Runs what is left of a study as the options say, and shows the progress."""
    from nas_relucode.ranking.reseeding import further_trainings  # which `plan` can do without

    progress = Progress(options)
    study = run_study(
        name,
        settings,
        storage=storage,
        data_root=options.data_root,
        download=options.download,
        device=options.device,
        folder=folder,
        artifacts=artifact_store(options.artifacts),
        further=further_trainings,
        on_start=progress.start,
        on_epoch=progress.epoch,
        on_trial=progress.trial,
    )
    progress.close()
    return study, progress


class Progress:
    """Shows bars for trials and epochs on a terminal, lines elsewhere, nothing with --quiet."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.quiet, self.verbose = options.quiet, options.verbose
        self.bar: tqdm[Any] | None = None  # of the trials
        self.epochs: tqdm[Any] | None = None  # of the running trial's epochs

    def start(self, study: optuna.Study, size: int) -> None:
        """Shows how many of the study's ``size`` trials are done."""
        done = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]))
        if not self.quiet and sys.stderr.isatty():
            self.bar = tqdm(total=size, initial=done, desc=study.study_name, unit="trial", file=sys.stderr)
            epochs = study.user_attrs["settings"]["training"]["epochs"]
            self.epochs = tqdm(total=epochs, unit="epoch", position=1, leave=False, file=sys.stderr)
        else:
            self.say(f"study {study.study_name}: {done} of {size} trials are done")

    def epoch(self, number: int, epoch: Epoch, point: dict[str, Any]) -> None:
        """Shows an epoch of trial ``number``; ``point`` is that of the trial's curve."""
        quality = "validation_loss" if point["accuracy"] is None else "accuracy"
        value = math.nan if point[quality] is None else point[quality]
        summary = f"{quality.replace('_', ' ')} {value:.4f}, {point['joint']['cell_count']:.0f} cells"
        if self.epochs is not None:
            self.epochs.set_description(f"trial {number}")
            self.epochs.set_postfix_str(summary, refresh=False)
            self.epochs.n = epoch.number
            self.epochs.refresh()
        if self.verbose:
            self.say(f"trial {number}, epoch {epoch.number}: {summary}")

    def trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Shows the result of a finished trial, or the reason why it has none."""
        seed = {name: trial.user_attrs[name] for name in (SEED,) if name in trial.user_attrs}
        name = f"trial {trial.number}: " + ", ".join(f"{k} {v}" for k, v in (trial.params | seed).items())
        record = record_of(trial)
        if trial.state == TrialState.COMPLETE:
            values = ", ".join(f"{k} {v:.4g}" for k, v in zip(record["objectives"], trial.values, strict=True))
            self.say(f"{name}: {values} ({record['qualities']['seconds']:.1f} s)")
            if trial.number == 0:
                for sentence in saturated_objectives(record):
                    self.say(f"warning: {sentence}")
        else:
            reasons = [record[key] for key in ("pruned", "failed", "interrupted") if key in record]
            reason = reasons[0] if reasons else "another trial had completed the candidate already"
            self.say(f"{name}: {trial.state.name.lower()}, {reason}")
        if self.bar is not None and trial.state != TrialState.FAIL:
            self.bar.update()

    def close(self) -> None:
        for bar in (self.epochs, self.bar):
            if bar is not None:
                bar.close()

    def say(self, line: str) -> None:
        """Shows a line on standard error."""
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif not self.quiet:
            try:
                print(line, file=sys.stderr, flush=True)
            except BrokenPipeError:  # the reader of the lines has gone, which is no reason to end a study
                self.quiet, sys.stderr = True, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
