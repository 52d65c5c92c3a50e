"""Time and memory against cells and neurons: distinct cells, pairs at distance 1, the spanning tree.

One thread, each point in a process of its own. With --write, the figure and the table of the performance page.
"""

from __future__ import annotations

import measure

# isort: split
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from codes_to_measure import distinct_cells
from measure import Alone, Claim

from nas_relucode.training.names import parse_head

WORKS = {"cells": "distinct cells", "pairs": "pairs at distance 1", "tree": "spanning tree"}
CLAIMS = {
    work: Claim(f"{WORKS[work]}, {{cells}} x 512, memory", "the packed codes", None, 1_000_000, 30_000)
    for work in ("cells", "pairs")
}
HEADS = ["64-64", "256-256", "512-512", "2048-2048"]
CELLS = [10_000, 30_000, 100_000, 300_000, 1_000_000]
LONGEST = 180.0  # seconds: a spanning tree that is expected to take longer is not run
FIGURE = measure.PAGE.parent / "img" / "performance.png"

Points = dict[tuple[str, int, int], Alone]  # work, neurons, cells


def main() -> None:
    bench = measure.bench(__file__, __doc__, CLAIMS)
    cells = [30_000] if bench.quick else CELLS
    heads = ["256-256"] if bench.quick else HEADS
    points: Points = {}
    expected: dict[tuple[int, int], float] = {}
    for head in heads:
        distinct_cells(cells[-1], head, bench.data_root)
        for count in cells:
            measure_point(points, expected, head, count, cells[-1], bench.data_root)
    for name in CLAIMS:
        count = bench.cells(name)
        bench.row(name, max(points[name, 512, count].added_bytes, 1), 64 * count, show=measure.mebibytes)
    bench.print("")
    for line in table(points, expected, [sum(parse_head(head)) for head in heads], cells):
        bench.print(line)
    bench.finish()
    if bench.options.write:
        draw(points, FIGURE)


def measure_point(
    points: Points, expected: dict[tuple[int, int], float], head: str, cells: int, of: int, data_root: Path
) -> None:
    """Measures all works at one point, but no spanning tree that would take too long."""
    neurons = sum(parse_head(head))
    smaller = [(found.processor_seconds, n) for (work, m, n), found in points.items() if (work, m) == ("tree", neurons)]
    if smaller:
        seconds, n = smaller[-1]
        expected[neurons, cells] = seconds * (cells / n) ** 2
    works = [work for work in WORKS if work != "tree" or expected.get((neurons, cells), 0.0) <= LONGEST]
    for work, found in zip(works, measure.alone(works, cells, of, head, data_root), strict=True):
        points[work, neurons, cells] = found


def table(points: Points, expected: dict[tuple[int, int], float], neurons: list[int], cells: list[int]) -> list[str]:
    lines = [
        "| neurons | cells | " + " | ".join(f"{title} | memory" for title in WORKS.values()) + " |",
        "| ---: | ---: |" + " ---: | ---: |" * len(WORKS),
    ]
    for width in neurons:
        for count in cells:
            figures = []
            for work in WORKS:
                found = points.get((work, width, count))
                if found is None:
                    minutes = expected[width, count] / 60
                    figures += [f"not run: about {minutes:,.0f} min expected", "-"]
                else:
                    figures += [measure.milliseconds(found.processor_seconds), measure.mebibytes(found.added_bytes)]
            lines.append(f"| {width:,} | {count:,} | {' | '.join(figures)} |")
    return lines


def draw(points: Points, path: Path) -> None:
    """Three columns, a work each; time above, memory below; a line for each number of neurons."""
    # Colours of Okabe and Ito, told apart also by those who see few colours; markers for those who see none.
    styles = dict(
        zip(
            [128, 512, 1024, 4096],
            [("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#CC79A7", "D")],
            strict=True,
        )
    )
    rows: list[tuple[str, Callable[[Alone], float]]] = [
        ("processor time, seconds", lambda found: found.processor_seconds),
        ("memory added, MiB", lambda found: max(found.added_bytes, 2**18) / 2**20),
    ]
    figure, axes = plt.subplots(2, len(WORKS), figsize=(11, 6.4), sharex=True, sharey="row", layout="constrained")
    for column, (work, title) in enumerate(WORKS.items()):
        axes[0, column].set_title(title)
        for row, (label, value) in enumerate(rows):
            for neurons, (colour, marker) in styles.items():
                line = [(n, value(found)) for (w, m, n), found in points.items() if (w, m) == (work, neurons)]
                axes[row, column].loglog(
                    *zip(*line, strict=True), color=colour, marker=marker, label=f"{neurons} neurons"
                )
            axes[row, column].grid(alpha=0.3)
            axes[row, 0].set_ylabel(label)
        axes[1, column].set_xlabel("cells")
    axes[0, 0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
