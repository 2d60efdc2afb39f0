"""facet-batch: one edit of every picture of an archive, by the workers of a Ray cluster."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from facet import arguments
from facet.arguments import UsageError
from facet_ray import archives
from facet_ray.archives import Archive, Done
from facet_ray.editor import Edit, Editor
from service.bundle import loader
from service.bundle.manifest import BundleError
from service.errors import Problem
from service.settings import Settings

_INTERRUPTED = 130  # as a shell tells it
_TELL_SECONDS = 10.0
_BLOCKS = 4  # batches that are handed out together


class _Worker:
    """One actor: an editor that does pieces of work. Ray Data calls it with columns of them."""

    def __init__(self, archive: Archive, settings: Settings, edit: Edit) -> None:
        self._archive, self._editor = archive, Editor(settings, edit)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, list[Any]]]:
        rows = zip(*(column.tolist() for column in batch.values()), strict=True)
        for done in self._archive.work(self._editor, [dict(zip(batch, row, strict=True)) for row in rows]):
            yield {"written": [done.written], "failed": [json.dumps(done.failed)]}


def run(archive: Archive, settings: Settings, edit: Edit, workers: int, batch: int) -> Iterator[Done]:
    """Do all that is pending, on the cluster that ray.init connected to; tells what became of it as it happens."""
    import ray
    from ray.data import ActorPoolStrategy

    pieces, _, _ = archive.pending()
    if not pieces:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    size = batch if isinstance(archive, archives.Folder) else 1
    blocks = max(min(workers, len(pieces)), -(-len(pieces) // (size * _BLOCKS)))
    data = ray.data.from_items(pieces, override_num_blocks=blocks).map_batches(
        _Worker,
        fn_constructor_args=(archive, settings, edit),
        batch_size=size,
        batch_format="numpy",
        compute=ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=1 if settings.device == "cuda" else None,
    )
    for row in data.iter_rows():
        done = Done(row["written"], [(source, error) for source, error in json.loads(row["failed"])])
        archive.note(done)
        yield done


def main(given: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where some pictures have no output, or 2 for a mistake in usage or installation."""
    args = _parser().parse_args(given)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as exc:
        return _fail(f"Ray is not installed ({exc}): pip install '.[ray,cpu]'", 2)
    try:
        archive, settings, edit = _prepared(args)
        return _work(ray, args, archive, settings, edit)
    except (UsageError, BundleError, Problem) as exc:
        return _fail(str(exc), 2)
    except ValidationError as exc:
        return _fail("; ".join(f"{error['loc'][0]}={error['input']!r}: {error['msg']}" for error in exc.errors()), 2)
    except (ray.exceptions.RayError, ConnectionError, OSError) as exc:
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        return _fail(f"{lines[-1]}; what is written is kept, and the same command goes on from there", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from here", _INTERRUPTED)
    finally:
        ray.shutdown()


def _prepared(args: argparse.Namespace) -> tuple[Archive, Settings, Edit]:
    """Everything that can be refused before a cluster is started. Raises UsageError, BundleError and Problem."""
    rest, values = arguments.attributes(args.set)
    if rest:
        raise UsageError(f"--set {rest[0]}: must be NAME=VALUE, such as Smiling=1")
    chosen = {name: getattr(args, name) for name in ("bundles", "weights", "default_model")}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = Settings(**given, workers=1, codec_threads=1)
    directories = {name: getattr(settings, name).resolve() for name in ("bundles", "weights")}
    settings = settings.model_copy(update=directories)  # workers may start elsewhere
    if not 0 <= args.strength <= 2:
        raise UsageError(f"--strength {args.strength:g}: must be 0 to 2")
    edit = Edit(values, args.strength, args.face, args.framed, args.quality, args.experimental)
    manifest = loader.read_manifest(settings.bundles / settings.default_model)
    edit.check(manifest, settings)
    source, output = args.input.resolve(), args.output.resolve()
    if not source.exists():
        raise UsageError(f"--input {args.input}: no such file or folder")
    archive = archives.opened(source, output, args.image_column, args.format)
    told = {"input": str(source), "model": f"{manifest.name}@{manifest.version}", "format": args.format}
    archives.claim(output, told | dataclasses.asdict(edit))
    return archive, settings, edit


def _work(ray: Any, args: argparse.Namespace, archive: Archive, settings: Settings, edit: Edit) -> int:
    _, left, before = archive.pending()
    written, failed, began = 0, 0, time.perf_counter()
    if left:
        local = {} if args.address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        ray.init(address=args.address, log_to_driver=False, logging_level="ERROR", **local)
        workers = args.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        began = told = time.perf_counter()
        for done in run(archive, settings, edit, workers, args.batch):
            written, failed = written + done.written, failed + len(done.failed)
            if time.perf_counter() - told > _TELL_SECONDS:
                told = time.perf_counter()
                _tell(f"{before + written + failed} of {before + left}", written, failed, told - began)
    _tell(f"{before} done before", written, failed, time.perf_counter() - began)
    return 1 if failed or archive.errors() else 0


def _tell(place: str, written: int, failed: int, seconds: float) -> None:
    rate = (written + failed) / max(seconds, 1e-3)
    print(f"{place}: {written} written, {failed} failed, {rate:.1f} pictures/s", file=sys.stderr)


def _fail(message: str, status: int) -> int:
    print(f"facet-batch: error: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facet-batch", description=__doc__.partition(": ")[2])
    add = parser.add_argument
    add("--input", type=Path, required=True, metavar="IN", help="a folder of pictures, or Parquet: a file or a folder")
    add("--output", type=Path, required=True, metavar="OUT", help="a folder; started again, a job goes on there")
    add("--set", action="append", required=True, metavar="NAME=VALUE", help="-1 absent to 1 present; may be repeated")
    add("--strength", type=float, default=1.0, metavar="T", help="0 changes nothing, 1 goes all the way, 2 beyond (1)")
    add("--face", type=arguments.face, default=0, metavar="N|all", help="which face, 0 for the largest (0)")
    add("--framed", action=argparse.BooleanOptionalAction, help="whether pictures are in the model's frame already")
    add("--format", choices=["png", "jpeg", "webp"], help="of the results; by default each picture's own")
    add(
        "--quality",
        type=int,
        choices=range(1, 101),
        metavar="Q",
        help="1 to 100, for JPEG and WebP (as the picture's own file, or 90)",
    )
    add("--experimental", action="store_true", help="also in directions that the model lists as experimental")
    add("--image-column", default="image", metavar="NAME", help="of Parquet: the column of encoded pictures (image)")
    add("--model", dest="default_model", metavar="NAME", help="a bundle (FACET_DEFAULT_MODEL)")
    add("--bundles", type=Path, metavar="DIR", help="directory of bundles (FACET_BUNDLES)")
    add("--weights", type=Path, metavar="DIR", help="directory of the face finder's weights (FACET_WEIGHTS)")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster; by default one is started here")
    add("--workers", type=arguments.positive, metavar="N", help="processes, a core each (as many as the cluster has)")
    add("--batch", type=arguments.positive, default=16, metavar="N", help="pictures that a worker edits together (16)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
