"""docs/scale.md is true: its commands are understood, its example runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nas_relucode.cli.main import main

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text("utf-8")
EXAMPLE = re.search(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL).group(1)


@pytest.mark.parametrize("command", re.findall(r"`((?:plan|worker) [^`]*--[^`]*)`", PAGE))
def test_every_option_that_the_page_names_is_there(command: str, capsys: pytest.CaptureFixture[str]):
    words = shlex.split(command)
    with pytest.raises(SystemExit):
        main([words[0], "--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    named = {word for word in words if word.startswith("--")}
    assert named
    assert named <= known


@pytest.mark.slow
def test_the_example_makes_equal_files_by_one_process_and_by_two(tmp_path: Path):
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", EXAMPLE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
