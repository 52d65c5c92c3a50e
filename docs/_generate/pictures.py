"""The pictures of the documentation:  python docs/_generate/pictures.py  writes those that take minutes to docs/img.

`python docs/_generate/pictures.py paper` takes the pictures of docs/paper.md from the studies that `make figures` ran.
"""

import contextlib
import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import nas_relucode as rc
from nas_relucode.cells.graph import adjacency_graph
from nas_relucode.cli.main import main

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "img"
PAPER = {  # picture: the file that `nas-relucode figure N --small` writes, under runs/
    "figure1": "figure1_small/curves",
    "figure2a": "figure2a_small/embedding_0.1",
    "figure2a_separability": "figure2a_small/separability",
    "figure2b": "figure2b_small/embedding",
    "figure2b_clustering": "figure2b_small/clustering",
    "figure3": "figure3_small/embedding_0.1",
    "figure4a": "figure4a_small/embedding_0.1",
    "figure4a_released": "figure4a_small_released/embedding_0.1",
    "figure4b": "figure4b_small/embedding_0.1",
    "figure5a": "figure5_small/embedding_0.006",
    "figure5b": "figure5_small/embedding_0.002",
    "figure5_separability": "figure5_small/separability",
    "figure6a": "figure6_small/embedding_0.004",
    "figure6b": "figure6_small/embedding_0.002",
    "figure6_separability": "figure6_small/separability",
}
COLOURS = {"best": "#333333", "equal": "#1b7f4b", "worse": "#c0392b", "cannot be told": "#8a8f98"}


def small_network() -> torch.nn.Sequential:
    """Two inputs, hidden layers of three and two neurons; the weights are chosen so that all cells can be seen."""
    network = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2)
    )
    weights = [
        [[1.0, 0.25], [-0.35, 1.0], [0.9, -0.8]],
        [[1.0, -1.3, 0.8], [-0.7, 1.1, 1.2]],
        [[1.0, -1.0], [-1.0, 1.0]],
    ]
    biases = [[0.25, -0.1, 0.45], [-0.35, -0.75], [0.0, 0.0]]
    for layer, weight, bias in zip(network[::2], weights, biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    return network


def samples() -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    middles = torch.tensor([[0.7, 0.5], [-0.6, 0.55], [-0.3, -0.7]])
    return torch.cat([middle + 0.28 * torch.randn(14, 2, generator=generator) for middle in middles]).clamp(-1.19, 1.19)


def codes() -> Figure:
    """Every cell of the small network in a square, with its code."""
    network, points = small_network(), samples()
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 2.0]])
    cells = rc.slice_through(network, corners, reach=2.6)
    figure, axes = plt.subplots(figsize=(6.4, 6.4), layout="constrained")
    bits = cells.complex.codes.bits().astype(int)
    plane = cells.plane
    for outline, code in zip(cells.complex.outlines, bits, strict=True):
        corner = plane.origin + outline @ plane.directions
        ones = int(code.sum())
        axes.fill(*corner.T, facecolor=plt.cm.Blues(0.08 + 0.11 * ones), edgecolor="#345", linewidth=1.2)
        inside = clipped(corner)
        if inside is not None and area(inside) > 0.02:
            text = "".join(map(str, code[:3])) + " " + "".join(map(str, code[3:]))
            axes.text(*centre(inside), text, ha="center", va="center", fontsize=8, family="monospace")
    axes.scatter(*points.T, s=9, color="#d95f02", zorder=3)
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), xlabel="first input", ylabel="second input", aspect="equal")
    return figure


def clipped(corners: np.ndarray, reach: float = 1.2) -> np.ndarray | None:
    """The part of a convex polygon inside the square that is shown."""
    for axis in (0, 1):
        for sign in (1, -1):
            kept = []
            for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                a, b = reach - sign * first[axis], reach - sign * second[axis]
                if a >= 0:
                    kept.append(first)
                if a * b < 0:
                    kept.append(first + (second - first) * a / (a - b))
            if len(kept) < 3:
                return None
            corners = np.array(kept)
    return corners


