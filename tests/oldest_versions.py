"""The oldest versions that pyproject.toml allows, as constraints:  python3 tests/oldest_versions.py [PACKAGE ...]

The packages that are named are left out: `make oldest` takes torch from .venv, since its download is large.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest_versions(*left_out: str) -> list[str]:
    """The lower bound of each dependency as a requirement of exactly that version."""
    dependencies = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["dependencies"]
    pairs = [re.match(r"([\w-]+)>=([\w.]+)", dependency).groups() for dependency in dependencies]
    return [f"{name}=={version}" for name, version in pairs if name not in left_out]


if __name__ == "__main__":
    print("\n".join(oldest_versions(*sys.argv[1:])))
