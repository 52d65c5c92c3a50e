"""The command `score`: the library's numbers for any network on any images, and bad input."""

import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import NETWORK, refused
from reports_read_back import tables

from nas_relucode.cli.main import main
from nas_relucode.indices.registry import INDICES
from nas_relucode.scoring.scores import score
from nas_relucode.training.data import load_data
from nas_relucode.training.networks import build_network

MNIST = Path(__file__).parents[1] / "data" / "mnist.npz"
# The others take longer and are computed by name.
UNASKED = [name for name, index in INDICES.items() if not index.on_request]


def test_the_command_prints_the_numbers_of_the_library(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module(NETWORK.format(pixels=20, classes=3))
    assert main(["score", "--model", f"{model}:make", "--data", images, "-f", "json", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert set(printed) == {"train_accuracy", "split", "samples", "joint", "layers", "saturated"}
    expected = score(sys.modules[model].make(), load_data(images), held_out="test")
    assert printed == expected.as_dict()
    assert (printed["split"], printed["samples"]) == ("train", 30)
    assert list(printed["joint"]) == UNASKED
    assert set(printed["layers"]) == {"2"}


def test_indices_of_polyhedra_are_scored_by_name_and_by_module(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    name = module(NETWORK.format(pixels=20, classes=3).replace("nn.Flatten()", "nn.Flatten(), nn.Tanh()"))
    words = ["score", "--model", f"{name}:make", "--data", images, "--device", "cpu"]
    assert "tanh" in refused(capsys, *words, "--indices", "facet_count", "margin_mean_correct")
    network = module(NETWORK.format(pixels=20, classes=3).replace("nn.ReLU()", "nn.Sequential(nn.ReLU())"))
    words[2] = f"{network}:make"
    assert main([*words, "--indices", "facet_count", "margin_mean_correct", "--module", "2", "-f", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)["joint"]
    assert printed["facet_count"] == 6  # of an orthant: six neurons, in the space of what the ReLU is given
    assert printed["margin_mean_correct"] >= 0


def test_a_table_is_the_default_format(images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]):
    model = module(NETWORK.format(pixels=20, classes=3))
    assert main(["score", "--model", f"{model}:make", "--data", images, "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    ((*rows,),) = tables(captured.out)
    assert [row["index"] for row in rows] == UNASKED
    assert set(rows[0]) == {"index", "joint", "2"}
    expected = score(sys.modules[model].make(), load_data(images), held_out="test")
    assert f"train_accuracy {expected.accuracy:.4f} on 30 samples (train)" in captured.out
    by_name = {row["index"]: row for row in rows}
    assert float(by_name["cell_count"]["joint"].rstrip("*")) == expected.joint["cell_count"]
    starred = {row["index"] for row in rows if row["joint"].endswith("*")}
    assert starred == set(expected.saturated["joint"])
    assert captured.err == ""


def test_the_table_of_one_index_and_a_layer_with_a_short_name_is_a_table(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module("import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())")
    arguments = ["--data", images, "--indices", "component_count", "--graph-theta", "20", "--device", "cpu"]
    assert main(["score", "--model", f"{model}:make", *arguments]) == 0
    rule = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| :-")]
    assert len(rule) == 1
    assert all(re.fullmatch(r":?-+:?", cell.strip()) for cell in rule[0].strip("|").split("|"))


@pytest.mark.parametrize(("split", "samples"), [("train", 30), ("test", 12), ("all", 42)])
def test_score_uses_the_whole_splits_of_a_file(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], split: str, samples: int
):
    model = module(NETWORK.format(pixels=20, classes=3))
    arguments = ["--model", f"{model}:make", "--data", images, "--split", split, "-f", "json", "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["split"], printed["samples"]) == (split, samples)


def test_score_takes_layers_and_indices(here: Path, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]):
    model = module(
        "from nas_relucode import build_network\n"
        "def make():\n    return build_network('6-5-4', (1, 8, 8), 10, backbone='small_conv')\n"
    )
    chosen = ["--layers", "backbone", "head.3", "--indices", "edge_count", "cell_count", "--split", "test"]
    arguments = ["--model", f"{model}:make", "--data", "digits", *chosen, "-f", "json", "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["layers"]) == ["backbone.1", "backbone.3", "head.3"]
    assert all(
        list(values) == ["edge_count", "cell_count"] for values in (printed["joint"], *printed["layers"].values())
    )


def test_score_takes_the_weights_of_a_file(
    here: Path, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module(
        "from nas_relucode import build_network\n"
        "def make():\n    return build_network('6', (1, 8, 8), 10, backbone='none')\n"
    )
    trained = build_network("6", (1, 8, 8), 10, backbone="none", seed=5)
    torch.save(trained.state_dict(), "weights.pt")
    arguments = ["--model", f"{model}:make", "--data", "digits", "-f", "json", "--device", "cpu"]
    assert main(["score", *arguments]) == 0
    without = json.loads(capsys.readouterr().out)
    assert main(["score", *arguments, "--weights", "weights.pt"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == score(trained, load_data("digits"), held_out="test").as_dict() != without


def test_random_weights_are_drawn_from_the_seed(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module(NETWORK.format(pixels=20, classes=3).replace("torch.manual_seed(0)", ""))
    words = ["score", "--model", f"{model}:make", "--data", images, "--device", "cpu", "-f", "json"]
    printed = []
    for seed in (["--seed", "0"], [], ["--seed", "1"]):
        torch.rand(1)  # whoever drew before does not matter
        assert main([*words, *seed]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2]


def test_a_network_that_is_not_a_classifier_has_no_accuracy(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module("import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU(),"
                   " torch.nn.Unflatten(1, (5, 4)))")  # fmt: skip
    assert main(["score", "--model", f"{model}:make", "--data", images, "--device", "cpu"]) == 0
    assert "accuracy none on 30 samples" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "all"])
def test_score_runs_torchvisions_networks_on_real_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split: str
):
    monkeypatch.chdir(tmp_path)
    with np.load(MNIST) as file:
        few = {key: file[key][..., None].repeat(3, axis=3) if key[0] == "x" else file[key] for key in file}
    np.savez("few.npz", **few)
    arguments = ["--model", "torchvision.models:resnet18", "--data", "few.npz", "--layers", "layer4"]
    assert main(["score", *arguments, "--split", split, "-f", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["samples"] == {"test": 100, "all": 400}[split]
    assert list(printed["layers"]) == [
        "layer4.0.relu", "layer4.0.relu#2", "layer4.1.relu", "layer4.1.relu#2"
    ]  # fmt: skip


def test_what_a_module_prints_does_not_spoil_the_json(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    chatty = NETWORK.replace("def make():", "print('loading')\n\ndef make():\n    print('making')")
    model = module(chatty.format(pixels=20, classes=3))
    assert main(["score", "--model", f"{model}:make", "--data", images, "-f", "json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 30


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--indices", "cells"], ["unknown index 'cells'", "cell_count"]),
        (["--layers", "tail"], ["tail", "all, 2"]),
        (["--module", "1", "--indices", "cell_count"], ["module '1'", "of margin_mean_correct"]),
        (["--mode", "training"], ["unknown value 'training' for mode", "eval, train"]),
        (["--also", "relu"], ["unknown smooth activation 'relu'", "gelu"]),
        (["--split", "valid"], ["unknown split 'valid'", "train"]),
        (["--split", "validation"], ["--split", "train, test or all"]),
        (["--data", "digit"], ["unknown data 'digit'", "digits, mnist, cifar10"]),
        (["--data", "nosuch.npz"], ["nosuch.npz", "there is no such file"]),
        (["--classes", "0", "cat"], ["unknown class 'cat'", "0, 1, 2"]),
        (["--classes", "0"], ["classes", "two or more"]),
        (["--image-size", "0"], ["image_size 0"]),
        (["--image-size", "7"], ["7 x 7", "--image-size"]),
        (["--batch-size", "0"], ["batch size 0"]),
        (["--graph-theta", "-1"], ["theta", "-1"]),
        (["--distance-theta", "-1"], ["theta", "-1"]),
        (["--device", "abacus"], ["device 'abacus'"]),
        (["--model", "torchvision.models"], ["torchvision.models", "package.module:factory"]),
        (["--model", "nosuchmodule:make"], ["nosuchmodule:make", "No module named"]),
        (["--model", "torchvision.models:nosuch"], ["torchvision.models:nosuch", "nosuch"]),
        (["--model", "os:getcwd"], ["os:getcwd", "torch.nn.Module"]),
        (["--model", "sys:platform"], ["sys:platform", "function that returns a network"]),
        (["--model", "torch.nn:Identity"], ["no ReLU", "Identity"]),
        (["--weights", ""], ["--weights", "empty"]),
        (["--seed", "-1"], ["seed -1"]),
        (["--weights", "nosuch.pt"], ["nosuch.pt"]),
        (["--weights", "images.npz"], ["images.npz", "torch.save"]),
        (["--weights", "empty.pt"], ["empty.pt", "torch.save"]),
        (["--weights", "other.pt"], ["other.pt", "torch.save"]),
        (["--weights", "tensor.pt"], ["tensor.pt", "torch.save"]),
        (["--format", "yaml"], ["yaml", "table"]),
        (["--image-size", "big"], ["big", "--image-size"]),
    ],
)
def test_bad_input_is_refused(
    images: str,
    module: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    messages: list[str],
):
    torch.save(torch.nn.Linear(2, 2).state_dict(), "other.pt")
    torch.save(torch.zeros(3), "tensor.pt")
    Path("empty.pt").touch()
    model = module(NETWORK.format(pixels=20, classes=3))
    error = refused(capsys, "score", "--model", f"{model}:make", "--data", images, "--device", "cpu", *arguments)
    assert [message for message in messages if message not in error] == [], error


def test_labels_that_the_network_has_no_output_for_are_refused(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    model = module(NETWORK.format(pixels=20, classes=2))
    message = refused(capsys, "score", "--model", f"{model}:make", "--data", images, "--device", "cpu")
    assert "the largest is 2, but the network has 2 outputs" in message


@pytest.mark.parametrize(
    "raised",
    ["RuntimeError('needs 32 x 32')", "RuntimeError()", "ValueError('needs 32 x 32')", "AssertionError('needs 32')"],
)
def test_a_network_that_fails_on_the_images_is_named_with_their_shape(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], raised: str
):
    model = module(
        f"from torch import nn\nclass Picky(nn.Module):\n    def forward(self, x):\n        raise {raised}\n"
    )
    message = refused(capsys, "score", "--model", f"{model}:Picky", "--data", images, "--device", "cpu")
    assert f"{model}:Picky" in message
    assert "1 x 5 x 4" in message


@pytest.mark.parametrize("text", ["1 / 0", "import nosuchmodule", "def make(:", "raise RuntimeError", "exit(3)"])
def test_a_module_that_cannot_be_imported_is_named(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str], text: str
):
    model = module(text)
    assert model in refused(capsys, "score", "--model", f"{model}:make", "--data", images, "--device", "cpu")
    assert str(Path.cwd()) not in sys.path


def test_weights_that_would_run_code_are_refused_and_run_nothing(
    images: str, module: Callable[[str], str], capsys: pytest.CaptureFixture[str]
):
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("it-ran",)

    model = module(NETWORK.format(pixels=20, classes=3))
    torch.save({"0.weight": Trap()}, "saved.pt")
    Path("pickled.pt").write_bytes(pickle.dumps(Trap()))
    for file in ("saved.pt", "pickled.pt"):
        arguments = ["--model", f"{model}:make", "--data", images, "--weights", file, "--device", "cpu"]
        assert file in refused(capsys, "score", *arguments)
        assert not Path("it-ran").exists()
    with Path("pickled.pt").open("rb") as opened:  # the trap works
        pickle.load(opened)
    assert Path("it-ran").is_dir()


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"x_train": np.array([{}, 1] * 3, dtype=object)}, ["cannot be read", "Python objects"]),
        ({"y_test": None}, ["has no y_test", "x_train, y_train, x_test, y_test"]),
        ({"y_train": np.zeros(6)}, ["y_train", "float64", "integers"]),
        ({"y_train": np.array([0, 1, 2, 0, 1])}, ["6 images but 5 labels"]),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, ["y_train", "-1"]),
        ({"y_test": np.array([0, 1, 2, 0, 1, 3])}, ["y_test", "0..3"]),
        ({"x_train": np.zeros((6, 5, 4))}, ["x_train", "float64", "uint8"]),
        ({"x_train": np.zeros((6, 5, 4, 2), np.uint8)}, ["x_train", "(6, 5, 4, 2)", "1 or 3 channels"]),
        ({"x_test": np.zeros((6, 3, 3), np.uint8)}, ["different shapes"]),
    ],
)
def test_an_npz_file_that_holds_something_else_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], messages: list[str]
):
    images, labels = np.zeros((6, 5, 4), np.uint8), np.array([0, 1, 2] * 2)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels} | change
    np.savez("wrong.npz", **{key: array for key, array in arrays.items() if array is not None}, allow_pickle=True)
    error = refused(capsys, "score", "--model", "torch.nn:ReLU", "--data", "wrong.npz", "--device", "cpu")
    assert [message for message in ["wrong.npz", *messages] if message not in error] == [], error
