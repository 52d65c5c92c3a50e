"""Tables as text: on a terminal and in Markdown nothing of a cell is lost, and nothing in it is taken for markup."""

import html
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports_read_back import parse_markdown

from nas_relucode.report.tables import markdown, markdown_table, text_table
from nas_relucode.texts import with_spread

pytestmark = pytest.mark.usefixtures("without_figure")

words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="|\\"), max_size=6)


any_words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8)


@given(st.lists(any_words, min_size=1, max_size=4).map(" ".join))
def test_markdown_shows_every_text_letter_by_letter(text: str):
    library = pytest.importorskip("markdown_it", reason="no markdown-it-py: pip install nas-relucode[test]")
    shown = library.MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"Text {markdown(text)}")
    assert html.unescape(shown.removeprefix("<p>").removesuffix("</p>\n")) == f"Text {text}"


@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(any_words, min_size=n, max_size=n), min_size=1, max_size=4))
)
def test_a_markdown_table_loses_nothing(lines: list[list[str]]):
    assert parse_markdown(markdown_table((lines[0], lines[1:]))) == lines


@given(st.text(max_size=20))
def test_on_a_terminal_a_table_has_one_line_per_row_and_no_control_characters(text: str):
    shown = text_table((["a", "b"], [["1", text]]))
    assert len(shown.split("\n")) == 3
    assert shown.replace("\n", "").isprintable()


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(words, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_a_text_table_is_a_markdown_table_and_loses_nothing(lines: list[list[str]]):
    assert parse_markdown(text_table((lines[0], lines[1:]))) == lines


def test_a_bar_in_a_cell_does_not_break_the_table():
    assert parse_markdown(text_table((["setting", "value"], [["data.source", "a|b"]]))) == [
        ["setting", "value"],
        ["data.source", "a|b"],
    ]


def test_the_columns_of_a_text_table_are_aligned():
    lines = text_table((["network", "n"], [["8 @ 0.1", "100"], ["4", "5"]])).split("\n")
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (1234.5678, 12.3, "1235 ± 12"),
        (0.98765, math.nan, "0.9877"),
        (12.345, 0.5, "12.35 ± 0.50"),
        (3.0, math.nan, "3"),
    ],
)
def test_numbers_are_rounded_alike_with_their_spread(mean: float, spread: float, text: str):
    assert with_spread(mean, spread) == text
