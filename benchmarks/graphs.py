"""python -m benchmarks.graphs: milliseconds a face in the bundle's graphs, by batch size and arrangement of threads.

Arrangements take turns (A B A B ...), and medians are reported, since machines are shared and noisy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import records
from service.bundle import loader
from service.bundle.loader import Bundle
from service.inference.session import open_session, require_onnxruntime

ARRANGEMENTS = {"one worker, one thread": (1, 1), "one worker, two threads": (1, 2), "two workers, one thread": (2, 1)}


def graph_inputs(bundle: Bundle, name: str, count: int) -> dict[str, np.ndarray]:
    """Plausible inputs of one graph with `count` rows."""
    rng = np.random.default_rng(0)
    draw = {
        "uint8": lambda shape: rng.integers(0, 256, shape, dtype=np.uint8),
        "float32": lambda shape: rng.standard_normal(shape, dtype=np.float32),
    }
    return {t.name: draw[t.dtype]((count, *t.shape[1:])) for t in bundle.manifest.files[name].inputs}


def arrangement(bundle: Bundle, name: str, batch: int, workers: int, threads: int) -> Callable[[], float]:
    """A function that runs one round and returns its milliseconds a face."""
    session = open_session(bundle.path(name), threads)
    inputs = graph_inputs(bundle, name, batch)
    repeats = max(2, 64 // batch) * workers
    pool = ThreadPoolExecutor(workers)

    def round_trip() -> float:
        started = time.perf_counter()
        list(pool.map(lambda _: session.run(None, inputs), range(repeats)))
        return 1000 * (time.perf_counter() - started) / (repeats * batch)

    return round_trip


def measure(bundle: Bundle, rounds: int, batches: list[int]) -> list[str]:
    """Rows of a Markdown table."""
    rows = ["| graph | batch | " + " | ".join(ARRANGEMENTS) + " |", "|---|---|" + "---|" * len(ARRANGEMENTS)]
    for name in bundle.manifest.graphs:
        for batch in batches:
            runs = [arrangement(bundle, name, batch, *shape) for shape in ARRANGEMENTS.values()]
            times: list[list[float]] = [[] for _ in runs]
            for _ in range(rounds + 1):
                for taken, run in zip(times, runs, strict=True):
                    taken.append(run())
            medians = " | ".join(f"{statistics.median(found[1:]):.2f}" for found in times)  # the first round warms up
            rows.append(f"| {name} | {batch} | {medians} |")
    return rows


def main() -> None:
    """Measure, print, and keep the result."""
    parser = records.parser("graphs", __doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    bundle = loader.load(options.bundle)
    head = [
        f"# Graphs of {bundle.identity}, CPU",
        "",
        f"Milliseconds a face, median of {options.rounds} rounds taken in turns; onnxruntime "
        f"{require_onnxruntime().__version__}, {records.machine()}.",
        "",
    ]
    text = "\n".join([*head, *measure(bundle, options.rounds, [1, 8, 32])]) + "\n"
    records.write(options.out, "graphs", text)
    print(text)


if __name__ == "__main__":
    main()
