"""Which samples are classified correctly is kept in few bytes, and read back exactly or with an error."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_relucode.errors import InputError
from nas_relucode.study.predictions import correct_samples, kept_predictions


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_what_is_kept_is_read_back(correct: list[bool]):
    kept = json.loads(json.dumps(kept_predictions(correct, "digest")))
    again = correct_samples(kept)
    assert again is not None
    assert (kept["samples"], kept["digest"], again.tolist()) == (len(correct), "digest", correct)


def test_ten_thousand_samples_take_less_than_a_kilobyte():
    correct = np.random.default_rng(0).random(10_000) < 0.95
    assert len(json.dumps(kept_predictions(correct, "0" * 64))) < 1000


@pytest.mark.parametrize("missing", ["correct", "digest"])
def test_without_the_bits_or_what_they_belong_to_nothing_is_known(missing: str):
    assert correct_samples(kept_predictions([True], "digest") | {missing: None}) is None


@pytest.mark.parametrize("damage", [{"correct": "!"}, {"correct": "{}"}, {"samples": 900}, {"samples": 1}])
def test_damaged_text_is_an_error_with_the_remedy(damage: dict[str, Any]):
    with pytest.raises(InputError, match="Run the trial again"):
        correct_samples(kept_predictions(np.ones(20), "digest") | damage)


def test_a_text_that_unpacks_to_gigabytes_is_not_unpacked():
    with pytest.raises(InputError, match="not those of 8 samples"):
        correct_samples(kept_predictions(np.ones(80_000_000, bool), "digest") | {"samples": 8})
