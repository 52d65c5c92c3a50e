"""The command line: reads the options, then imports and runs one command. Exit codes: 0 done, 1 failed, 2 misuse."""

from __future__ import annotations

import argparse
import gc
import importlib
import logging
import os
import sys

from nas_relucode.cli.arguments import read
from nas_relucode.cli.interruptions import swallowed_interruptions_raised_again
from nas_relucode.cli.printing import INTERRUPTED, print_message
from nas_relucode.errors import InputError
from nas_relucode.files import read_text

LONGEST_URL = 65_536  # bytes
READING = ("status", "select", "report")  # they read a study and end: collecting garbage takes a tenth of their time


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options, collecting = None, gc.isenabled()
    try:
        options = read(arguments)
        logging.captureWarnings(True)
        _read_storage(options)
        gc.disable()  # looking for garbage among modules that are being imported takes a tenth of the time
        command = importlib.import_module(f"nas_relucode.cli.{options.command}")
        if collecting and options.command not in READING:
            gc.enable()
        if "optuna" in sys.modules:
            import optuna

            optuna.logging.set_verbosity(optuna.logging.INFO if options.verbose else optuna.logging.ERROR)
        with swallowed_interruptions_raised_again():
            code: int = command.run(options)
        sys.stdout.flush()  # at Python's end, an error would be shown with a traceback
        return code
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python closes it at its end
        return 0
    except InputError as error:
        return _fail(options, error, str(error), 2)
    except OSError as error:
        file = f"{error.filename} cannot be used ({error.strerror})" if error.filename else str(error.strerror or error)
        advice = "Check that the folder exists, is writable and is not full; the same command then resumes."
        return _fail(options, error, f"{file}. {advice}", 2)
    except KeyboardInterrupt as error:
        return _fail(options, error, INTERRUPTED, 1)
    except Exception as error:
        if _is_interrupted(error):  # some libraries turn an interruption, of an import say, into an error of their own
            return _fail(options, error, INTERRUPTED, 1)
        return _fail(options, error, f"{type(error).__name__}: {error} (--debug shows where)", 1)
    finally:
        if collecting:
            gc.enable()


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether the error came about because of Ctrl-C."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _read_storage(options: argparse.Namespace) -> None:
    """Makes a URL of an SQLite file given as --storage, and reads the one in --storage-file.

    Warns if a password was given on the command line, in --storage or in the place of the study's name.
    """
    url, study = getattr(options, "storage", None), getattr(options, "study", None)
    if url and "://" not in url and os.path.isfile(url):
        options.storage = url = f"sqlite:///{url}"
    if study and "://" in study:
        url = study
    if url and url != os.environ.get("OPTUNA_STORAGE"):
        from nas_relucode.study.storage import has_password

        if has_password(url):
            print_message(
                "everybody on this machine can read a password on the command line. "
                "Put the URL in OPTUNA_STORAGE, or in a file for --storage-file.",
                "warning",
            )
    file = getattr(options, "storage_file", None)
    if file is not None:
        needed = "Name a file that holds the storage's URL."
        options.storage = read_text(file, needed, LONGEST_URL).strip()
        if not options.storage:
            raise InputError(f"{file} is empty. {needed}")


def _fail(options: argparse.Namespace | None, error: BaseException, message: str, code: int) -> int:
    if options is not None and options.debug:
        raise error
    print_message(message)
    return code
