"""Reports read back: which files there are, and what stands in a Markdown table."""

import re

WITHOUT_SETTINGS = {"report.html", "report.md", "pareto.png", "pareto.svg", "pareto.json", "trials.csv"}
FILES = WITHOUT_SETTINGS | {"own.toml"}  # of a study that run_study made


def parse_markdown(text: str) -> list[list[str]]:
    """The cells of a Markdown table, headings first; what makes it no table raises."""
    lines = text.strip("\n").split("\n")
    rows = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert all(row[0].strip() == "" and row[-1].strip() == "" for row in rows), "a line starts and ends with |"
    cells = [[cell.strip().replace("\\|", "|") for cell in row[1:-1]] for row in rows]
    assert len({len(row) for row in cells}) == 1, "every line has the same number of cells"
    assert all(re.fullmatch(r":?-+:?", cell) for cell in cells[1]), "the second line is the rule"
    return [cells[0], *cells[2:]]


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables in a text, a dictionary a row."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        headings, *rows = parse_markdown(block)
        found.append([dict(zip(headings, row, strict=True)) for row in rows])
    return found
