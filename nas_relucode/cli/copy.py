"""The command `copy`: a built-in study or search space as a file of the user's own."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

from nas_relucode.errors import unknown
from nas_relucode.files import check_new, write_atomically
from nas_relucode.toml_files import builtin_files


def run(options: argparse.Namespace) -> int:
    """Copies a built-in study or search space to a new file; the exit code."""
    studies = builtin_files("studies")
    spaces = builtin_files("search_spaces")
    files = studies | {f"search_spaces/{name}" if name in studies else name: spaces[name] for name in spaces}
    if options.name not in files:
        raise unknown("study or search space", options.name, files)
    target = check_new(Path(options.file), ".toml")
    text = _explained(files[options.name], spaces) if options.name in studies else files[options.name]
    write_atomically(target, lambda path: path.write_text(text, "utf-8"))
    if options.name in studies:
        use = f"Try `nas-relucode check {target}`, then `nas-relucode run {target}`."
    else:
        use = f'Name it in a study: space = "{target}".'
    print(f"{target}: a copy of {options.name}. {use}")
    return 0


def _explained(text: str, spaces: dict[str, str]) -> str:
    """A study's file with a comment at every key, and with the search space that it names inside."""
    from nas_relucode.study.explained import explained

    study = tomllib.loads(text)
    space = study["search"].pop("space")
    return explained(study, tomllib.loads(spaces[space]) if isinstance(space, str) else space)
