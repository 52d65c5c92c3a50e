"""The documentation's site: it is built without a warning, all its links lead somewhere, and its search finds words."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_browser import browser

pytest.importorskip("mkdocs", reason="pip install nas-relucode[docs]")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as by `make docs`, but for the pictures, which are in the checkout."""
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "WARNING -" not in done.stderr
    return folder


def test_the_notebook_runs_and_shows_tables_and_pictures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_generate"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = importlib.import_module("notebooks").run(ROOT / "docs" / "tutorials" / "notebook.ipynb")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= shown
    assert "stderr" not in {output.get("name") for output in outputs}
    assert any("Choose" in output.get("text", "") for output in outputs)


def test_every_link_of_the_site_leads_to_a_file_and_a_place_in_it(site: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_generate"))
    assert len(list(site.rglob("*.html"))) > 50
    assert importlib.import_module("links").broken(site) == []


def test_a_broken_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_generate"))
    (tmp_path / "a.html").write_text('<a href="b.html#here">1</a><a href="b.html#there">2</a><img src="no.png">')
    (tmp_path / "b.html").write_text('<p id="here"><a href="a.html">3</a><a href="https://example.org">4</a></p>')
    assert importlib.import_module("links").broken(tmp_path) == [("a.html", "b.html#there"), ("a.html", "no.png")]


def test_nothing_is_loaded_from_elsewhere(site: Path):
    """A link may lead to the world; scripts, styles, fonts and pictures may not come from it."""
    for page in site.rglob("*.html"):
        for tag in ("<script src", '<link rel="stylesheet" href', "<img src"):
            for text in page.read_text("utf-8").split(tag)[1:]:
                assert not text.lstrip("= \"'").startswith(("http:", "https:", "//")), (page, text[:80])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_the_window(site: Path, width: int, scheme: str):
    with browser(width) as driver:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for name in ("index", "tutorials/verdict", "reference/indices", "reference/python/cells", "equality"):
            driver.get((site / f"{name}.html").as_uri())
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width, name
            colours = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
            text, ground = (brightness(colour) for colour in driver.execute_script(colours))
            assert (text < ground) == (scheme == "light"), name


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour[colour.index("(") + 1 :].rstrip(")").split(",")[:3])


def test_the_search_finds_adjacent_from_a_file(site: Path):
    with browser(1280) as driver:
        driver.get((site / "index.html").as_uri())
        box = driver.find_element("css selector", "input.md-search__input")
        driver.execute_script("document.querySelector('#__search').click()")
        box.send_keys("adjacent")
        end = time.perf_counter() + 60
        while not (links := driver.find_elements("css selector", ".md-search-result__link")):
            assert time.perf_counter() < end, "nothing is found"
            time.sleep(0.2)
        assert any("codes-and-cells" in link.get_attribute("href") for link in links)
