"""Indices of networks at initialisation: the scores of NASWOT and SWAP (not in the paper)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_relucode.errors import InputError
from nas_relucode.indices.index import Index, known

if TYPE_CHECKING:
    from nas_relucode.indices.inputs import IndexInputs

KERNEL_SAMPLES = 128  # of NASWOT's kernel, as published
PATTERN_SAMPLES = 16  # of SWAP's patterns, as published


class LogdetKernel(Index):
    """NASWOT: log |det K|, K = neurons - d_H, of the first 128 samples; NaN where two of their codes are equal.

    Published for networks at initialisation in train mode (Mellor et al., "Neural Architecture Search without
    Training", ICML 2021).
    """

    direction = "maximize"

    def compute(self, inputs: IndexInputs) -> float:
        from nas_relucode.indices.batch_scores import logdet_kernel

        return logdet_kernel(inputs.space.sample_codes(KERNEL_SAMPLES))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, min(KERNEL_SAMPLES, inputs.samples) * math.log(inputs.codes.neurons)


class DistinctPatterns(Index):
    """SWAP: distinct columns of the samples x neurons bit matrix of the first 16 samples.

    Published for networks at initialisation (Peng et al., "SWAP-NAS", ICLR 2024). TE-NAS' number of distinct codes
    (Chen et al., ICLR 2021) is cell_count of a batch.
    """

    direction = "maximize"

    def compute(self, inputs: IndexInputs) -> float:
        from nas_relucode.indices.batch_scores import distinct_patterns

        return distinct_patterns(inputs.space.sample_codes(PATTERN_SAMPLES))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 1.0, float(min(inputs.codes.neurons, 2 ** min(PATTERN_SAMPLES, inputs.samples)))


@dataclass(frozen=True)
class RegularisedPatterns(Index):
    """Regularised SWAP: distinct_patterns * exp(-(p - mu)^2 / sigma), p the parameters in thousands.

    ``mu`` is the size of network that is wanted, ``sigma`` how far from it one may be: see `regularised_patterns`
    (Peng et al., "SWAP-NAS", ICLR 2024).
    """

    mu: float | None = None
    sigma: float | None = None

    direction = "maximize"
    needs = ("parameters",)
    joint = True
    on_request = True

    def __post_init__(self) -> None:
        for name, value in (("mu", self.mu), ("sigma", self.sigma)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InputError(f"{name} is {value!r}. Give a number of thousands of parameters.")

    def missing(self, inputs: IndexInputs) -> list[str]:
        size = "a wanted size (mu and sigma, in thousands of parameters)"
        return super().missing(inputs) + ([size] if self.mu is None or self.sigma is None else [])

    def compute(self, inputs: IndexInputs) -> float:
        from nas_relucode.indices.batch_scores import regularised_patterns

        codes = inputs.space.sample_codes(PATTERN_SAMPLES)
        return regularised_patterns(codes, known(inputs.parameters), mu=known(self.mu), sigma=known(self.sigma))

    def range(self, inputs: IndexInputs) -> tuple[float, float]:
        return 0.0, DistinctPatterns().range(inputs)[1]
