"""The command `run`: a study, run or resumed in this process, and its report."""

from __future__ import annotations

import argparse
import sys

from optuna.trial import TrialState

from nas_relucode.cli.printing import print_message
from nas_relucode.cli.progress import run_shown
from nas_relucode.cli.report import report_study
from nas_relucode.cli.stored_studies import study_folder
from nas_relucode.files import check_folder
from nas_relucode.ranking.trials import trials_frame
from nas_relucode.report.tables import retries
from nas_relucode.study.plan import Plan
from nas_relucode.study.settings import load_settings
from nas_relucode.study.storage import default_storage, redact, study_name
from nas_relucode.texts import counted


def run(options: argparse.Namespace) -> int:
    """Runs what is left of the study and reports it; the exit code."""
    settings = load_settings(options.study)
    name = study_name(options.study, options.study_name)
    storage = options.storage or default_storage(name)
    folder = check_folder(study_folder(options, name))  # refused now rather than after the training
    study, _ = run_shown(name, settings, options, storage=storage, folder=folder)
    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        print("\n".join(retries(trials_frame(study))), file=sys.stderr)
        print_message("no trial was completed, so there is nothing to report.")
        return 1
    code = 0
    if settings.network.decoder is None:
        code = report_study(study, options, storage)
    else:
        print(f"Autoencoders have no accuracy to rank by: their trials are in {redact(storage)}.")
    if settings.figure is not None:
        print(f"Its figure: nas-relucode figure {options.study}")
    missing = Plan(study, settings.search, settings.search_space).missing_candidates()
    if missing:
        have = "has" if len(missing) == 1 else "have"
        print_message(f"{counted(len(missing), 'candidate')} {have} no result; see the report.")
    return 1 if missing else code
