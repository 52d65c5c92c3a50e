"""The pages on other frameworks are true: each snippet runs as it stands, with the real package if there is one."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    "Any framework": "any-framework",
    "Scores at initialisation": "zero-cost",
    "Indices over the epochs": "epochs",
    "PyTorch Lightning": "lightning",
    "Ray Tune": "ray",
    "Ax": "ax",
    "Syne Tune": "syne-tune",
    "OptunaHub": "optunahub",
}
SNIPPETS = {
    title: code
    for title, file in FILES.items()
    for code in re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "how-to" / f"{file}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
}
PACKAGES = {
    "PyTorch Lightning": "lightning",
    "Ray Tune": "ray",
    "Ax": "ax",
    "Syne Tune": "syne_tune",
    "OptunaHub": "optunahub",
}


def wanted(title):
    """Skips the test where the package is not installed; does not import it, which takes some of them long."""
    spec = importlib.util.find_spec(PACKAGES[title])
    if spec is None or spec.origin is None:  # a folder of ours is called optunahub, too
        pytest.skip(f"{title} is not installed")


def printed_here(title, capsys):
    """What a snippet without a framework prints."""
    exec(compile(SNIPPETS[title], f"<{title}>", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


def output(title, folder):
    """What the snippet prints, run as a file of its own in ``folder``, which is its home too."""
    script = folder / "snippet.py"
    script.write_text(SNIPPETS[title])
    (folder / "optunahub").symlink_to(ROOT / "optunahub")
    # The machine's other processes are none of Ray's business, nor its home folder.
    more = {"HOME": str(folder), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    # A symlink called optunahub must not be imported in the package's place: the script's folder comes last.
    command = [sys.executable, "-P", str(script)]
    done = subprocess.run(command, cwd=folder, env=os.environ | more, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def test_every_page_has_a_snippet_that_is_run_here():
    assert list(SNIPPETS) == list(FILES)


def test_any_framework_is_given_numbers(capsys):
    lines = printed_here("Any framework", capsys).splitlines()
    assert 0 <= float(lines[0].split()[0]) <= 1
    epochs, sizes = zip(*(map(float, line.split()) for line in lines[1:]), strict=True)
    assert epochs == (1, 2, 3)
    assert sizes[0] == sizes[1] < sizes[2]


def test_scores_at_initialisation_are_printed(capsys):
    lines = printed_here("Scores at initialisation", capsys).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["logdet_kernel", "distinct_patterns", "cell_count"]
    assert float(lines[3]) == 1  # 16 images, 16 cells


def test_indices_over_the_epochs_are_printed(capsys):
    printed = printed_here("Indices over the epochs", capsys)
    assert "knn_accuracy" in printed
    assert printed.splitlines()[-1] == "[0, 2, 4]"


@pytest.mark.slow
def test_lightning_logs_the_indices(tmp_path):
    wanted("PyTorch Lightning")
    printed = output("PyTorch Lightning", tmp_path)
    assert re.search(r"^tensor\([0-9.]+\) 3$", printed, flags=re.MULTILINE)


@pytest.mark.slow
def test_ray_tune_runs_three_trials_with_two_objectives(tmp_path):
    wanted("Ray Tune")
    lines = [line for line in output("Ray Tune", tmp_path).splitlines() if line.startswith("{'head'")]
    assert len(lines) == 3
    for line in lines:
        accuracy, cells, cells_of_layer = map(float, line.split("}")[1].split())
        assert 0 < accuracy < 1 <= cells_of_layer <= cells


@pytest.mark.slow
def test_ax_runs_three_trials_with_two_objectives(tmp_path):
    wanted("Ax")
    assert output("Ax", tmp_path).count("COMPLETED") == 3


@pytest.mark.slow
def test_syne_tune_runs_three_trials_with_two_objectives(tmp_path):
    wanted("Syne Tune")
    table = output("Syne Tune", tmp_path).split("config_head")[1].splitlines()
    rows = [line.split() for line in table if re.match(r"\d ", line)]
    assert len(rows) == 3
    for _, head, rate, accuracy, cells in rows:
        assert head in ("16", "8-8")
        assert 0.01 <= float(rate) <= 0.3
        assert 0 < float(accuracy) < 1 <= float(cells)


@pytest.mark.slow
def test_the_package_for_optunahub_is_loaded_and_ranked(tmp_path):
    wanted("OptunaHub")
    assert "cell_count" in output("OptunaHub", tmp_path)
