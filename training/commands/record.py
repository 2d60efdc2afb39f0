"""show and report: what a preset says, and what a run did."""

from __future__ import annotations

import argparse
from pathlib import Path

from training import config, files, run_report
from training.commands import options
from training.config.describe import describe


def show(arguments: argparse.Namespace) -> int:
    """Print the whole configuration of a preset, with a description of each value."""
    print(describe(config.load(arguments.preset, arguments.set)), end="")
    return 0


def report_runs(arguments: argparse.Namespace) -> int:
    """Write a page with a run's configuration, curves, figures and sheets, or with two runs beside each other."""
    if len(arguments.runs) > 2:
        raise config.ConfigError(f"{len(arguments.runs)} runs: one or two can be reported at a time")
    out = arguments.out or arguments.runs[0] / "report.html"
    text = run_report.page([run_report.read(run) for run in arguments.runs], arguments.sheets)
    files.write_text(out, text)
    print(out)
    return 0


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "show", show)
    command.add_argument("preset", help="a preset's name, or the path of a .toml file")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")

    command = options.command(commands, "report", report_runs)
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one run directory, or two")
    command.add_argument("--sheets", type=options.at_least_one, default=6, help="of each run, evenly spread (6)")
    command.add_argument("--out", type=Path, help="an HTML file (report.html in the first run)")
