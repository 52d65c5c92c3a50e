"""What mkdocstrings makes of our docstrings: doctests as code, names as links, and a table of parameters.

A parameter is described by the comment behind a dataclass's field, by the sentence of the docstring that names it in
two backticks, or, if its meaning is the same everywhere, by `parameters.toml`.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

SHARED: dict[str, str] = tomllib.loads((Path(__file__).parent / "parameters.toml").read_text("utf-8"))


def sentence_about(name: str, docstring: str) -> str | None:
    """The first sentence of a docstring that names a parameter in two backticks, preferably at its beginning."""
    prose = docstring.split(">>>")[0]
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n|\n\s*- ", prose)]
    sentences = [s.removeprefix("- ") for text in paragraphs for s in re.split(r"(?<=[.;])\s+(?=[A-Z`])", text)]
    about = [s for s in sentences if re.search(rf"``(?:[^`]*\W)?{name}(?:\W[^`]*)?``", s)]
    return min(about, key=lambda s: (not s.startswith(f"``{name}"), sentences.index(s)), default=None)


def comment_of(cls: griffe.Class, name: str) -> str | None:
    """The comment behind a field of a class, or of one that it extends."""
    for owner in [cls, *_bases(cls)]:
        member = owner.members.get(name)
        if isinstance(member, griffe.Attribute) and member.endlineno:
            line = member.filepath.read_text("utf-8").splitlines()[member.endlineno - 1]  # type: ignore[union-attr]
            if "  # " in line:
                return line.rpartition("  # ")[2]
    return None


def _bases(cls: griffe.Class) -> list[griffe.Class]:
    try:
        return [base for base in cls.mro() if isinstance(base, griffe.Class)]
    except (ValueError, griffe.GriffeError):
        return []


def description(item: griffe.Function | griffe.Class, name: str) -> str | None:
    """What a parameter of a function, a method or a class means; None if nothing says it."""
    owner = item if isinstance(item, griffe.Class) else item.parent
    classes = [owner, *_bases(owner)] if isinstance(owner, griffe.Class) else []
    texts = [thing.docstring.value for thing in [item, *classes] if thing.docstring]
    for text in texts[:1]:
        if sentence := sentence_about(name, text):
            return sentence
    if classes and isinstance(owner, griffe.Class) and (comment := comment_of(owner, name)):
        return comment
    return next((s for text in texts[1:] if (s := sentence_about(name, text))), None) or SHARED.get(name)


def parameters_of(item: griffe.Function | griffe.Class) -> list[str]:
    """The names of the parameters that a caller gives."""
    return [p.name.lstrip("*") for p in item.parameters if p.name.lstrip("*") not in ("self", "cls")]


class Docstrings(griffe.Extension):
    """Rewrites the docstrings of a package before they are read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        described = [(item, _rows(item)) for item in _items(pkg)]  # from the docstrings as they stand in the code
        for item, lines in described:
            assert item.docstring is not None
            item.docstring.value = "\n\n".join([as_markdown(item.docstring.value), *lines])


def _items(parent: griffe.Object) -> Iterator[griffe.Object]:
    """Everything in a package that has a docstring."""
    if parent.docstring is not None:
        yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _items(member)  # type: ignore[arg-type]


def _rows(item: griffe.Object) -> list[str]:
    """The section of parameters."""
    if not isinstance(item, griffe.Function | griffe.Class):
        return []
    described = [(p.name, description(item, p.name.lstrip("*"))) for p in item.parameters if p.name != "self"]
    rows = [f"    {name}: {text.replace('``', '`')}" for name, text in described if text]
    return ["\n".join(["Parameters:", *rows])] if rows else []


def as_markdown(docstring: str) -> str:
    """Doctests and literal blocks in fences, two backticks as one; what stood in one is code as well."""
    text = re.sub(r"``([^`\n]+(?:\n[^`\n]+)?)``", r"`\1`", docstring)
    parts = re.split(r"((?:^>>> .*\n?)(?:^(?!\s*$).*\n?)*)", text, flags=re.MULTILINE)
    text = "".join(f"```python\n{part.strip()}\n```\n" if part.startswith(">>>") else part for part in parts)
    return re.sub(r"::\n\n((?:    .*\n|\n)+)", lambda match: ":\n\n" + match[1] + "\n", text + "\n").strip()
