"""The command `status`: how far a study has come."""

from __future__ import annotations

import argparse

from nas_relucode.cli.stored_studies import study_address
from nas_relucode.errors import InputError
from nas_relucode.study.storage import redact, storage_errors
from nas_relucode.texts import as_json
from nas_relucode.workers.status import study_status


def run(options: argparse.Namespace) -> int:
    """Prints how far a study has come; the exit code."""
    name, storage = study_address(options)
    with storage_errors(storage):
        try:
            status = study_status(name, storage)
        except KeyError as error:
            raise InputError(f"there is no study {name!r} in {redact(storage)}.") from error
    print(as_json(status.as_dict(), indent=2) if options.format == "json" else "\n".join(status.lines()))
    return 0
