"""The series of `python -m tests.faults` loses nothing: a few signals to each command, and a few full disks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only for Linux")
def test_signals_and_full_disks_lose_nothing():
    command = [sys.executable, "-m", "tests.faults", "--moments", "2", "--sizes", "2"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| 0 | 0 |") + done.stdout.count("skipped") == 4 * 3 + 7