def area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def centre(corners: np.ndarray) -> np.ndarray:
    """The centre of mass of a polygon."""
    x, y = corners.T
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    return ((corners + np.roll(corners, -1, axis=0)) * cross[:, None]).sum(axis=0) / (3 * cross.sum())


def graph() -> Figure:
    """The occupied cells of the small network, each at the mean of its samples, joined where they are adjacent."""
    points = samples()
    space = rc.code_space(small_network(), points)
    cells = space.cells
    places = np.stack([points.numpy()[cells.cell_of == cell].mean(axis=0) for cell in range(len(cells))])
    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    edges = adjacency_graph(cells, theta=1).edges
    for first, second in zip(edges.first, edges.second, strict=True):
        axes.plot(*places[[first, second]].T, color="#345", linewidth=1.2, zorder=1)
    axes.scatter(*places.T, s=120 + 40 * cells.sizes, color="#9ecae1", edgecolor="#345", zorder=2)
    for place, code, size in zip(places, cells.codes.bits().astype(int), cells.sizes, strict=True):
        text = "".join(map(str, code[:3])) + " " + "".join(map(str, code[3:]))
        axes.annotate(str(size), place, ha="center", va="center", fontsize=8, zorder=3)
        axes.annotate(text, place, (0, 14), textcoords="offset points", ha="center", fontsize=8, family="monospace")
    axes.margins(0.16)
    axes.set(xlabel="first input", ylabel="second input")
    return figure


def family() -> tuple[dict[str, dict[int, torch.nn.Module]], tuple, tuple]:
    """The networks of the tutorial on the verdict, and its samples, by the tutorial's own code."""
    page = (ROOT / "docs" / "tutorials" / "verdict.md").read_text("utf-8")
    names: dict = {}
    exec(re.search(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)[1], names)
    return names["networks"], names["validation"], names["compared"]


