"""python -m export {bundle,attach,half,triton}"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from export import triton as repositories
from export.half import FACES, write_half
from export.parity import ParityError
from export.writer import LARGEST_BUCKET, ExportError, attach_evaluation, write_bundle
from service.bundle import loader
from service.bundle.manifest import BundleError
from training import files
from training.checkpoint import CheckpointError


def bundle(arguments: argparse.Namespace) -> None:
    """Turn a calibrated checkpoint into a verified bundle."""
    written = write_bundle(
        arguments.checkpoint,
        arguments.out,
        arguments.version,
        arguments.description,
        arguments.weights_licence,
        arguments.editor,
        arguments.prior,
        arguments.decoder,
        arguments.editor_gains,
    )
    size = sum(entry.bytes for entry in written.manifest.files.values())
    print(f"{arguments.out}: {written.identity}, {size / 1e6:.1f} MB")
    for graph, parity in written.manifest.parity.items():
        errors = ", ".join(f"{name} {error:.2g}" for name, error in parity.max_error.items())
        print(f"{graph}: largest difference from torch at batches {parity.batches}: {errors}")


def attach(arguments: argparse.Namespace) -> None:
    """Put an evaluation report into a bundle's manifest and model card."""
    try:
        report = json.loads(arguments.evaluation.read_text())
    except (OSError, ValueError) as exc:
        raise ExportError(f"{arguments.evaluation}: is not a readable report") from exc
    if not isinstance(report, dict):
        raise ExportError(f"{arguments.evaluation}: is a JSON {type(report).__name__}; an object was expected")
    print(f"{arguments.bundle}: {attach_evaluation(arguments.bundle, report).identity} evaluated")


def half(arguments: argparse.Namespace) -> None:
    """Write a bundle again with graphs that compute in half precision, for GPUs."""
    written = write_half(arguments.bundle, arguments.out)
    print(f"{arguments.out}: {written.identity}")
    for graph, parity in written.manifest.parity.items():
        errors = ", ".join(f"{name} {error:.2g}" for name, error in parity.max_error.items())
        print(f"{graph}: largest difference from {arguments.bundle} over {FACES} faces: {errors}")


def triton(arguments: argparse.Namespace) -> None:
    """Write a bundle's graphs as a Triton model repository."""
    loaded = loader.load(arguments.bundle)
    for directory in repositories.write_repository(loaded, arguments.out, arguments.max_batch, arguments.instances):
        print(f"{directory}: {loaded.identity}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number above 0")
    return int(text)


def main(words: list[str] | None = None) -> int:
    """Run one command; a refusal is one line on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("bundle", help=bundle.__doc__)
    command.set_defaults(run_command=bundle)
    command.add_argument("--checkpoint", type=Path, required=True, help="a calibrated checkpoint")
    command.add_argument("--editor", type=Path, help="a checkpoint of the editor, for edits of photographs")
    command.add_argument(
        "--editor-gains", type=Path, help='JSON: by what the editor multiplies changes, {"Bald": {"added": 1.5}, ...}'
    )
    command.add_argument("--prior", type=Path, help="a checkpoint of the learned prior, for faces from attributes")
    command.add_argument("--decoder", type=Path, help="a checkpoint of the decoder that was trained further")
    command.add_argument("--out", type=Path, required=True, help="the bundle's directory, bundles/NAME")
    command.add_argument("--version", required=True, help="clients see name@version; raise it with new weights")
    command.add_argument("--description", default="A conditional beta-VAE for face attributes.")
    command.add_argument("--weights-licence", required=True, help="who may use the weights, and how")
    command = commands.add_parser("attach", help=attach.__doc__)
    command.set_defaults(run_command=attach)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--evaluation", type=Path, required=True, help="evaluation.json of that bundle")
    command = commands.add_parser("half", help=half.__doc__)
    command.set_defaults(run_command=half)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True, help="a directory of the same name elsewhere")
    command = commands.add_parser("triton", help=triton.__doc__)
    command.set_defaults(run_command=triton)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True, help="the repository; other models there stay as they are")
    command.add_argument("--max-batch", type=_count, default=LARGEST_BUCKET, metavar="N", help=f"({LARGEST_BUCKET})")
    command.add_argument("--instances", type=_count, default=1, metavar="N", help="for each GPU, or on the CPU (1)")
    arguments = parser.parse_args(words)
    try:
        arguments.run_command(arguments)
    except ValidationError as exc:
        first = exc.errors()[0]
        message = f"{'.'.join(map(str, first['loc'])) or exc.title}: {first['msg']}"
    except (ExportError, ParityError, CheckpointError, BundleError) as exc:
        message = str(exc)
    except OSError as exc:
        message = files.one_line(exc)
    else:
        return 0
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
