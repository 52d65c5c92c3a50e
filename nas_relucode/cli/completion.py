"""The command `completion`: a script by which a shell completes commands and options."""

from __future__ import annotations

import argparse

import shtab

from nas_relucode.cli.arguments import build_parser


def run(options: argparse.Namespace) -> int:
    """Prints the script for a shell; the exit code."""
    parser, _ = build_parser()
    print(shtab.complete(parser, options.shell))
    return 0
