"""Pictures of a candidate's cells in planes through training samples, which a study keeps if it is asked to."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from nas_relucode.errors import InputError, SolverError
from nas_relucode.files import write_atomically
from nas_relucode.geometry.slices import neighbourhood, slice_through
from nas_relucode.plots.slices import slice_figure
from nas_relucode.training.data import Split

MOST_CELLS = 100_000  # of a slice: more could not be distinguished


def draw_slices(
    network: nn.Module, data: Split, folder: Path, name: str, *, module: str | None, classes: list[str]
) -> list[str]:
    """Draws the slice through the first samples of three classes, and the neighbourhood of the first.

    Returns the names of the files. A slice is left out if it has too many cells, or if its samples span no plane.
    """
    assert data.labels is not None
    firsts = [int((data.labels == label).nonzero()[0]) for label in data.labels.unique()]
    chosen = sorted({*firsts, *range(3)}, key=lambda number: (number not in firsts, number))[:3]
    labels = [classes[int(data.labels[number])] for number in chosen]
    inputs = data.inputs[chosen]
    drawn = []
    for file, slice_of, samples in (
        (f"{name}.png", slice_through, inputs),
        (f"{name}_near.png", neighbourhood, inputs[:1]),
    ):
        try:
            part = slice_of(network, samples, module=module, max_cells=MOST_CELLS)
            figure = slice_figure(part, classes=classes, labels=labels)
        except (InputError, SolverError):  # equal samples, a border in one direction only, too many cells
            continue
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / file, lambda path: figure.savefig(path, dpi=100, format="png"))  # noqa: B023
        drawn.append(file)
    return drawn
