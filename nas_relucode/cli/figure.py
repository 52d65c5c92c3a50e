"""The command `figure`: runs or resumes the studies behind a figure of the paper, then draws it."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from nas_relucode.cli.progress import run_shown
from nas_relucode.errors import InputError, unknown
from nas_relucode.paper.figure_study import draw_figure
from nas_relucode.study.plan import Plan
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.study.storage import default_storage, study_name
from nas_relucode.toml_files import builtin_files

RELEASED = "_released"  # suffix of the name of a study that is run as in the released code


def run(options: argparse.Namespace) -> int:
    """Runs each study of the figure and draws its files; the exit code."""
    studies = figure_studies(options.figure, options.small)
    if len(studies) > 1 and options.study_name:
        raise InputError(f"figure {options.figure} is drawn from {', '.join(studies)}. Leave out --study-name.")
    code = 0
    for study in studies:
        code = max(code, _draw(study, options))
    return code


def figure_studies(figure: str, small: bool) -> list[str]:
    """The studies from which a figure of the paper is drawn; the name of a study stands for itself.

    >>> figure_studies("4", small=True)
    ['figure4a_small', 'figure4b_small']
    """
    if not figure.isdecimal():
        if small:
            raise InputError(f"{figure} is a study of one size. Leave out --small, or give the number of a figure.")
        return [figure]
    suffix = "_small" if small else ""
    studies = [name for name in builtin_files("studies") if re.fullmatch(f"figure{figure}[a-z]?{suffix}", name)]
    if not studies:
        known = {re.sub(r"\D", "", name) for name in builtin_files("studies") if name.startswith("figure")}
        raise unknown("figure", figure, sorted(known))
    return studies


def _draw(name: str, options: argparse.Namespace) -> int:
    settings = load_settings(name)
    if settings.figure is None:
        raise InputError(f"{name} has no [figure]. Add one, e.g. kind = 'curves'; `nas-relucode run` makes its report.")
    figure = settings.figure
    title = study_name(name, options.study_name)
    if options.released_code:
        settings, title = _as_released(settings), title + RELEASED
        figure = dataclasses.replace(figure, preset="released_code")
    if options.epochs is not None:
        figure = dataclasses.replace(figure, epochs=tuple(dict.fromkeys(options.epochs)))
        figure.check_epochs(settings.codes.kept_epochs)
    folder = Path(options.output or "runs", title)
    storage = options.storage or default_storage(title)
    study, progress = run_shown(title, settings, options, storage=storage, folder=folder)
    missing = Plan(study, settings.search, settings.search_space).missing_candidates()
    if missing:
        progress.say(f"{len(missing)} candidates of {title} have no result and are not drawn")
    drawn = draw_figure(study, figure, folder, on_panel=progress.say)
    print(f"{title}:\n")
    print("\n".join(drawn.sentences) + "\n")
    print("\n".join(str(path) for path in drawn.files if path.suffix in (".png", ".csv")))
    return 1 if missing else 0


def _as_released(settings: StudySettings) -> StudySettings:
    """The settings with codes read as in the code released with the paper."""
    codes = dataclasses.replace(settings.codes, preset="released_code", while_training=True)
    return dataclasses.replace(settings, codes=codes)
