"""The linear probe against features whose classes are known to be separable, or to be noise."""

import pytest
import torch
from torch import nn

from nas_relucode.errors import InputError
from nas_relucode.qualities import linear_probe_accuracy, measure


class Features(nn.Module):
    """A network whose features are its first inputs, and whose own classes are wrong."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.last = nn.Linear(features, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(inputs[:, : self.features])
        return scores


def clusters(classes: int = 4, samples: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in the plane around the corners of a polygon, two columns of noise behind; labels from 0."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(samples * classes) % classes
    angles = 2 * torch.pi * labels / classes
    corners = torch.stack([angles.cos(), angles.sin()], dim=1)
    points = corners + 0.05 * torch.randn(len(labels), 2, generator=generator)
    return torch.cat([points, torch.randn(len(labels), 2, generator=generator)], dim=1), labels


def test_classes_that_the_features_separate_are_recognised_though_the_network_does_not_know_them() -> None:
    inputs, labels = clusters()
    known = inputs[:, :], labels % 2
    assert float(linear_probe_accuracy(Features(2), known, others=(inputs, labels))) == 1


def test_features_of_noise_are_worth_no_more_than_chance() -> None:
    inputs, labels = clusters(4, 250)
    measured = linear_probe_accuracy(Features(2), (inputs.flip(1), labels))
    assert len(measured) == 500
    assert abs(float(measured) - 0.25) < 4 * (0.25 * 0.75 / 500) ** 0.5


def test_it_is_a_quality_by_name_and_leaves_no_hook() -> None:
    network, data = Features(2), clusters(2)
    assert measure(network, data, ["linear_probe_accuracy"]) == {"linear_probe_accuracy": 1.0}
    assert not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("network", "labels", "words"),
    [
        (nn.Identity(), [0, 1, 0, 1], ["Linear"]),
        (Features(2), [0, 0, 0, 0], ["one class"]),
        (Features(2), [0, 0, 0, 1], ["class 1", "one sample"]),
    ],
)
def test_what_cannot_be_probed_is_an_error_that_says_what_to_do(
    network: nn.Module, labels: list[int], words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        linear_probe_accuracy(network, (torch.rand(4, 4), torch.tensor(labels)))
    assert all(word in str(error.value) for word in words)
