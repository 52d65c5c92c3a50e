"""A study whose process is killed during a trial continues when the same command is repeated."""

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import chdir
from dataclasses import dataclass

import pytest
from optuna.trial import FrozenTrial, TrialState
from small_studies import candidates, reread

from nas_relucode.cli.main import main
from nas_relucode.errors import InputError
from nas_relucode.study.runner import run_study
from nas_relucode.study.settings import load_settings

pytestmark = pytest.mark.slow  # tests/study/test_study.py has quick ones, of a trial that a dead process left running


@dataclass
class Killed:
    """A run that was killed in its third trial, and the same command repeated."""

    while_running: str  # the error of a second process
    at_death: list[FrozenTrial]
    trials: list[FrozenTrial]  # after the second run
    report: str
    exit_code: int


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "space.toml").write_text('heads = ["8", "4-4"]\nlearning_rates = [0.1, 0.01]\n')
    (folder / "own.toml").write_text(
        '[data]\nsource = "digits"\nclasses = [0, 1]\ntrain_samples = 60\nvalidation = 0.3\n'
        '[network]\nbackbone = "none"\n[training]\nepochs = 40\n[search]\nspace = "space.toml"\n'
    )
    command = ["run", "own.toml", "-v", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nas_relucode", *command],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    assert process.stderr is not None
    with process, process.stderr:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("trial 2, epoch 1:"):
                break
        else:
            pytest.fail(f"the run never came to its third trial: {''.join(lines)}")
        process.send_signal(signal.SIGSTOP)  # stopped, with its lock held
        with chdir(folder):
            with pytest.raises(InputError) as refused:
                run_study("own", load_settings("own.toml"), device="cpu")
            process.kill()
            assert process.wait() == -signal.SIGKILL
            guard.cancel()
            at_death = reread("sqlite:///runs/own/study.db")
            exit_code = main([*command[:2], "-q", *command[3:]])
            return Killed(
                str(refused.value),
                at_death,
                reread("sqlite:///runs/own/study.db"),
                (folder / "runs" / "own" / "report.md").read_text("utf-8"),
                exit_code,
            )


def test_a_killed_run_leaves_its_third_trial_running(killed: Killed):
    assert [trial.state for trial in killed.at_death[:3]] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.RUNNING,
    ]


def test_a_killed_run_finishes_every_candidate_once(killed: Killed):
    assert killed.exit_code == 0
    expected = [(None, head, rate) for head in ("8", "4-4") for rate in (0.1, 0.01)]
    assert Counter(candidates(killed.trials)) == Counter(expected)
    assert [trial.state for trial in killed.trials].count(TrialState.COMPLETE) == len(killed.trials) - 1
    assert killed.trials[:2] == killed.at_death[:2]


def test_the_killed_trial_is_failed_and_its_retry_names_it(killed: Killed):
    assert killed.trials[2].state == TrialState.FAIL
    (retry,) = [trial for trial in killed.trials if trial.user_attrs.get("retry_of") == 2]
    assert retry.params == killed.trials[2].params
    assert retry.state == TrialState.COMPLETE


def test_the_report_names_the_retry_of_the_killed_trial(killed: Killed):
    (retry,) = [trial.number for trial in killed.trials if "retry_of" in trial.user_attrs]
    trial = r"rial 2 \(head=4-4 learning_rate=0\.1(, seed 0)?\)"
    sentence = rf"{trial} failed or was interrupted and was retried as trial {retry}\."
    assert re.search(sentence, killed.report)


def test_a_second_process_is_refused_while_the_first_one_runs(killed: Killed):
    assert "another process" in killed.while_running
    assert "study.db" in killed.while_running
    assert "--storage" in killed.while_running
