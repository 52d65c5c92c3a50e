"""Samples are read in one way, whoever asks: `score`, `compare`, the qualities and the digest."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import nas_relucode as rc
from nas_relucode import InputError
from nas_relucode.cells.shards import ShardBatches
from nas_relucode.qualities import QUALITIES, measure
from nas_relucode.study.samples import ordered_samples

torch.manual_seed(0)
X, Y = torch.randn(40, 8), torch.arange(40) % 2
NETWORK = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
DOUBLE = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).double()
DOUBLE.load_state_dict({name: values.double() for name, values in NETWORK.state_dict().items()})
QUALITY = QUALITIES["confident_accuracy"].with_settings("accuracy_again", share=1.0)


class Sum(nn.Module):
    """Takes two tensors and adds them."""

    def __init__(self):
        super().__init__()
        self.body = NETWORK

    def forward(self, x, y):
        return self.body(x + y)


class Named(nn.Module):
    """Takes a tensor called x."""

    def __init__(self):
        super().__init__()
        self.body = NETWORK

    def forward(self, x):
        return self.body(x)


def dicts(name):
    return [{"x": X[rows], name: Y[rows]} for rows in (slice(0, 30), slice(30, 40))]


FORMS = {
    "bool": (NETWORK, (X, Y == 1)),
    "whole floats": (NETWORK, (X, Y.float())),
    "whole floats in batches": (NETWORK, DataLoader(list(zip(X, Y.float(), strict=True)), batch_size=15)),
    "uint16": (NETWORK, (X, Y.numpy().astype(np.uint16))),
    "a list of labels": (NETWORK, (X, Y.tolist())),
    "a Series of labels": (NETWORK, (X, pd.Series(Y.numpy()))),
    "a column": (NETWORK, (X, Y[:, None])),
    "float64 arrays": (NETWORK, (X.numpy().astype(float), Y.numpy())),
    "float64 arrays, a float64 network": (DOUBLE, (X.numpy().astype(float), Y.numpy())),
    "float32 arrays, a float64 network": (DOUBLE, (X.numpy(), Y.numpy())),
    "a tuple of inputs": (Sum(), ((X / 2, X / 2), Y)),
    "a tuple of three": (Sum(), [(X[:30] / 2, X[:30] / 2, Y[:30]), (X[30:] / 2, X[30:] / 2, Y[30:])]),
    "a dict": (Named(), ({"x": X}, Y)),
    "a dict with labels": (Named(), {"x": X.numpy(), "labels": Y.numpy()}),
    "dicts with labels": (Named(), dicts("labels")),
    "dicts with label": (Named(), dicts("label")),
}


def accuracies(network, data, forward=None):
    """The accuracy by each of the functions that measure one."""
    by_score = rc.score(network, data, indices=["cell_count"], forward=forward).accuracy
    compared = rc.compare({"a": network}, data, objectives=["accuracy"], indices=["cell_count"], forward=forward)
    by_quality = measure(network, data, QUALITY, forward=forward)["accuracy_again"]
    return by_score, compared.networks["accuracy"].iloc[0], by_quality


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_inputs_and_labels_is_read_alike_by_all(form):
    expected = float((NETWORK(X).argmax(dim=1) == Y).double().mean())
    assert accuracies(*FORMS[form]) == pytest.approx((expected,) * 3, abs=1e-9)


@pytest.mark.parametrize(
    ("data", "inputs_of"),
    [
        ((X, Y), lambda batch: batch[0]),
        (DataLoader(list(zip(X, Y, strict=True)), batch_size=15), lambda batch: batch[0]),
        (dicts("label"), lambda batch: batch["x"]),
        ({"x": X, "label": Y}, lambda batch: batch["x"]),
        (({"x": X}, Y), lambda batch: batch[0]["x"]),
        ([(X, Y, torch.rand(40))], lambda batch: batch[0]),
    ],
)
def test_the_users_forward_is_handed_the_same_batches_by_all(data, inputs_of):
    seen = set()

    def forward(network, batch):
        items = batch.items() if isinstance(batch, dict) else enumerate(batch)
        seen.add((isinstance(batch, dict), tuple(str(name) for name, _ in items)))
        return network(inputs_of(batch))

    if isinstance(data, list) and isinstance(data[0], tuple):
        assert rc.score(NETWORK, data, indices=["cell_count"], forward=forward).accuracy is None
        with pytest.raises(InputError, match="no labels"):
            rc.compare({"a": NETWORK}, data, forward=forward)
    else:
        assert len(set(accuracies(NETWORK, data, forward))) == 1
        if isinstance(data, tuple) and data[0] is X:
            names = ["local_complexity", "decision_margin", "affine_deviation", "segment_transitions"]
            plain = rc.score(NETWORK, data, indices=names).joint
            assert rc.score(NETWORK, data, indices=names, forward=forward).joint == pytest.approx(plain)
    assert len(seen) == 1


WRONG = {
    "labels that are not whole": ((X, Y + 0.5), "float32 of shape (40,)"),
    "too few labels": ((X, Y[:39]), "39"),
    "labels below 0": ((X, Y - 1), "-1"),
    "names as labels": ((X, ["cat", "dog"] * 20), "numpy.unique"),
    "a table": ((pd.DataFrame(X.numpy()), Y), "to_numpy"),
    "a table alone": (pd.DataFrame(X.numpy()), "to_numpy"),
    "texts as inputs": ((np.array([["a", "b"]] * 40), Y), "<U1"),
}


@pytest.mark.parametrize("what", WRONG)
def test_inputs_and_labels_that_cannot_be_read_are_refused_by_all(what):
    data, words = WRONG[what]
    for call in (
        lambda: rc.score(NETWORK, data),
        lambda: rc.compare({"a": NETWORK}, data),
        lambda: measure(NETWORK, data, "calibration_error"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert words in str(error.value) or what == "labels below 0"


def test_samples_of_bfloat16_are_compared_and_have_a_digest_of_their_own():
    half = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).bfloat16()
    assert 0 <= rc.compare({"a": half}, (X.bfloat16(), Y)).networks["accuracy"].iloc[0] <= 1
    digests = {ordered_samples((values.bfloat16(), Y), "validation").digest for values in (X, -X, X.flip(0))}
    assert len(digests) == 3


def test_shards_and_studies_identify_samples_by_one_digest():
    (batch,) = ShardBatches({"inputs": X, "labels": Y}, 99)
    shard = ShardBatches({"inputs": batch["inputs"], "labels": batch["labels"]}, 7)
    assert shard.read() == ordered_samples((X, Y), "validation").digest
