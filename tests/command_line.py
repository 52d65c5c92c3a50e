"""The command line from the outside: a small study to run, a network to score, and what is said on a refusal."""

import subprocess
import sys
from pathlib import Path

import pytest

from nas_relucode.cli.main import main

SPACE = 'heads = ["8", "4-4"]\nlearning_rates = [0.1]\n'
STUDY = """\
description = "tiny"

[data]
source = "digits"
classes = [0, 1]
train_samples = 100
validation = 0.3

[network]
backbone = "none"

[training]
epochs = 2
batch_size = 35

[search]
space = "space.toml"
"""
NETWORK = """\
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear({pixels}, 6), nn.ReLU(), nn.Linear(6, {classes}))
"""


def write_study(folder: Path) -> None:
    """The small study, own.toml, and the search space that it names."""
    (folder / "space.toml").write_text(SPACE)
    (folder / "own.toml").write_text(STUDY)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """What is said on stderr when a command can't be carried out; nothing stands on stdout, no traceback anywhere."""
    try:
        exit_code = main(list(arguments))
    except SystemExit as error:  # argparse's own
        exit_code = error.code
    captured = capsys.readouterr()
    assert exit_code == code, captured.err
    assert captured.out == "", captured.out
    assert "error: " in captured.err, captured.err
    assert "Traceback" not in captured.err, captured.err
    return captured.err


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own in ``folder``."""
    command = [sys.executable, "-m", "nas_relucode", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
