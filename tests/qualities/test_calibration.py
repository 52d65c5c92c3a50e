"""What a network's confidence is worth: by hand, by counting pairs, and against torchmetrics."""

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.qualities import calibration_error, confident_accuracy, ood_auroc, outcomes


def confidences(*values: float) -> torch.Tensor:
    """Scores of three classes of which the first has these probabilities."""
    first = torch.tensor(values)[:, None]
    return torch.cat([first, (1 - first) / 2, (1 - first) / 2], dim=1).log()


def test_the_calibration_error_of_two_bins_by_hand():
    """Confidence 0.9 where three of four are right, 0.6 where one of two is."""
    scores = confidences(0.9, 0.9, 0.9, 0.9, 0.6, 0.6)
    labels = torch.tensor([0, 0, 0, 1, 0, 2])
    error = calibration_error(nn.Identity(), (scores, labels), bins=10)
    assert float(error) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.1)
    assert error.of_rows([4, 5]) == pytest.approx(0.1)


@pytest.mark.parametrize("bins", [5, 15])
def test_the_calibration_error_is_that_of_torchmetrics(bins):
    functional = pytest.importorskip("torchmetrics.functional", reason="torchmetrics comes with the extra named test")
    generator = torch.Generator().manual_seed(0)
    scores, labels = 3 * torch.randn(300, 4, generator=generator), torch.randint(4, (300,), generator=generator)
    expected = functional.calibration_error(scores.softmax(1), labels, "multiclass", n_bins=bins, num_classes=4)
    assert float(calibration_error(nn.Identity(), (scores, labels), bins=bins)) == pytest.approx(
        float(expected), abs=1e-5
    )


def test_the_least_confident_samples_are_left_out_and_ties_count_by_their_mean():
    scores, labels = confidences(0.9, 0.8, 0.7, 0.6), torch.tensor([0, 1, 0, 1])
    assert float(confident_accuracy(nn.Identity(), (scores, labels), share=0.75)) == pytest.approx(2 / 3)
    assert float(confident_accuracy(nn.Identity(), (scores, labels), share=1)) == 0.5
    tied = confidences(0.9, 0.6, 0.6, 0.6), torch.tensor([0, 0, 1, 1])
    assert float(confident_accuracy(nn.Identity(), tied, share=0.5)) == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize(
    ("detector", "value"),
    [
        ("probability", lambda scores: special.softmax(scores, axis=1).max(axis=1)),
        ("logit", lambda scores: scores.max(axis=1)),
        ("energy", lambda scores: special.logsumexp(scores, axis=1)),
        ("entropy", lambda scores: -stats.entropy(special.softmax(scores, axis=1), axis=1)),
    ],
)
def test_the_auroc_is_the_share_of_pairs_in_order(detector, value):
    generator = torch.Generator().manual_seed(0)
    inside, outside = torch.randn(60, 3, generator=generator).round(), torch.randn(45, 3, generator=generator).round()
    one, other = (value(scores.double().numpy()).round(12) for scores in (inside[:45], outside))
    pairs = np.sign(one[:, None] - other[None]) / 2 + 0.5
    measured = float(ood_auroc(nn.Identity(), inside, others=outside, detector=detector))
    assert measured == pytest.approx(pairs.mean(), abs=0.005)  # the values of equal scores in another order may differ


def test_a_network_that_is_sure_of_nothing_but_its_samples_separates_them_from_noise():
    class Bright(nn.Module):
        def forward(self, images):
            mean = images.mean(dim=(1, 2, 3))
            return torch.stack([20 * (mean - 0.5).abs(), torch.zeros_like(mean)], dim=1)

    assert float(ood_auroc(Bright(), torch.ones(20, 1, 8, 8))) == 1
    measured = outcomes(Bright(), torch.ones(20, 1, 8, 8), "ood_auroc")
    assert len(measured) == 20
    assert measured.of_rows([0, 1]) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n, data: calibration_error(n, data, bins=0), ["0", "at least 1"]),
        (lambda n, data: confident_accuracy(n, data, share=0), ["0", "share"]),
        (lambda n, data: ood_auroc(n, data, others=data[0][:0]), ["no samples"]),
        (lambda n, data: ood_auroc(n, data, detector="enrgy"), ["enrgy", "Did you mean 'energy'"]),
        (lambda n, data: ood_auroc(n, {"scores": data[0]}, forward=lambda n, x: x["scores"]), ["dict", "floats"]),
    ],
)
def test_what_cannot_be_measured_is_an_error_that_says_what_to_do(call, words):
    with pytest.raises(InputError) as error:
        call(nn.Identity(), (torch.rand(6, 3), torch.arange(6) % 3))
    assert all(word in str(error.value) for word in words)
