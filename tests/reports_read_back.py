"""Reports read back: which files there are, what the page says, and what stands in a Markdown table."""

import re
from html.parser import HTMLParser
from pathlib import Path

import optuna

from nas_relucode.report.write import write_report

ESCAPED = 0xE000  # of Unicode's private use: stands for an ASCII sign behind a backslash
WITHOUT_SETTINGS = {"report.html", "report.md", "pareto.png", "pareto.svg", "pareto.json", "trials.csv"}
FILES = WITHOUT_SETTINGS | {"own.toml"}  # of a study that run_study made


def parse_markdown(text: str) -> list[list[str]]:
    """The cells of a Markdown table, headings first; what makes it no table raises."""
    lines = re.sub(r"\\([!-/:-@[-`{-~])", lambda match: chr(ESCAPED + ord(match[1])), text).strip("\n").split("\n")
    rows = [line.split("|") for line in lines]
    assert all(row[0].strip() == "" and row[-1].strip() == "" for row in rows), "a line starts and ends with |"
    meant = {ESCAPED + code: code for code in range(128)}
    cells = [[cell.strip().translate(meant) for cell in row[1:-1]] for row in rows]
    assert len({len(row) for row in cells}) == 1, "every line has the same number of cells"
    assert all(re.fullmatch(r":?-+:?", cell) for cell in cells[1]), "the second line is the rule"
    return [cells[0], *cells[2:]]


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables in a text, a dictionary a row."""
    parsed = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        headings, *rows = parse_markdown(block)
        parsed.append([dict(zip(headings, row, strict=True)) for row in rows])
    return parsed


class Page(HTMLParser):
    """Every tag with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("span", "strong", "button"):  # what is not within a line ends the word before it
            self.texts.append(" ")
        if tag not in ("meta", "link", "br", "img", "input", "hr"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.inside or self.inside[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


def texts_of(study: optuna.Study, folder: Path) -> dict[str, str]:
    """What a report says: as Markdown, and as the page without its scripts."""
    files = write_report(study, folder)
    shown = Page(files["report.html"].read_text("utf-8")).text
    return {"md": files["report.md"].read_text("utf-8"), "html": shown}
