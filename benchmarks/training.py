"""python -m benchmarks.training: images a second in training, by source of pictures, processes and passes.

Each run is a process (or two) of its own; arrangements take turns, since machines are shared and noisy. The first
pictures of DATA are written as shards and decoded into a cache; both are then in the page cache, so this measures
computation and not a disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import records
from training import config, distributed
from training.data import dataset, shards
from training.data.dataset import Faces
from training.data.shards import ShardedFaces
from training.data.source import CachedFaces, Source
from training.vae.trainer import VAETrainer

WARM_UP = 2


@dataclass(frozen=True)
class Arrangement:
    source: str  # "cache" or "shards"
    processes: int
    threads: int
    micro_batch: int | None = None

    def __str__(self) -> str:
        cut = f", passes of {self.micro_batch}" if self.micro_batch else ""
        return f"{self.source}, {self.processes} x {self.threads} threads{cut}"


ARRANGEMENTS = [
    Arrangement("cache", 1, 1),
    Arrangement("shards", 1, 1),
    Arrangement("cache", 1, 2),
    Arrangement("shards", 1, 2),
    Arrangement("cache", 2, 1),
    Arrangement("shards", 2, 1),
    Arrangement("cache", 1, 1, micro_batch=8),
]


def settings_of(arguments: argparse.Namespace) -> config.Config:
    passes = [f"train.micro_batch={arguments.micro_batch}"] if arguments.micro_batch else []
    return config.load(arguments.preset, [f"data.limit={arguments.pictures}", "train.precision=fp32", *passes])


def source_of(name: str, settings: config.Config, data: Path, work: Path) -> Source:
    """The first pictures, from the shards or the cache in `work`."""
    if name == "shards":
        return ShardedFaces(work / "shards", settings.data, "train", settings.data.margin)
    index = dataset.read_index(data, settings.data.attributes, "train", settings.data.limit)
    return CachedFaces(index, dataset.load_pixels(index, settings.data, work / "cache", settings.data.margin))


def measure_here(arguments: argparse.Namespace) -> None:
    """Time some steps and print images a second and milliseconds of processor time an image, of all processes."""
    device = distributed.start()
    settings = settings_of(arguments)
    source = source_of(arguments.source, settings, arguments.data, arguments.work)
    first = source.read(np.arange(8))
    held_out = Faces(dataset.without_margin(first.pixels, settings.data.image_size), first.labels)
    trainer = VAETrainer(settings, source, held_out, arguments.work, device)
    for _ in range(WARM_UP):
        trainer.train_step()
    distributed.barrier()
    started, busy = time.perf_counter(), time.process_time()
    for _ in range(arguments.steps):
        trainer.train_step()
    distributed.barrier()
    took, images = time.perf_counter() - started, arguments.steps * settings.train.batch_size
    busy = distributed.world() * float(distributed.average(torch.tensor(time.process_time() - busy)))
    if distributed.rank() == 0:
        print(images / took, 1000 * busy / images)
    distributed.stop()


def run(arrangement: Arrangement, arguments: argparse.Namespace, work: Path) -> tuple[float, float]:
    """Images a second, and milliseconds of processor time an image, of one arrangement."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={arrangement.processes}"]
    command = [sys.executable, *(launcher if arrangement.processes > 1 else []), "-m", "benchmarks.training"]
    command += ["--data", str(arguments.data), "--preset", arguments.preset, "--steps", str(arguments.steps)]
    command += ["--pictures", str(arguments.pictures), "--work", str(work), "--source", arrangement.source]
    if arrangement.micro_batch:
        command += ["--micro-batch", str(arrangement.micro_batch)]
    # On a shared machine, threads that spin while they wait for one that does not run take all there is.
    environment = {**os.environ, "OMP_NUM_THREADS": str(arrangement.threads), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    rate, busy = map(float, done.stdout.split()[-2:])
    print(f"{arrangement}: {rate:.1f} images/s, {busy:.1f} ms", file=sys.stderr)
    return rate, busy


def reading(settings: config.Config, data: Path, work: Path, batch: int = 256) -> list[str]:
    """How many images a second each source gives when nothing is computed from them."""
    rows = []
    for name in ("cache", "shards"):
        source = source_of(name, settings, data, work)
        batches = [source.order(1, 0, start, start + batch) for start in range(0, len(source) - batch + 1, batch)]
        source.read(batches[0])
        rates = []
        for _ in range(3):
            started = time.perf_counter()
            for batch_rows in batches:
                source.read(batch_rows)
            rates.append(len(batches) * batch / (time.perf_counter() - started))
        rows.append(f"| {name} | {statistics.median(rates):,.0f} |")
    return rows


def row(arrangement: Arrangement, rates: tuple[float, ...], busy: tuple[float, ...]) -> str:
    middle = statistics.median
    return f"| {arrangement} | {middle(rates):.1f} | {max(rates):.1f} | {middle(busy):.1f} | {min(busy):.1f} |"


def main() -> None:
    """Prepare, measure all arrangements in turn, and write a table."""
    parser = records.parser("training", __doc__, bundle=False)
    parser.add_argument("--data", type=Path, required=True, help="a directory in CelebA's layout")
    parser.add_argument("--preset", default="celeba64")
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--micro-batch", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.source:
        measure_here(arguments)
        return
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        settings = settings_of(arguments)
        started = time.perf_counter()
        manifest = shards.write(arguments.data, work / "shards")
        took, written = time.perf_counter() - started, sum(s.pictures for p in manifest.partitions.values() for s in p)
        read = reading(settings, arguments.data, work)
        rates: dict[Arrangement, list[tuple[float, float]]] = {arrangement: [] for arrangement in ARRANGEMENTS}
        for _ in range(arguments.rounds):
            for arrangement, found in rates.items():
                found.append(run(arrangement, arguments, work))
    lines = [
        f"# Training: {arguments.preset}, fp32, {arguments.steps} steps a run, {arguments.rounds} rounds",
        "",
        f"{os.cpu_count()} CPU cores, load average {os.getloadavg()[2]:.0f} over 15 minutes.",
        f"Writing the shards: {written / took:,.0f} pictures a second.",
        "",
        "| arrangement | images/s, median | fastest | processor ms an image, median | least |",
        "|---|---|---|---|---|",
        *(row(arrangement, *zip(*found, strict=True)) for arrangement, found in rates.items()),
        "",
        "| reading alone | images/s |",
        "|---|---|",
        *read,
    ]
    records.write(arguments.out, "training", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
