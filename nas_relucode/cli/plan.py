"""The command `plan`: the candidates of a study as waiting trials in PostgreSQL, for workers."""

from __future__ import annotations

import argparse

from nas_relucode.cli.printing import print_message
from nas_relucode.cli.progress import Progress
from nas_relucode.cli.stored_studies import queue_address
from nas_relucode.study.settings import load_settings
from nas_relucode.study.storage import redact
from nas_relucode.texts import counted
from nas_relucode.workers.planning import plan_study
from nas_relucode.workers.retrying import StorageUnavailableError


def run(options: argparse.Namespace) -> int:
    """Creates the study in its storage and enqueues what it needs; the exit code."""
    settings = load_settings(options.study)
    name, storage = queue_address(options)
    try:
        study, added = plan_study(
            name,
            settings,
            storage=storage,
            data_root=options.data_root,
            download=options.download,
            heartbeat=options.heartbeat,
            artifacts=options.artifacts,
            patience=options.patience,
            say=Progress(options).say,
        )
    except StorageUnavailableError as error:
        print_message(f"{error}. The same command then resumes.")
        return 1
    what = f"{counted(added, 'trial')} enqueued" if added else "nothing to enqueue"
    print(f"study {study.study_name} in {redact(storage)}: {what}.")
    print(f"Start as many workers as you like: nas-relucode worker {options.study}")
    return 0