def intervals(axes: Axes, comparison: pd.DataFrame, names: list[str], margin: float) -> None:
    """For each network its accuracy below that of the best, with the interval, in the colour of its answer."""
    axes.axvspan(0, 100 * margin, color="#1b7f4b", alpha=0.10, linewidth=0)
    axes.axvline(0, color="#333333", linewidth=1)
    axes.axvline(100 * margin, color="#1b7f4b", linewidth=1, linestyle="--")
    for place, row in enumerate(comparison.itertuples()):
        answer = row.answer
        colour = COLOURS[answer]
        if answer != "best":
            axes.plot([100 * row.low, 100 * row.high], [place, place], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(100 * row.difference, place, "o", color=colour, markersize=7)
        axes.annotate(answer, (1.01, place), xycoords=("axes fraction", "data"), va="center", color=colour, fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)


def verdict(compared: rc.Selection) -> Figure:
    figure, axes = plt.subplots(figsize=(7.2, 2.8), layout="constrained")
    intervals(axes, compared.comparison, list(compared.networks["network"]), 0.005)
    axes.set_ylim(len(compared.networks) - 0.5, -0.9)
    axes.text(0.51, -0.45, "margin", fontsize=8, color="#1b7f4b")
    axes.set_xlabel("accuracy below that of the best network, in percentage points: interval of 95 %")
    return figure


def equality(networks: dict[str, dict[int, torch.nn.Module]], validation: tuple) -> Figure:
    """The same networks with some of their seeds."""
    figure, rows = plt.subplots(3, 1, figsize=(7.2, 6.2), layout="constrained", sharex=True)
    for axes, count in zip(rows, (2, 3, 5), strict=True):
        some = {name: {seed: seeds[seed] for seed in range(count)} for name, seeds in networks.items()}
        compared = rc.compare(some, validation, indices=["cell_count"])
        intervals(axes, compared.comparison, list(compared.networks["network"]), 0.005)
        axes.set_title(f"{count} seeds", loc="left", fontsize=10)
    rows[-1].set_xlim(-1.5, 4)
    rows[-1].set_xlabel("accuracy below that of the best network, in percentage points: interval of 95 %")
    return figure


def stations() -> Figure:
    """The stations in the order of their imports, as the contract in pyproject.toml has it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    names = [name for name in reversed(layers) if (ROOT / "nas_relucode" / name).is_dir()]
    imports = {name: imported_by(name, names) for name in names}
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    for x, name in enumerate(names):
        axes.text(x, -0.4, name, rotation=90, ha="center", va="top", fontsize=10, fontweight="bold")
        axes.text(-0.9, x, name, ha="right", va="center", fontsize=9)
        axes.plot([-0.7, x], [x, x], color="#ddd", linewidth=0.8, zorder=0)
        axes.plot([x, x], [-0.3, x], color="#ddd", linewidth=0.8, zorder=0)
        axes.scatter(x, x, marker="s", s=90, color="#345")
        for other in imports[name]:
            axes.scatter(names.index(other), x, s=42, color="#2171b5")
    axes.set(xlim=(-2.8, len(names)), ylim=(-3.4, len(names) - 0.4))
    axes.set_title("each row imports the columns with a dot; none lies to the right of its square", fontsize=10)
    axes.axis("off")
    return figure


def imported_by(station: str, stations: list[str]) -> set[str]:
    """The other stations from which the modules of one import."""
    texts = [path.read_text("utf-8") for path in (ROOT / "nas_relucode" / station).glob("*.py")]
    found = {name for text in texts for name in re.findall(r"^\s*from nas_relucode\.(\w+)", text, flags=re.MULTILINE)}
    return (found & set(stations)) - {station}


def sliced() -> Figure:
    """The cells of a trained perceptron in the plane through a 0, a 1 and a 2."""
    data = rc.load_data("digits", validation=0.25)
    network = rc.build_network("32-16", data.image_shape, classes=10, backbone="none", seed=0)
    rc.train(network, data.train, learning_rate=0.1, recipe=rc.Recipe(epochs=10, batch_size=32), seed=0)
    first = [int((data.test.labels == digit).nonzero()[0, 0]) for digit in range(3)]
    return rc.plots.slice_figure(rc.slice_through(network, data.test.inputs[first]))


def figures_of_digits() -> None:
    """The paper's two kinds of figures, by the studies on docs/paper.md."""
    page = (ROOT / "docs" / "paper.md").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, text in re.findall(r"^cat > (\w+)\.toml <<'TOML'\n(.*?)^TOML$", page, flags=re.MULTILINE | re.DOTALL):
            Path(f"{name}.toml").write_text(text, "utf-8")
            if main(["figure", f"{name}.toml", "--quiet"]):
                sys.exit(f"figure {name}.toml failed")
        take("digits_curves", Path("runs/curves/curves.png"))
        take("digits_embedding", Path("runs/embeddings/embedding.png"))
        take("digits_separability", Path("runs/embeddings/separability.png"))


def take(name: str, source: Path) -> None:
    """A picture of a study as docs/img/NAME.png, 1,000 pixels wide and in 64 colours."""
    picture = Image.open(source).convert("RGB")
    height = round(1000 * picture.height / picture.width)
    picture.resize((1000, height), Image.Resampling.LANCZOS).quantize(64).save(TARGET / f"{name}.png", optimize=True)


def save(figure: Figure, name: str) -> None:
    figure.savefig(TARGET / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    if sys.argv[1:] == ["paper"]:
        for name, source in PAPER.items():
            take(name, ROOT / "runs" / f"{source}.png")
        sys.exit()
    os.environ.pop("OPTUNA_STORAGE", None)  # the studies of pages are nobody else's
    save(stations(), "stations")
    save(codes(), "codes")
    save(graph(), "graph")
    save(sliced(), "slice")
    figures_of_digits()
    networks, validation, compared = family()
    save(verdict(compared), "verdict")
    save(equality(networks, validation), "equality")
