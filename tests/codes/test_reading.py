"""The options of reading codes: one set for all functions, checked once."""

from dataclasses import fields

import pytest
import torch
from torch import nn

from nas_relucode import InputError, capture, code_space, score
from nas_relucode.cells import code_space_of_shards
from nas_relucode.codes import Reading, ReadingOptions, capture_batches
from nas_relucode.integrations import EpochIndices, zero_cost_score
from nas_relucode.study import CodeSettings

NETWORK, INPUTS = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), torch.rand(4, 2)


def test_the_options_are_the_fields_of_a_reading_and_forward():
    names = [field.name for field in fields(Reading)]
    assert list(ReadingOptions.__annotations__) == [*names, "forward"]
    reading = Reading(layers="head", also="gelu", batch_size=7)
    assert reading.layers == ("head",)
    assert Reading(**reading.options) == reading


@pytest.mark.parametrize(
    "function", [capture, capture_batches, code_space, score, code_space_of_shards, zero_cost_score]
)
def test_an_unknown_option_is_a_type_error_that_names_it(function, tmp_path):
    folder = {"folder": tmp_path} if function is code_space_of_shards else {}
    with pytest.raises(TypeError, match="layer'"):
        function(NETWORK, INPUTS, layer="head", **folder)


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("layers", (), "Name at least one"),
        ("layers", 3, "a list of names"),
        ("mode", "test", "eval, train"),
        ("preset", "released", "paper, released_code"),
        ("maps", "pixels", "pixel, channel, pooled"),
        ("also", "relu", "gelu"),
        ("batch_size", 0, "at least 1"),
    ],
)
def test_a_wrong_value_is_refused_by_all_with_what_is_needed(option, value, remedy):
    for refuse in (
        lambda: capture(NETWORK, INPUTS, **{option: value}),
        lambda: score(NETWORK, INPUTS, **{option: value}),
        lambda: CodeSettings(**{option: value}),
        lambda: EpochIndices(NETWORK, INPUTS, **{option: value})(),
    ):
        with pytest.raises(InputError, match=remedy):
            refuse()
