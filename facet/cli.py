"""The commands behind `facet`, and what their errors look like on a terminal."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facet import arguments, batch, files, outputs, tables
from facet.arguments import UsageError
from facet.client import URL_VARIABLE, Client
from facet.errors import FacetError, ServiceError, SetupError
from facet.outputs import Job
from facet.results import Pictures

_STILL = ("png", "jpeg", "webp")
_FILM = ("webp", "gif")
_INTERRUPTED = 130  # as a shell tells it


def main(given: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 where some work failed, or 2 for bad usage, settings or installation."""
    args = arguments.parser().parse_args(given)
    command = _COMMANDS[args.command]
    try:
        return command(args)
    except (UsageError, SetupError) as exc:
        return _fail(args, str(exc), 2)
    except FacetError as exc:
        wrong = isinstance(exc, ServiceError) and batch.hopeless(exc)
        return _fail(args, described(exc), 2 if wrong else 1)
    except OSError as exc:
        return _fail(args, described(exc), 1)
    except KeyboardInterrupt:
        return _fail(args, "interrupted", _INTERRUPTED)


def _fail(args: argparse.Namespace, message: str, status: int) -> int:
    print(f"facet {args.command}: error: {message}", file=sys.stderr)
    return status


def described(error: Exception) -> str:
    """An error in the words of the command line: arguments instead of fields, no request id but for the log."""
    if isinstance(error, OSError):
        return f"{error.filename or error}: {error.strerror}" if error.strerror else str(error)
    if not isinstance(error, ServiceError):
        return str(error)
    if error.errors and error.status < 500:
        return "; ".join(_broken_rule(each) for each in error.errors)
    return error.detail if error.status < 500 else str(error)


def _broken_rule(error: dict[str, Any]) -> str:
    name, _, inner = error["field"].partition(".")
    value, suggestions = error.get("value"), error.get("suggestions")
    # Forms carry 3 as "3.0".
    value = None if value is None else str(value).removesuffix(".0")
    rule = error["rule"].replace("framed=true", "--framed").replace("experimental=true", "--experimental")
    if name in ("image", "body", "attribute") or (name == "attributes" and inner == value):
        label = value or ""
    else:
        label = f"{inner}={value}" if name == "attributes" else f"--{error['field'].replace('_', '-')} {value}"
    hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
    return f"{label}: {rule}{hint}" if label else f"{rule}{hint}"


def _client(args: argparse.Namespace) -> Client:
    """Raises UsageError or SetupError."""
    if args.url and args.bundles:
        raise UsageError(f"--bundles {args.bundles}: is for work in this process, and --url names a service")
    url = args.url or (None if args.bundles else os.environ.get(URL_VARIABLE))
    if url:
        try:
            return Client(url, timeout=args.timeout)
        except ValueError as exc:
            raise UsageError(str(exc)) from exc
    return Client.local(args.bundles, timeout=args.timeout)


def _edit(args: argparse.Namespace) -> int:
    given, attributes = arguments.attributes(args.given)
    if not given:
        raise UsageError("no picture is given")
    if not attributes:
        raise UsageError("no attribute is given; NAME=VALUE says what to change, such as Smiling=1")
    names = ("strength", "face", "framed", "output", "experimental", "keep_metadata", "quality", "model")
    options = _options(args, *names)
    # Bare faces of one picture go into one file.
    options["grid"] = args.output == "face" and args.face == "all"
    jobs = outputs.plan(given, args.out, _STILL, args.format, None)
    return _work(args, jobs, lambda client, job: client.edit(job.source, attributes, format=job.kind, **options))


