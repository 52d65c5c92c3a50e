"""Whether every link of the site leads to a file and a place in it:  python docs/_generate/links.py build/site"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

ELSEWHERE = ("http:", "https:", "mailto:", "data:", "javascript:")


class Links(HTMLParser):
    """What a page refers to, and the places in it that others may refer to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.places |= {value for name in ("id", "name") if (value := values.get(name))}
        self.targets += [value for name in ("href", "src") if (value := values.get(name))]


def broken(site: Path) -> list[tuple[str, str]]:
    """Each page with a target in the site that does not exist."""
    site = site.resolve()
    pages = {page: Links(page) for page in site.rglob("*.html")}
    found = []
    for page, links in pages.items():
        for target in links.targets:
            if target.startswith(ELSEWHERE):
                continue
            path, place = urldefrag(unquote(target))
            file = (page.parent / path).resolve() if path else page
            if path.startswith("/"):  # of 404.html, which a server shows at any address
                file = site / path.lstrip("/")
            file = file / "index.html" if file.is_dir() else file
            if not file.exists() or (place and file in pages and place not in pages[file].places):
                found.append((page.relative_to(site).as_posix(), target))
    return found


if __name__ == "__main__":
    sys.exit("\n".join(f"{page}: {target} does not exist" for page, target in broken(Path(sys.argv[1]))) or 0)
