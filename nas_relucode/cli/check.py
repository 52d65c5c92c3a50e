"""The command `check`: what a study would run, and about how long it would take."""

from __future__ import annotations

import argparse
import dataclasses

from nas_relucode.study.forecast import Forecast, Timing, forecast
from nas_relucode.study.settings import StudySettings, load_settings
from nas_relucode.texts import aligned, as_json, counted, duration

SHOWN = 20  # networks in the table


def run(options: argparse.Namespace) -> int:
    """Reads the study's file, builds its networks and times an epoch of three; the exit code."""
    settings = load_settings(options.study)
    expected = forecast(settings, data_root=options.data_root, download=options.download, device=options.device)
    if options.format == "json":
        timings = [{**dataclasses.asdict(timing), "candidate": timing.candidate.label} for timing in expected.timings]
        print(as_json(dataclasses.asdict(expected) | {"timings": timings}, indent=2))
    else:
        print(_text(settings, expected))
    return 0


def _text(settings: StudySettings, expected: Forecast) -> str:
    seeds = len(settings.search.seeds)
    networks = expected.trials // seeds
    space = "without end" if expected.networks is None else f"of {counted(expected.networks, 'network')}"
    drawn = "" if settings.search.trials is None else f", drawn from a space {space} by {settings.search.sampler}"
    lines = [
        f"{counted(networks, 'network')}{drawn}, {counted(seeds, 'seed')} each: {counted(expected.trials, 'trial')} of "
        f"{counted(settings.training.epochs, 'epoch')}.",
        f"Objectives: {', '.join(f'{name} ({way})' for name, way in settings.objectives.items())}.",
    ]
    if settings.search.finalist_seeds is not None:
        lines.append(f"Networks still in question then get up to {settings.search.finalist_seeds} seeds (not counted).")
    names = list(expected.parameters)
    rows = [["structure", "parameters"], *([name, f"{expected.parameters[name]:,}"] for name in names[:SHOWN])]
    lines += ["", aligned(rows), *([f"and {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []), ""]
    lines.append(f"Timed: {'; '.join(map(_timed, expected.timings))}.")
    if expected.start >= 1:
        lines.append(f"The first trial takes about {_about(expected.start)} more, since loops are compiled once.")
    lines.append(f"All trials, one after the other on this machine: about {duration(expected.seconds)}.")
    return "\n".join(lines)


def _timed(timing: Timing) -> str:
    epoch = f"{_about(timing.epoch)} an epoch and " if timing.epoch else ""  # there may be none
    return f"{timing.candidate.label} {epoch}{_about(timing.rest)} besides"


def _about(seconds: float) -> str:
    """A time that was measured once: two digits say all that is known."""
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
