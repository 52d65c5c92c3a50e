"""A notebook as a page: it is run, and what it shows becomes text and pictures."""

import hashlib
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "notebooks"


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with the results of its cells, but for stderr; an error in a cell is an error here."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    for cell in notebook.cells:  # warnings of packages, with paths of this machine, say nothing to a reader
        if cell.cell_type == "code":
            cell["outputs"] = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def run_once(path: Path) -> nbformat.NotebookNode:
    """The same; an earlier build's is read from build/notebooks until the notebook or the package changes."""
    sources = [path, *sorted((ROOT / "nas_relucode").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    kept = BUILD / f"{path.stem}-{digest[:16]}.ipynb"
    if not kept.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        nbformat.write(run(path), kept)
    return nbformat.read(kept, as_version=4)


def as_markdown(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page and its pictures by name."""
    text, resources = MarkdownExporter().from_notebook_node(run_once(path))
    text = re.sub(r"<style scoped>.*?</style>", "", text, flags=re.DOTALL)
    return text, resources["outputs"]
