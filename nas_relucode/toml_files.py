"""TOML files, built-in or the user's own, read into dataclasses; an unknown key or a wrong type is an error."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import re
import textwrap
import tokenize
import tomllib
import types
import typing
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from nas_relucode.errors import InputError, unknown
from nas_relucode.files import read_text

T = TypeVar("T")


def builtin_files(folder: str) -> dict[str, str]:
    """The texts of the TOML files in ``search_spaces`` or ``studies`` by their names without .toml.

    An installed package holds them; without an installation they are read from the checkout.
    """
    directory = resources.files("nas_relucode") / "builtin" / folder
    checkout = Path(__file__).parents[1]
    if not directory.is_dir() and (checkout / "pyproject.toml").is_file():
        directory = checkout / folder
    files = sorted(file.name for file in directory.iterdir() if file.name.endswith(".toml"))
    return {name.removesuffix(".toml"): (directory / name).read_text("utf-8") for name in files}


def read_toml(folder: str, name: str) -> dict[str, Any]:
    """The table in a built-in file of ``folder`` (``name`` is bare) or in the user's own file (it ends in .toml)."""
    if name.endswith(".toml"):
        text = read_text(name, "Give a TOML file in UTF-8.")
    else:
        files = builtin_files(folder)
        if name not in files:
            what = {"studies": "built-in study", "search_spaces": "search space"}[folder]
            raise InputError(f"{unknown(what, name, files)} A file of your own ends in .toml.")
        text = files[name]
    return toml_table(text, name)


def toml_table(text: str, name: str) -> dict[str, Any]:
    """The table that a text in TOML holds; ``name`` says in errors where it is from."""
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(f"{name} is not valid TOML: its lists or tables are nested too deeply.") from error
    except ValueError as error:  # TOMLDecodeError, and what int() says of thousands of digits
        raise InputError(f"{name} is not valid TOML: {error}.") from error


def toml_key(name: str) -> str:
    """A key as TOML, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)


def toml_value(value: Any) -> str:
    """A value as TOML, tables in one line.

    >>> toml_value({"low": 0.1, "values": (1, "a", True)})
    '{low = 0.1, values = [1, "a", true]}'
    """
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml_key(name)} = {toml_value(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def table_fields(dataclass: type) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that a table may hold: those in which two of its instances can differ."""
    return [field for field in dataclasses.fields(dataclass) if field.init and field.compare]


def parse(dataclass: type[T], table: Any, where: str) -> T:
    """The instance of ``dataclass`` that ``table`` describes; ``where`` names the table in errors.

    >>> @dataclasses.dataclass
    ... class Size:
    ...     width: float = 1.0
    >>> parse(Size, {"width": 2}, "size.toml")
    Size(width=2.0)
    """
    if not isinstance(table, dict):
        raise InputError(f"{where} is {table!r}, but must be a table.")
    hints = typing.get_type_hints(dataclass)
    fields = table_fields(dataclass)
    names = [field.name for field in fields]
    for key in table:
        if key not in names:
            raise InputError(f"{where}: {unknown('key', key, names)}")
    for field in fields:
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in table:
            raise InputError(f"{where}: the key {field.name!r} is missing. Keys: {', '.join(names)}.")
    try:
        return dataclass(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})
    except InputError as error:
        if where in str(error):
            raise
        raise InputError(f"{where}: {error}") from error


def field_comments(dataclass: type) -> dict[str, str]:
    """What each field of a dataclass means: the comment behind it in the source, also of the classes that it extends.

    >>> from nas_relucode.study.candidates import Candidate
    >>> field_comments(Candidate)["network"]
    'identifies the parameters, see `network_key`'
    """
    comments: dict[str, str] = {}
    for cls in reversed([cls for cls in dataclass.__mro__ if dataclasses.is_dataclass(cls)]):
        source = textwrap.dedent(inspect.getsource(cls))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        behind = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and node.end_lineno in behind:
                comments[node.target.id] = behind[node.end_lineno]  # type: ignore[union-attr]
    return comments


def _value(hint: Any, value: Any, where: str) -> Any:
    """``value`` converted to the type of a field; for a union, to the first of its types that fits."""
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            if option is not type(None) and _fits(option, value):
                return _value(option, value, where)
    elif _fits(hint, value):
        if origin is tuple:
            return tuple(_value(arguments[0], item, f"{where}: item {i}") for i, item in enumerate(value, 1))
        return float(value) if hint is float else value
    if _is_too_large(value):
        raise InputError(f"{where} is a number of {len(str(abs(value)))} digits. Give one that 64 bits can hold.")
    raise InputError(f"{where} is {value!r}, but must be {type_in_words(hint)}.")


def _is_too_large(value: Any) -> bool:
    """Whether a whole number is larger than TOML's, which have 64 bits."""
    return type(value) is int and not -(2**63) <= value < 2**63


def _fits(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return isinstance(value, list)
    if hint is Any:
        return True
    if origin is dict:
        return isinstance(value, dict) and all(_fits(typing.get_args(hint)[1], item) for item in value.values())
    if dataclasses.is_dataclass(hint):
        return isinstance(value, dict)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(option, value) for option in typing.get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    if _is_too_large(value):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def type_in_words(hint: Any) -> str:
    """A field's type as somebody who writes TOML knows it.

    >>> type_in_words(tuple[int, ...] | None)
    'a list, each item a whole number'
    """
    words = {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return f"a list, each item {type_in_words(arguments[0])}"
    if origin is dict:
        return "a table of strings" if arguments[1] is str else "a table"
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_in_words(option) for option in arguments if option is not type(None))
    return words.get(hint, "a table")
