"""Names that users chose, made safe for a terminal, a table or a figure."""


def plain(text: str) -> str:
    """The text on one line: characters that control a terminal or are illegal in XML become spaces.

    >>> plain("a\\nb\\x1b[31m")
    'a b [31m'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)
