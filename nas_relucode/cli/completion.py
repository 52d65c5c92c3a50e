"""The command `completion`: a script by which a shell completes commands and options."""

from __future__ import annotations

import argparse

from nas_relucode.cli.arguments import build_parser
from nas_relucode.errors import InputError


def run(options: argparse.Namespace) -> int:
    """Prints the script for a shell; the exit code."""
    try:
        import shtab
    except ImportError as error:
        raise InputError("completion needs shtab. Install it: pip install 'nas-relucode[completion]'.") from error
    parser, _ = build_parser()
    print(shtab.complete(parser, options.shell))
    return 0