def _sweep(args: argparse.Namespace) -> int:
    given, attributes = arguments.attributes(args.given)
    attribute = given.pop().split(",") if given else []
    if not attribute or (len(attribute) == 1 and os.path.exists(attribute[0])):
        raise UsageError("no attribute is given; it comes last, such as Smiling")
    if not given and args.seed is None:
        raise UsageError("no picture is given, nor --seed for a generated face")
    if given and args.seed is not None:
        raise UsageError(f"--seed {args.seed}: is for a generated face, and {given[0]} is a picture")
    names = ("target", "start", "stop", "steps", "layout", "size", "milliseconds", "face", "framed", "output")
    options = _options(args, *names, "seed", "experimental", "quality", "model") | {"attributes": attributes or None}
    film = args.layout == "animation"
    accepted, usual = (_FILM, "webp") if film else (_STILL, "png")
    if args.format and args.format not in accepted:
        raise UsageError(f"--format {args.format}: the layout {args.layout} takes {' or '.join(accepted)}")
    frames = args.steps ** len(attribute) if args.layout == "frames" else 0
    jobs = outputs.plan(given, args.out, accepted, args.format, usual, frames)
    return _work(args, jobs, lambda client, job: client.sweep(job.source, attribute, format=job.kind, **options))


def _work(args: argparse.Namespace, jobs: list[Job], draw: Callable[[Client, Job], Pictures]) -> int:
    """Do all jobs and tell what became of them."""
    left_out = outputs.left_out(args.given, Path(args.out))
    with _client(args) as client:
        outcome = batch.run(jobs, lambda job: draw(client, job), args.jobs, args.skip_existing)
    _report_skipped(left_out)
    for job in outcome.skipped:
        print(f"skipped: {job.source or 'the face'}: {job.targets[0]} exists", file=sys.stderr)
    for job, reason in outcome.failed:
        name = "" if isinstance(reason, OSError) and reason.filename else f"{job.source or 'the face'}: "
        print(f"failed: {name}{described(reason)}", file=sys.stderr)
    if len(jobs) == 1 and outcome.written:
        print(jobs[0].targets[0] if len(jobs[0].targets) == 1 else jobs[0].targets[0].parent)
    skipped = len(left_out) + len(outcome.skipped)
    if len(jobs) > 1 or skipped:
        counts = {"written": len(outcome.written), "skipped": skipped, "failed": len(outcome.failed)}
        print(", ".join(f"{number} {what}" for what, number in counts.items() if number), file=sys.stderr)
    return 1 if outcome.failed else 0


def _report_skipped(left_out: list[tuple[Path, str]]) -> None:
    for path, reason in left_out:
        print(f"skipped: {path}: {reason}", file=sys.stderr)


def _generate(args: argparse.Namespace) -> int:
    rest, attributes = arguments.attributes(args.given)
    if rest:
        raise UsageError(f"{rest[0]}: an attribute is given as NAME=VALUE, such as Smiling=1")
    out, folder = Path(args.out), outputs.is_folder(args.out)
    kind = "png" if folder else outputs.kind_of(out, _STILL)
    options = _options(args, "count", "seed", "temperature", "size", "quality", "model")
    with _client(args) as client:
        drawn = client.generate(attributes, format=kind, grid=not folder, **options)
    targets = [out / f"{drawn.seed}-{number:02d}.png" for number in range(len(drawn))] if folder else [out]
    for picture, target in zip(drawn, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write(target, picture.data)
    print(f"{args.out} (seed {drawn.seed})")
    return 0


def _encode(args: argparse.Namespace) -> int:
    found, failures = [path for path, _ in outputs.pictures(args.given)], 0
    options = _options(args, "face", "framed", "model")
    with _client(args) as client:
        for path in found:
            try:
                encoding = client.encode(path, **options)
            except (FacetError, OSError) as exc:
                if batch.hopeless(exc):
                    raise
                failures += 1
                print(f"failed: {path}: {described(exc)}", file=sys.stderr)
            else:
                fields = {"picture": str(path)} | dataclasses.asdict(encoding)
                print(json.dumps(fields) if args.json else tables.encoding(str(path), encoding))
    _report_skipped(outputs.left_out(args.given))
    return 1 if failures else 0


def _models(args: argparse.Namespace) -> int:
    with _client(args) as client:
        loaded = [client.model(args.model)] if args.model else client.models()
    for model in loaded:
        print(json.dumps(dataclasses.asdict(model)) if args.json else tables.model(model))
    return 0


def _options(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names}


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "edit": _edit,
    "sweep": _sweep,
    "generate": _generate,
    "encode": _encode,
    "models": _models,
}
