"""Edits of an archive: Ray's workers against the same work in one process, without Ray.

    python -m benchmarks.archives --pictures 1500 --rounds 3

Both read the same files, edit them in the same batches and write the results. A worker is one process with one thread
for the graphs, so the limit is measured with as many processes as there are workers. Start-up is not counted: the time
runs from the end of each worker's first batch, about, to the last file.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np

from facet_ray import batch
from facet_ray.archives import Folder
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


def _alone(settings: Settings, archive: Folder, pieces: list[dict], size: int, start) -> None:
    editor = Editor(settings, _EDIT)
    start.wait()
    for place in range(0, len(pieces), size):
        list(archive.work(editor, pieces[place : place + size]))


def without_ray(settings: Settings, archive: Folder, processes: int, size: int) -> None:
    """Do all with that many processes, which share the work evenly."""
    pieces, context = archive.pending()[0], multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    shares = [pieces[place::processes] for place in range(processes)]
    running = [context.Process(target=_alone, args=(settings, archive, share, size, start)) for share in shares]
    for process in running:
        process.start()
    for process in running:
        process.join()


def with_ray(settings: Settings, archive: Folder, workers: int, size: int) -> None:
    """Do all with that many workers, on the cluster that is there."""
    for _ in batch.run(archive, settings, _EDIT, workers, size):
        pass


def rate(output: Path, first: int) -> float:
    """Pictures a second, by the times of the files; the `first` are left out, together with what came before them."""
    times = sorted(path.stat().st_mtime_ns / 1e9 for path in output.rglob("*.jpg"))
    return (len(times) - first) / (times[-1] - times[first - 1])


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    # Ray makes its workers nicer than others, which on a busy machine is what would be measured.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "120"}
    settings = Settings(bundles=Path("bundles").resolve(), weights=Path("none").resolve(), workers=1)
    ray.init(address="local", num_cpus=max(asked.workers), include_dashboard=False, log_to_driver=False)
    directory = Path(tempfile.mkdtemp(prefix="archives-"))
    try:
        (directory / "in").mkdir()
        paint(directory / "in", asked.pictures)
        found: dict[str, list[float]] = {}
        for number in range(asked.rounds):
            for workers in asked.workers:
                for name, measure in (("without Ray", without_ray), ("with Ray", with_ray)):
                    out = directory / f"out-{number}-{workers}-{name}"
                    measure(settings, Folder(directory / "in", out, None), workers, asked.batch)
                    found.setdefault(f"{workers} {name}", []).append(round(rate(out, asked.batch * workers), 1))
                    shutil.rmtree(out)
                    print(number, workers, name, f"{found[f'{workers} {name}'][-1]} pictures/s", flush=True)
    finally:
        ray.shutdown()
        shutil.rmtree(directory)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    ratios = {n: round(medians[f"{n} with Ray"] / medians[f"{n} without Ray"], 2) for n in asked.workers}
    print(json.dumps({"rates": found, "medians": medians, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
