"""Names of others' making, as a terminal, a table or a figure can show them."""


def plain(text: str) -> str:
    """The text on one line, without what would steer a terminal or could not stand in an XML file.

    >>> plain("a\\nb\\x1b[31m")
    'a b [31m'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)
