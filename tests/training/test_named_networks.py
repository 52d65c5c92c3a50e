"""Networks by name: anybody's factory, torchvision's classifiers, weights from a file, and what is refused."""

import urllib.error

import pytest
import torch
import torchvision

from nas_relucode.errors import InputError
from nas_relucode.training.networks import network_by_name, torchvision_names


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "googlenet", "squeezenet1_1"])
def test_a_classifier_of_torchvision_has_as_many_outputs_as_classes(name):
    network = network_by_name(name, classes=7).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_without_classes_there_are_a_thousand():
    assert network_by_name("squeezenet1_1")(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_only_classifiers_are_named():
    assert "resnet18" in torchvision_names()
    assert not [name for name in torchvision_names() if "rcnn" in name or "quantized" in name or "segment" in name]


def test_a_factory_is_called_and_its_weights_are_read(module, here):
    name = module(
        "from torch import nn\nprint('hello')\ndef make(): return nn.Sequential(nn.Linear(2, 3), nn.ReLU())\n"
    )
    torch.manual_seed(0)
    saved = torch.nn.Sequential(torch.nn.Linear(2, 3))
    torch.save(saved.state_dict(), here / "weights.pt")
    network = network_by_name(f"{name}:make", weights=str(here / "weights.pt"))
    assert torch.equal(network[0].weight, saved[0].weight)


def test_what_a_module_prints_is_not_among_the_results(module, capsys):
    network_by_name(f"{module('import torch; print(1); make = torch.nn.ReLU')}:make")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "1\n")


def test_weights_of_torchvision_from_a_file(here):
    saved = torchvision.models.resnet18(num_classes=3)
    torch.save(saved.state_dict(), "weights.pt")
    network = network_by_name("resnet18", weights="weights.pt", classes=3)
    assert torch.equal(network.fc.weight, saved.fc.weight)
    with pytest.raises(InputError, match=r"weights.pt does not hold the weights of resnet18 .*size mismatch|resnet18"):
        network_by_name("resnet18", weights="weights.pt", classes=4)


def test_imagenet_weights_are_torchvision_s_default(monkeypatch):
    asked = []

    def own_weights(self, *args, **settings):
        asked.append(self)
        return torchvision.models.squeezenet1_1().state_dict()

    monkeypatch.setattr(torchvision.models.SqueezeNet1_1_Weights, "get_state_dict", own_weights)
    network = network_by_name("squeezenet1_1", weights="imagenet", classes=10)
    assert asked == [torchvision.models.SqueezeNet1_1_Weights.DEFAULT]
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_imagenet_weights_that_cannot_be_downloaded_are_refused_with_the_reason(monkeypatch, tmp_path, capsys):
    def refused(*args, **settings):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refused)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        InputError, match=r"ImageNet weights of squeezenet1_1 cannot be downloaded .*no network.* Put https://"
    ):
        network_by_name("squeezenet1_1", weights="imagenet")
    assert capsys.readouterr().out == ""  # it is for results


def test_a_file_that_does_not_hold_the_weights_is_refused_with_a_reason_on_one_line(here):
    torch.save(torch.nn.Linear(2, 3).state_dict(), "other.pt")
    torch.save(torch.nn.ReLU(), "whole.pt")
    (here / "text.pt").write_text("hello")
    (here / "empty.pt").touch()
    more = "it was not written by torch.save, or holds more than tensors"
    reasons = {"other.pt": "Missing key", "whole.pt": more, "text.pt": more, "empty.pt": more}
    for file, reason in reasons.items():
        with pytest.raises(InputError, match=reason) as refused:
            network_by_name("squeezenet1_1", weights=file, classes=2)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("resnet81", {}, "'resnet81' is neither package.module:factory, .* e.g. resnet18, "),
        ("vgg", {}, "nor one of torchvision's classifiers"),
        (":make", {}, "is neither package.module:factory"),
        ("torch.nn:", {}, "is neither package.module:factory"),
        ("no_such_module:make", {}, "cannot be imported .ModuleNotFoundError"),
        ("torch.nn:no_such_thing", {}, "cannot be imported .AttributeError"),
        ("math:factorial", {}, "could not be built .TypeError"),
        ("builtins:dict", {}, "returns a dict. It must return a torch.nn.Module"),
        ("torch.nn:ReLU", {"weights": "imagenet"}, "imagenet weights are torchvision's"),
        ("resnet18", {"weights": ""}, "'' names no file"),
        ("resnet18", {"classes": 0}, "outputs 0"),
        ("resnet18", {"seed": -1}, "seed -1 is out of range"),
        ("resnet18", {"weights": "no_such_file"}, "no_such_file cannot be read: there is no such file"),
    ],
)
def test_a_model_that_does_not_name_a_network_is_refused(model, settings, message):
    with pytest.raises(InputError, match=message):
        network_by_name(model, **settings)
