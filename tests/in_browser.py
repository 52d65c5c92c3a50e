"""A page in headless Chromium: opened as a file, without a network, at a width of one's choice."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A driver of selenium's; the test skips where a part is absent."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium: pip install nas-relucode[test]")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
        yield driver
    finally:
        driver.quit()


OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


def open_page(driver: Any, path: Path) -> float:
    """Opens the page and waits until every figure is drawn; how long that took in seconds."""
    start = time.perf_counter()
    driver.get(path.resolve().as_uri())
    wait_for_figures(driver)
    return time.perf_counter() - start


def wait_for_figures(driver: Any, seconds: float = 60) -> None:
    end = time.perf_counter() + seconds
    while driver.execute_script("return document.body.dataset.drawn") != "all":
        assert time.perf_counter() < end, "the figures are not drawn"
        time.sleep(0.02)


def complaints(driver: Any) -> list[str]:
    """What the page logged since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]


def table(driver: Any, key: str) -> list[dict[str, str]]:
    """The rows of a table as the page shows them."""
    script = """
    const lines = [...document.getElementById(arguments[0]).rows];
    return lines.map((line) => [...line.cells].map((cell) => cell.textContent));
    """
    headings, *rows = driver.execute_script(script, key)
    return [dict(zip(headings, row, strict=True)) for row in rows]
