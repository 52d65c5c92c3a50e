"""What is imported before anything is done, which takes longer than a small study's report."""

import subprocess
import sys


def loads(modules: str, other: str) -> bool:
    code = f"import {modules}, sys; sys.exit({other!r} in sys.modules)"
    return bool(subprocess.run([sys.executable, "-c", code], check=False).returncode)


def test_select_and_report_start_without_torch():
    """... whose import takes seconds and half a GiB."""
    assert not loads("nas_relucode.cli.report, nas_relucode.cli.select", "torch")


def test_a_study_starts_without_matplotlib():
    """... whose import takes a second in every worker."""
    assert not loads("nas_relucode.study.objective, nas_relucode.workers.worker", "matplotlib")
