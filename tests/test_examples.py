"""The programmes in examples/ run and end in a verdict."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {  # arguments that make them quick
    "plain_optuna": {"trials": 3, "epochs": 1, "seeds": (1,)},
    "dict_inputs": {"trials": 2, "epochs": 1, "samples": 200},
    "cell_space": {"trials": 3, "epochs": 1},
    "checkpoints": {"seeds": (0, 1), "epochs": 1},
    "lightning_module": {"trials": 2, "epochs": 1, "seeds": (1,)},
}


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_an_example_ends_in_a_verdict(name, tmp_path, monkeypatch, capsys):
    if name == "lightning_module":
        pytest.importorskip("lightning", reason="comes with the extra lightning")
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    chosen = module.main(**SMALL[name])
    assert chosen.best["network"] in capsys.readouterr().out
    assert len(chosen.networks) >= 1
