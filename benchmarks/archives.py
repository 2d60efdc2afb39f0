"""python -m benchmarks.archives: edits of an archive by Ray's workers, against the same work without Ray.

Both read the same files, edit them in the same batches and write the results. The figure is the processor time of a
picture in milliseconds, after the first batch of each worker; a worker has one core, so it does at most 1000 over that
a second. Wall-clock time means little on a shared machine.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.peers.faces import Faces
from facet_ray import batch
from facet_ray.archives import Done, Folder
from facet_ray.editor import Edit, Editor
from service.settings import Settings
from tests import painter

_EDIT = Edit({"Smiling": 1.0}, framed=True)


def paint(directory: Path, count: int) -> None:
    """Framed faces of 178 x 218 as JPEG."""
    rng = np.random.default_rng(0)
    for number in range(count):
        buffer = io.BytesIO()
        painter.paint(painter.random_attributes(rng), rng).save(buffer, "JPEG", quality=90)
        (directory / f"{number:06d}.jpg").write_bytes(buffer.getvalue())


class _Counted(Folder):
    """Records a worker's processor time after each batch."""

    def work(self, editor: Editor, pieces: list[dict[str, Any]]) -> Iterator[Done]:
        yield from super().work(editor, pieces)
        self.output.mkdir(parents=True, exist_ok=True)
        with (self.output / f".cpu-{os.getpid()}").open("a") as file:
            file.write(f"{time.process_time()} {len(pieces)}\n")


def _alone(settings: Settings, archive: Folder, pieces: list[dict], size: int, start) -> None:
    editor = Editor(settings, _EDIT)
    start.wait()
    for first in range(0, len(pieces), size):
        list(archive.work(editor, pieces[first : first + size]))


def without_ray(settings: Settings, archive: Folder, processes: int, size: int) -> None:
    """Edit everything in `processes` processes with equal shares."""
    pieces, context = archive.pending()[0], multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    shares = [pieces[first::processes] for first in range(processes)]
    running = [context.Process(target=_alone, args=(settings, archive, share, size, start)) for share in shares]
    for process in running:
        process.start()
    for process in running:
        process.join()


def with_ray(settings: Settings, archive: Folder, workers: int, size: int) -> None:
    """Edit everything with `workers` workers of the cluster that ray.init started."""
    for _ in batch.run(archive, settings, _EDIT, workers, size):
        pass


def milliseconds(output: Path) -> float:
    """Processor time a picture, after each worker's first batch."""
    seconds, pictures = 0.0, 0
    for path in output.glob(".cpu-*"):
        entries = [line.split() for line in path.read_text().splitlines()]
        seconds += float(entries[-1][0]) - float(entries[0][0])
        pictures += sum(int(count) for _, count in entries[1:])
    return 1000 * seconds / pictures


def limit(settings: Settings, pictures: list[bytes], size: int, rounds: int) -> float:
    """Processor time a picture of the same edits with the graphs alone: the bare face to PNG, nothing is pasted."""
    faces = Faces(settings.bundles / settings.default_model, threads=1)
    requests = [(picture, _EDIT.attributes) for picture in pictures]
    faces.edit(requests[:size])
    began = time.process_time()
    for number in range(rounds):
        faces.edit(requests[number * size % len(pictures) :][:size])
    return 1000 * (time.process_time() - began) / (rounds * size)


def main() -> None:
    import ray

    parser = records.parser("archives", __doc__, bundle=False, out=False)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    # Ray makes its workers nicer than others, which on a busy machine is what would be measured; and it gives each one
    # thread for linear algebra.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "120"}
    settings = Settings(bundles=Path("bundles").resolve(), weights=Path("none").resolve(), workers=1)
    ray.init(address="local", num_cpus=max(options.workers), include_dashboard=False, log_to_driver=False)
    directory = Path(tempfile.mkdtemp(prefix="archives-"))
    try:
        (directory / "in").mkdir()
        paint(directory / "in", options.pictures)
        found: dict[str, list[float]] = {}
        sources = [path.read_bytes() for path in sorted((directory / "in").iterdir())]
        for number in range(options.rounds):
            found.setdefault("limit", []).append(limit(settings, sources, options.batch, len(sources) // options.batch))
            for workers in options.workers:
                for name, measure in (("without Ray", without_ray), ("with Ray", with_ray)):
                    out = directory / f"out-{number}-{workers}-{name}"
                    measure(settings, _Counted(directory / "in", out, None), workers, options.batch)
                    found.setdefault(f"{workers} {name}", []).append(milliseconds(out))
                    shutil.rmtree(out)
            print({name: round(each[-1], 2) for name, each in found.items()}, flush=True)
    finally:
        ray.shutdown()
        shutil.rmtree(directory)
    print({name: round(statistics.median(each), 2) for name, each in found.items()})


if __name__ == "__main__":
    main()
