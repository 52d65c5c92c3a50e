"""How long the command line takes to answer where nothing is computed, against importing torch."""

from __future__ import annotations

import measure

# isort: split
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import optuna
from measure import Claim

from nas_relucode.study.settings import load_settings
from nas_relucode.study.storage import default_storage

TIMES = 5
PEER = "python -c 'import torch'"
COMMANDS = {
    "help": "--help",
    "version": "--version",
    "help of a command": "score --help",
    "typing error": "statsu digits",
    "list": "list",
    "status": "status digits",
}
CLAIMS = {name: Claim(f"nas-relucode {words}", PEER, 2) for name, words in COMMANDS.items()}


def main() -> None:
    measured = f"New processes, in turns; processor time, medians of {TIMES}, one thread each."
    bench = measure.bench(__file__, __doc__, CLAIMS, measured)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "runs", "digits").mkdir(parents=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = default_storage("digits").replace("///", f"///{folder}/")
        study = optuna.create_study(study_name="digits", storage=storage)
        study.set_user_attr("settings", load_settings("digits").as_dict())
        lines = {name: ["-m", "nas_relucode", *words.split()] for name, words in COMMANDS.items()}
        lines |= {PEER: ["-c", "import torch"]}
        seconds: dict[str, list[float]] = {name: [] for name in lines}
        for _ in range(TIMES):
            for name, arguments in lines.items():
                seconds[name].append(seconds_of(arguments, folder))
    for name in COMMANDS:
        bench.row(name, statistics.median(seconds[name]), statistics.median(seconds[PEER]))
    bench.finish()


def seconds_of(arguments: Sequence[str], folder: str) -> float:
    """The processor time of a new Python."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=False)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
