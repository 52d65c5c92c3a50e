"""Networks are built and trained of what they need, and anything else is refused by name, before it changes them."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.training.data import Split
from nas_relucode.training.loop import accuracy, evaluate, train
from nas_relucode.training.networks import build_autoencoder, build_network
from nas_relucode.training.recipe import Recipe

INPUTS, LABELS = torch.eye(4), torch.tensor([0, 1, 2, 0])
DATA, RECIPE = Split(INPUTS, LABELS), Recipe(epochs=1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((16, (1, 8, 8), 10), {}, "head 16"),
        (("16", 64, 10), {}, "image_shape is 64"),
        (("16", (8, 8), 10), {}, r"image_shape is \(8, 8\)"),
        (("16", (1, 0, 8), 10), {}, "a size of image_shape 0"),
        (("16", (1, 8.0, 8), 10), {}, "a size of image_shape 8.0"),
        (("16", (1, 8, 8), "10"), {}, "classes '10'"),
        (("16", (1, 8, 8), 10), {"width": "a"}, "width 'a'"),
        (("16", (1, 8, 8), 10), {"seed": 2**70}, f"seed {2**70} is out of range"),
        (("16", (1, 8, 8), 10), {"seed": "s"}, "seed 's'"),
    ],
)
def test_networks_are_built_of_sizes(arguments, options, message):
    with pytest.raises(InputError, match=message):
        build_network(*arguments, backbone="none", **options)


def test_autoencoders_are_built_of_sizes():
    with pytest.raises(InputError, match="head 16"):
        build_autoencoder((1, 8, 8), head=16)
    with pytest.raises(InputError, match="image_shape is 64"):
        build_autoencoder(64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": (INPUTS, LABELS)}, "the data are a tuple"),
        ({"data": Split(INPUTS, LABELS + 2)}, r"labels go from 2 to 4, .* shape \(4, 3\)"),
        ({"data": Split(INPUTS, LABELS - 1)}, "labels go from -1 to 1"),
        ({"seed": 2**70}, f"seed {2**70} is out of range"),
        ({"seed": "a"}, "seed 'a'"),
        ({"resume": 3}, "the state to resume from is an int"),
        ({"learning_rate": "a"}, "learning rate 'a'"),
        ({"recipe": 3}, "the recipe is an int"),
        ({"network": 3}, "the network is an int"),
    ],
)
def test_training_takes_a_split_a_recipe_and_numbers_and_leaves_the_weights_otherwise(options, message):
    network = nn.Linear(4, 3)
    before = deepcopy(network.state_dict())
    arguments = {"network": network, "data": DATA, "learning_rate": 0.1, "recipe": RECIPE} | options
    with pytest.raises(InputError, match=message):
        train(arguments.pop("network"), arguments.pop("data"), **arguments)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("function", [evaluate, accuracy])
def test_evaluation_takes_a_split_and_labels_of_the_networks_classes(function):
    with pytest.raises(InputError, match="the data are a tuple"):
        function(nn.Linear(4, 3), (INPUTS, LABELS))
    with pytest.raises(InputError, match="labels go from 2 to 4"):
        function(nn.Linear(4, 3), Split(INPUTS, LABELS + 2))


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (INPUTS.numpy(), LABELS, "the inputs of a Split are an ndarray"),
        (INPUTS, [0, 1, 2, 0], "the labels of a Split are a list"),
        (INPUTS, LABELS.float(), "the labels of a Split are torch.float32"),
        (torch.tensor(1.0), None, "a single number"),
    ],
)
def test_a_split_holds_tensors_of_inputs_and_whole_labels(inputs, labels, message):
    with pytest.raises(InputError, match=message):
        Split(inputs, labels)
