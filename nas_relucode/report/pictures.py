"""The pictures that a study's run or figure left in its folder: slices of the first networks, and embeddings."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from nas_relucode.report.page_data import Report
from nas_relucode.study.record import complete_trials, record_of

MOST_SLICES = 3  # networks whose slices are shown


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder."""

    file: Path
    alt: str
    caption: str

    def html(self) -> str:
        """The picture itself, within the page."""
        content = base64.b64encode(self.file.read_bytes()).decode()
        image = f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{content}">'
        return f"<figure>{image}<figcaption>{html.escape(self.caption)}</figcaption></figure>"


def slices(report: Report) -> list[Picture]:
    """Those of the first of the equally accurate networks, as far as they were drawn."""
    drawn = [
        (trial.number, record_of(trial)) for trial in complete_trials(report.study) if record_of(trial).get("slices")
    ]
    found: dict[str, list[Picture]] = {}
    for _, row in report.ranking.equal.iterrows():
        for trial, values in drawn:
            if any(values["candidate"][key] != row[key] for key in ("head", "learning_rate")):
                continue
            whose = f"{row['network']}, seed {values['candidate'].get('seed', 0)}, trial {trial}"
            files = [report.folder / "slices" / Path(name).name for name in values["slices"]]
            pictures = [
                Picture(file, f"The cells of {whose}, {_where(file)}", f"{whose}: {_where(file)}")
                for file in files
                if file.is_file()
            ]
            if pictures and len(found) < MOST_SLICES:
                found[whose] = pictures
    return [picture for pictures in found.values() for picture in pictures]


def _where(file: Path) -> str:
    """What a slice cuts, which `studies.slice_figures.draw_slices` says in the names of its files."""
    return "around the first sample" if file.stem.endswith("_near") else "the plane through three samples"


def embeddings(report: Report) -> list[Picture]:
    """What `nas-relucode figure` drew in the folder: codes embedded by UMAP."""
    files = sorted(report.folder.glob("embedding*.png"))
    return [Picture(file, "Codes of the layers and epochs, embedded by UMAP", file.stem) for file in files]
