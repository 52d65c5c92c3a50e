"""The qualities by name, and several of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nas_relucode.errors import InputError, listed_items, unknown
from nas_relucode.qualities import attacks, calibration, compression, corruptions, cost, noise, probe, shift
from nas_relucode.qualities.quality import PerSample, Quality

if TYPE_CHECKING:
    from torch import nn

    from nas_relucode.codes.reading import Forward
    from nas_relucode.qualities.samples import PixelRange

PIXEL_RANGE = "pixel_range"  # a setting of the qualities that change images
FAMILIES = (cost, noise, corruptions, attacks, calibration, shift, compression, probe)
QUALITIES: dict[str, Quality] = {quality.name: quality for family in FAMILIES for quality in family.QUALITIES}


def measure(
    network: nn.Module,
    inputs: Any = None,
    names: str | Quality | Iterable[str | Quality] | None = None,
    *,
    forward: Forward | None = None,
    pixel_range: PixelRange | None = None,
) -> dict[str, float]:
    """The qualities that ``names`` asks for, by name; those of cost if it is None.

    ``names`` are names of `QUALITIES`, or qualities of your own. One that is measured with a spread has it beside it:
    ``latency`` and ``latency_spread``. ``inputs`` are samples as `score` takes them: a tensor, a pair of inputs and
    labels, a dict of tensors, a Dataset, a DataLoader. Costs use the first ones, on the network's device; accuracies
    use all and need labels, and mean something on held-out samples alone. The network is left as it was;
    ``forward(network, batch)`` calls it in another way than ``network(batch)``, and its batch has the labels that the
    inputs have. ``pixel_range``, the values of a black and of a white pixel, is that of the qualities that change
    images: normalised images have another one than 0 to 1.

    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> measure(network, torch.zeros(5, 3), ["parameters", "flops"])
    {'parameters': 26.0, 'flops': 40.0}

    Raises InputError for an unknown quality, for one that needs inputs, labels or images if there are none, and for a
    pixel range if no quality takes one.
    """
    wanted = cost.QUALITIES if names is None else listed_items("names", names, Quality)
    qualities = in_pixel_range([by_name(item) for item in wanted], pixel_range)  # errors before anything is measured
    values: dict[str, float] = {}
    for quality in qualities:
        values |= quality.values(network, inputs, forward)
    return values


def in_pixel_range(qualities: Sequence[Quality], pixel_range: PixelRange | None) -> list[Quality]:
    """The same qualities, those that change images with this pixel range, unless it is None.

    Raises InputError for what is no pixel range, and if none of the qualities takes one.
    """
    if pixel_range is None:
        return list(qualities)
    from nas_relucode.qualities.samples import check_pixel_range

    check_pixel_range(pixel_range)
    changing = [quality.name for quality in qualities if PIXEL_RANGE in quality.settings]
    if not changing:
        names = ", ".join(quality.name for quality in qualities) or "no quality"
        raise InputError(
            f"pixel_range is given, but {names} is measured, which changes no images. Leave it out, or name a quality "
            "of changed images, for example noise_accuracy."
        )
    return [
        quality.with_settings(quality.name, quality.meaning, pixel_range=pixel_range)
        if quality.name in changing
        else quality
        for quality in qualities
    ]


def outcomes(network: nn.Module, inputs: Any, quality: str | Quality, *, forward: Forward | None = None) -> PerSample:
    """What a quality measures at each sample, so that it can be computed again on some of them (`PerSample.of_rows`).

    >>> import torch
    >>> network = torch.nn.Linear(2, 2)
    >>> outcomes(network, (torch.rand(9, 2), torch.zeros(9).long()), "noise_accuracy").columns[0].shape
    (9,)

    Raises InputError for an unknown quality, and for one that is not a statistic of samples, such as latency.
    """
    quality = by_name(quality)
    result = quality.measured(network, inputs, forward)
    if not isinstance(result, PerSample):
        raise InputError(f"quality {quality.name!r} is not a statistic of samples. Call measure instead.")
    return result


def by_name(item: str | Quality) -> Quality:
    if isinstance(item, Quality):
        return item
    if item not in QUALITIES:
        raise unknown("quality", item, QUALITIES)
    return QUALITIES[item]
