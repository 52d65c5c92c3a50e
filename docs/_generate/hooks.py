"""What mkdocs calls: adds the pages that are made from code, and a page for each station of the package."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

sys.path.insert(0, str(Path(__file__).parent))

import notebooks
import reference

SHIM = "https://unpkg.com/iframe-worker/shim"  # the same file: docs/vendor


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the stations' pages into the navigation."""
    sections = {title: pages for section in config.nav or [] for title, pages in section.items()}
    python = next(entry for entry in sections["Reference"] if "Python" in entry)
    python["Python"] = [{name or "nas_relucode": reference.page_of(name)} for name in reference.STATIONS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made from code."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    for source in Path(config.docs_dir).rglob("*.ipynb"):
        path = source.relative_to(config.docs_dir)
        text, pictures = notebooks.as_markdown(source)
        files.append(File.generated(config, path.with_suffix(".md").as_posix(), content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, (path.parent / name).as_posix(), content=picture))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Takes the script by which the search works in files from the site itself, not from a server."""
    return output.replace(SHIM, get_relative_url("vendor/iframe-worker.js", page.url))


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page of addresses that do not exist."""
    return output.replace(SHIM, "/vendor/iframe-worker.js")
