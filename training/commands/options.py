"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from training import networks

Commands = argparse._SubParsersAction


def command(commands: Commands, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """A new command, which `run` runs; its docstring is the help."""
    added = commands.add_parser(name, help=run.__doc__)
    added.set_defaults(run_command=run)
    return added


def add_data(command: argparse.ArgumentParser, required: bool = True) -> None:
    command.add_argument("--data", type=Path, required=required, help="a directory in CelebA's layout, or of shards")
    command.add_argument("--cache", type=Path, default=Path(".facet-cache"), help="resized pixels are kept here")


def add_machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", help="cpu, cuda or cuda:N; a GPU if there is one")
    command.add_argument("--threads", type=at_least_one, metavar="N", help="to compute with; as many as are free")


def add_preset(command: argparse.ArgumentParser) -> None:
    command.add_argument("--preset", required=True, help="a preset's name, or the path of a .toml file")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")


def add_networks(command: argparse.ArgumentParser) -> None:
    command.add_argument("--networks", type=Path, default=networks.DIRECTORY, help="directory of others' networks")


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 1")
    return value


def at_least_two(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 2")
    return value


def strength(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"{value:g}: must be from 0 to 2, as of the service's edits")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value}: must lie between 0 and 1")
    return value
