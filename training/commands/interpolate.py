"""interpolate: weights between those of two checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import Tensor

from training import checkpoint, files
from training.checkpoint import CheckpointError
from training.commands import options


def interpolate(arguments: argparse.Namespace) -> int:
    """Write the averaged weights between those of two checkpoints of one stage (Wortsman et al., "WiSE-FT", 2022).

    A run that began with the first one's weights often goes too far where it saw little: part of the way keeps more of
    what the first one did well. The result has the facts of the second one, and can be exported.
    """
    first = checkpoint.load(arguments.first)
    second, _ = checkpoint.load_run(arguments.second, checkpoint.config_of(first, arguments.first).stage)
    with checkpoint.damaged(arguments.first):
        start = first["ema"]
    with checkpoint.damaged(arguments.second):
        end = second["ema"]
        facts = {name: second[name] for name in ("config", "step", "epochs", "data_sha256", "command")}
    state = facts | {"ema": _between(start, end, arguments.share, arguments.second)}
    state["command"] += f"; python -m training interpolate --share {arguments.share:g}"
    with files.directory(arguments.out.parent):
        checkpoint.save(arguments.out, state)
    print(arguments.out)
    return 0


def _between(start: dict[str, Tensor], end: dict[str, Tensor], share: float, path: Path) -> dict[str, Tensor]:
    """`share` of the way from `start` to `end`. Raises CheckpointError where they are not of one structure."""
    for name in start.keys() | end.keys():
        shapes = [tuple(each[name].shape) if name in each else None for each in (start, end)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(f"{path}: ema.{name} has the shape {shapes[1]}; that of the other is {shapes[0]}")
    return {name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in end.items()}


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to 1")
    return share


def add(commands: options.Commands) -> None:
    """Describe the command of this module to the command line."""
    command = options.command(commands, "interpolate", interpolate)
    command.add_argument("first", type=Path, metavar="FIRST.pt")
    command.add_argument("second", type=Path, metavar="SECOND.pt")
    command.add_argument("--share", type=_share, default=0.7, help="of the way from the first to the second (0.7)")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.pt")
