"""The command `compare`: the library's verdict on files of weights, and bad input."""

import importlib
import json
import sys

import pytest
import torch
from command_line import NETWORK, refused

import nas_relucode as rc
from nas_relucode.cli.compare import read_weights
from nas_relucode.cli.main import main
from nas_relucode.errors import InputError

pytestmark = pytest.mark.usefixtures("without_figure")


@pytest.fixture
def weights(images, module, tmp_path, monkeypatch):
    """The module of a factory, and the state dicts of two networks with two seeds each, below the current folder."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = module(NETWORK.format(pixels=20, classes=3))
    importlib.import_module(name)
    for network in ("a", "b"):
        (tmp_path / network).mkdir()
        for seed in (0, 1):
            torch.manual_seed(ord(network) + seed)
            torch.save(sys.modules[name].make().state_dict(), tmp_path / network / f"{seed}.pt")
    return name


FILES = ["a/0.pt", "a/1.pt", "b/0.pt", "b/1.pt"]


def words(model: str, images: str, *files: str) -> list[str]:
    return ["compare", "--model", f"{model}:make", "--data", images, "--device", "cpu", "--weights", *files]


def test_the_command_prints_the_verdict_of_the_library_and_writes_the_page(weights, images, tmp_path, capsys):
    assert main([*words(weights, images, *FILES), "-f", "json", "--out", "page", "--by", "parameters"]) == 0
    printed = json.loads(capsys.readouterr().out)
    networks = {}
    for name in ("a", "b"):
        networks[name] = {seed: sys.modules[weights].make() for seed in (0, 1)}
        for seed, network in networks[name].items():
            network.load_state_dict(torch.load(tmp_path / name / f"{seed}.pt", weights_only=True))
    expected = rc.compare(networks, rc.load_data(images), by=["parameters"])
    assert printed == json.loads(json.dumps(expected.as_dict()))
    assert "a" in (tmp_path / "page" / "report.html").read_text("utf-8")


def test_a_table_is_the_default_and_qualities_are_measured_where_they_order(weights, images, capsys):
    assert main([*words(weights, images, *FILES), "--by", "flops", "--rule", "margin"]) == 0
    assert "Choose" in capsys.readouterr().out


def test_a_network_may_have_a_model_of_its_own(weights, images, module, tmp_path, capsys):
    wide = module(NETWORK.format(pixels=20, classes=3).replace("6", "9"))
    importlib.import_module(wide)
    torch.save(sys.modules[wide].make().state_dict(), tmp_path / "wide.pt")
    command = [*words(weights, images, "a/0.pt", "w=wide.pt"), "--model", f"w={wide}:make", "-f", "json"]
    assert main(command) == 0
    assert {row["network"] for row in json.loads(capsys.readouterr().out)["finalists"]} <= {"a", "w"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--weights", "none.pt"], ["none.pt"]),
        (["--weights", "c="], ["'c='", "NAME=FILE"]),
        (["--model", "a="], ["model ''"]),
        (["--weights", "a=b/0.pt", "a/0=b/1.pt"], ["a", "twice"]),
        (["--model", "c=somewhere:make"], ["c"]),
        (["--model", "a:make"], ["NAME=MODEL"]),
        (["--layers", "none"], ["none"]),
        (["--margin", "2"], ["margin"]),
        (["--by", "speed"], ["speed"]),
    ],
)
def test_bad_input_is_refused(weights, images, capsys, change, named):
    said = refused(capsys, *words(weights, images, "a/0.pt", "b/0.pt"), *change)
    assert all(word in said for word in named)


@pytest.mark.parametrize("output", ["a/0.pt", "a/0.pt/below"])
def test_an_output_that_is_a_file_is_refused_before_anything_is_measured(weights, images, capsys, monkeypatch, output):
    monkeypatch.setattr("nas_relucode.cli.compare.compare", lambda *given, **settings: pytest.fail("measured"))
    assert "a/0.pt is a file" in refused(capsys, *words(weights, images, "a/0.pt"), "--output", output)


def test_weights_that_are_code_are_not_run(weights, images, tmp_path, capsys):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "whole.pt")
    assert "whole.pt" in refused(capsys, *words(weights, images, "whole.pt"))


def test_names_and_seeds_are_read_off_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x=1.pt").touch()
    texts = ["runs/wide/3.pt", "runs/wide-seed4.pt", "head=8_seed=2.pt", "x=1.pt", "deep=old.pt", "deep/7=new.pt"]
    assert read_weights(texts) == {
        "wide": {3: "runs/wide/3.pt", 4: "runs/wide-seed4.pt"},
        "head=8": {2: "head=8_seed=2.pt"},
        "x=1": {0: "x=1.pt"},
        "deep": {0: "old.pt", 7: "new.pt"},
    }
    with pytest.raises(InputError, match=r"a/0.pt.*b/a_seed0.pt"):
        read_weights(["a/0.pt", "b/a_seed0.pt"])
