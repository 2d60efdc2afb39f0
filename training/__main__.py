"""python -m training COMMAND; --help lists the commands."""

from __future__ import annotations

import argparse
import sys

import torch

from service.bundle.manifest import BundleError
from service.faces.weights import WeightsError
from training import files
from training.checkpoint import CheckpointError
from training.commands import calibrate, compare, data, draw, evaluate, fit, interpolate, judge, record, restore
from training.config import ConfigError
from training.data.cache import CacheError
from training.data.lists import DatasetError
from training.evaluation.editing import EditingError
from training.networks import NetworkError
from training.preflight import PreflightError
from training.provenance import ProvenanceError
from training.tflite import TfliteError
from training.trainer import DivergedError

_MISTAKES = (
    BundleError,
    CacheError,
    CheckpointError,
    ConfigError,
    DivergedError,
    PreflightError,
    DatasetError,
    EditingError,
    NetworkError,
    ProvenanceError,
    TfliteError,
    WeightsError,
)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)
    for module in (record, data, fit, judge, calibrate, compare, evaluate, draw, restore, interpolate):
        module.add(commands)
    return main


def main(words: list[str] | None = None) -> int:
    """Run one command; a mistake in data, configuration or files is one line on stderr and status 2."""
    arguments = parser().parse_args(words)
    try:
        return arguments.run_command(arguments)
    except _MISTAKES as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"error: {files.one_line(exc)}", file=sys.stderr)
        return 2
    except torch.OutOfMemoryError as exc:
        print(f"error: {str(exc).splitlines()[0]} (train.micro_batch computes a batch in parts)", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
