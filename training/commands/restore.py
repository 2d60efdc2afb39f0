"""restore: a stage of a bundle as a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from training import checkpoint, files, restore
from training.commands import options


def restored(arguments: argparse.Namespace) -> int:
    """Write a stage of a bundle as a checkpoint, for `python -m export bundle` and `fit --vae`, `--prior`."""
    state = restore.state_of(arguments.bundle, arguments.stage)
    with files.directory(arguments.out.parent):
        checkpoint.save(arguments.out, state)
    print(arguments.out)
    return 0


def add(commands: options.Commands) -> None:
    """Describe the command of this module to the command line."""
    command = options.command(commands, "restore", restored)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--stage", choices=sorted(restore.ENTRIES), required=True)
    command.add_argument("--out", type=Path, required=True, metavar="FILE.pt")
