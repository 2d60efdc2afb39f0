"""python -m benchmarks.graphs: milliseconds a face in the bundle's graphs, by batch size and arrangement of threads.

Arrangements take turns (A B A B ...), and medians are reported, since machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from service import bundle as bundles
from service.runtime import require_onnxruntime

ARRANGEMENTS = {"one worker, one thread": (1, 1), "one worker, two threads": (1, 2), "two workers, one thread": (2, 1)}


def graph_inputs(bundle: bundles.Bundle, name: str, count: int) -> dict[str, np.ndarray]:
    """Plausible inputs of one graph with `count` rows."""
    rng = np.random.default_rng(0)
    draw = {
        "uint8": lambda shape: rng.integers(0, 256, shape, dtype=np.uint8),
        "float32": lambda shape: rng.standard_normal(shape, dtype=np.float32),
    }
    return {t.name: draw[t.dtype]((count, *t.shape[1:])) for t in bundle.manifest.files[name].inputs}


def arrangement(bundle: bundles.Bundle, name: str, batch: int, workers: int, threads: int) -> Callable[[], float]:
    """A function that runs one round and returns its milliseconds a face."""
    onnxruntime = require_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(bundle.path(name)), options, providers=["CPUExecutionProvider"])
    inputs = graph_inputs(bundle, name, batch)
    repeats = max(2, 64 // batch) * workers
    pool = ThreadPoolExecutor(workers)

    def round_trip() -> float:
        started = time.perf_counter()
        list(pool.map(lambda _: session.run(None, inputs), range(repeats)))
        return 1000 * (time.perf_counter() - started) / (repeats * batch)

    return round_trip


def measure(bundle: bundles.Bundle, rounds: int, batches: list[int]) -> list[str]:
    """Rows of a Markdown table."""
    rows = ["| graph | batch | " + " | ".join(ARRANGEMENTS) + " |", "|---|---|" + "---|" * len(ARRANGEMENTS)]
    for name in bundle.manifest.graphs:
        for batch in batches:
            runs = [arrangement(bundle, name, batch, *shape) for shape in ARRANGEMENTS.values()]
            times: list[list[float]] = [[] for _ in runs]
            for _ in range(rounds + 1):
                for place, run in enumerate(runs):
                    times[place].append(run())
            medians = " | ".join(f"{statistics.median(found[1:]):.2f}" for found in times)  # the first round warms up
            rows.append(f"| {name} | {batch} | {medians} |")
    return rows


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/celeba64"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/graphs.md"))
    arguments = parser.parse_args()
    bundle = bundles.load(arguments.bundle)
    head = [
        f"# Graphs of {bundle.identity}, CPU",
        "",
        f"Milliseconds a face, median of {arguments.rounds} rounds taken in turns; onnxruntime "
        f"{require_onnxruntime().__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "",
    ]
    text = "\n".join([*head, *measure(bundle, arguments.rounds, [1, 8, 32])]) + "\n"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
