"""python -m benchmarks.cuda: whether a GPU's answers are those of the CPU, and what buffers, captured graphs and half
precision gain there, by batch size.

Needs a GPU and the extra `gpu`, nothing else; `--half` takes what `python -m export half` wrote. Ways take turns
(A B A B ...), and medians are reported. Ends with status 1 where an answer is further off than the bundle allows.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import records
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import EDITOR, LEARNED_PRIOR
from service.bundle.sampler import Sampler
from service.errors import RuntimeUnavailableError
from service.inference import golden
from service.inference.batcher import buckets
from service.inference.onnx import OnnxRuntime
from service.inference.out_of_memory import Arrays
from service.inference.session import require_onnxruntime
from service.settings import Settings

LARGEST = 64
Run = Callable[[Arrays], Arrays]
Ways = dict[str, dict[str, Run]]  # what runs each graph, by the name of the way


class Unproven(RuntimeError):
    """The GPU does not run the graphs as the benchmark needs it; the message says why."""


def ways(bundle: Bundle, half: Bundle | None) -> Ways:
    """Every way to run the graphs on the GPU. Raises Unproven where one of them does not run as it is called."""
    found: Ways = {}
    for name, which in (("", bundle), ("half, ", half)):
        if which is None:
            continue
        bound, captured = (
            OnnxRuntime(which, Settings(device="cuda", max_batch=LARGEST, cuda_graphs=capture))
            for capture in (False, True)
        )
        if not all(graph.captured for graph in captured.graphs.values()):
            raise Unproven(f"{which.identity}: batches were not captured; the warning above says why")
        if not all(graph.page_locked for graph in bound.graphs.values()):
            raise Unproven(f"{which.identity}: there are no buffers in page-locked memory; the warning above says why")
        found[f"{name}plain"] = {graph: bound.graphs[graph].plain for graph in bound.graphs}
        found[f"{name}buffers"] = dict(bound.graphs)
        found[f"{name}captured"] = dict(captured.graphs)
    return found


def batches(bundle: Bundle, reference: dict[str, Run], size: int) -> dict[str, list[Arrays]]:
    """For each graph two batches of `size` faces, which differ: a replay that does not see its input is found out."""
    learned = None
    if LEARNED_PRIOR in bundle.manifest.files:
        noise = Sampler(bundle.prior, bundle.manifest.attribute_groups).noise(0, 2 * size, 1.0)

        def learned(noise: np.ndarray, attributes: np.ndarray) -> np.ndarray:
            return reference[LEARNED_PRIOR]({"noise": noise, "attributes": attributes})["latent"]

    drawn_from = golden.inputs(bundle, learned, 2 * size, temperature=1.0)
    halves = [{name: rows[part] for name, rows in drawn_from.items()} for part in (slice(size), slice(size, None))]
    seen = [{"image": reference["decoder.onnx"](each)["image"], "attributes": each["attributes"]} for each in halves]
    seen[1]["attributes"] = np.full_like(seen[1]["attributes"], np.nan)
    given = {"encoder.onnx": seen, "decoder.onnx": halves}
    if bundle.manifest.editor_frame is not None:
        changes = [np.clip(-each["attributes"], -1, 1) for each in halves]
        views = [golden.views(bundle.manifest, each["image"]) for each in seen]
        pairs = zip(views, changes, strict=True)
        given[EDITOR] = [{"image": view, "change": change} for view, change in pairs]
    if learned is not None:
        given[LEARNED_PRIOR] = [
            {"noise": noise[part], "attributes": each["attributes"]}
            for part, each in zip((slice(size), slice(size, None)), halves, strict=True)
        ]
    return given


def differences(reference: dict[str, Run], tried: Ways, given: dict[str, list[Arrays]]) -> dict[str, dict[str, float]]:
    """The largest difference of each way from `reference`, by output; inf where one of them is not a number."""
    found: dict[str, dict[str, float]] = {way: {} for way in tried}
    for graph, inputs in given.items():
        for batch in inputs:
            expected = reference[graph](batch)
            for way, graphs in tried.items():
                outputs = graphs[graph](batch)
                for name, values in expected.items():
                    off = np.abs(outputs[name].astype(np.float64) - values)
                    worst = float(off.max()) if np.isfinite(off).all() else float("inf")
                    found[way][name] = max(found[way].get(name, 0.0), worst)
    return found


def milliseconds(tried: Ways, given: dict[str, list[Arrays]], rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """The median over `rounds` of the milliseconds that a batch takes, copies included, by graph and way."""
    found: dict[str, dict[str, float]] = {}
    for graph, (batch, _) in given.items():
        times: dict[str, list[float]] = {way: [] for way in tried}
        for turn in range(rounds + 1):  # the first one warms up
            for way, graphs in tried.items():
                started = time.perf_counter()
                for _ in range(calls):
                    graphs[graph](batch)
                if turn:
                    times[way].append(1000 * (time.perf_counter() - started) / calls)
        found[graph] = {way: statistics.median(taken) for way, taken in times.items()}
    return found


def too_far(found: dict[str, dict[str, float]], tolerances: dict[str, dict[str, float]]) -> list[str]:
    """What is further off than `tolerances`, by way and output, allow."""
    return [
        f"{way}: {output} is off by {error:.4g}; at most {tolerances[way][output]:g} is allowed"
        for way, errors in found.items()
        for output, error in errors.items()
        if not error <= tolerances[way][output]
    ]


def tolerances(tried: Ways, bundle: Bundle, half: Bundle | None) -> dict[str, dict[str, float]]:
    """What each way may be off, by output: what the export of its bundle allowed."""

    def allowed(which: Bundle) -> dict[str, float]:
        parity = which.manifest.parity
        return {name: limit for graph in which.manifest.graphs for name, limit in parity[graph].tolerance.items()}

    return {way: allowed(half if half is not None and way.startswith("half") else bundle) for way in tried}


def report(record: dict) -> str:
    """Markdown."""
    names = list(record["differences"])
    lines = [f"# Graphs of {record['bundle']} on {record['device']}", "", record["conditions"], ""]
    lines += ["| ms a batch | size | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for size, graphs in record["milliseconds"].items():
        for graph, taken in graphs.items():
            lines.append(f"| {graph} | {size} | " + " | ".join(f"{taken[name]:.3f}" for name in names) + " |")
    outputs = list(record["differences"][names[0]])
    lines += ["", "| largest difference from the CPU | " + " | ".join(outputs) + " |", "|---|" + "---|" * len(outputs)]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{record['differences'][name][o]:.2g}" for o in outputs) + " |")
    verdict = record["too_far"] or ["Every difference is within what the bundle allows."]
    return "\n".join([*lines, "", *verdict]) + "\n"


def measure(
    bundle: Bundle,
    reference: dict[str, Run],
    tried: Ways,
    allowed: dict[str, dict[str, float]],
    sizes: list[int],
    rounds: int,
    calls: int,
) -> dict:
    """Everything that the report says, but for where it was measured."""
    worst: dict[str, dict[str, float]] = {}
    taken: dict[int, dict[str, dict[str, float]]] = {}
    for size in sizes:
        given = batches(bundle, reference, size)
        for way, errors in differences(reference, tried, given).items():
            known = worst.setdefault(way, errors)
            worst[way] = {output: max(known[output], error) for output, error in errors.items()}
        taken[size] = milliseconds(tried, given, rounds, calls)
    return {
        "bundle": bundle.identity,
        "differences": worst,
        "milliseconds": taken,
        "too_far": too_far(worst, allowed),
    }


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return "a GPU that nvidia-smi does not name"
    (name, *_) = output.splitlines() or ["a GPU that nvidia-smi does not name"]
    return name.replace(", ", ", driver ")


def main(words: list[str] | None = None) -> int:
    """Check, measure, print, and keep the result."""
    parser = records.parser("cuda", __doc__)
    parser.add_argument("--half", type=Path, help="the same bundle from `python -m export half`")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=50, help="batches in each round")
    options = parser.parse_args(words)
    bundle = loader.load(options.bundle)
    half = loader.load(options.half) if options.half else None
    try:
        tried = ways(bundle, half)
    except (RuntimeUnavailableError, Unproven) as exc:
        print(f"error: nothing was measured: {exc}", file=sys.stderr)
        return 2
    on_cpu = OnnxRuntime(bundle, Settings(device="cpu"))
    allowed = tolerances(tried, bundle, half)
    record = {"device": _gpu()} | measure(
        bundle, dict(on_cpu.graphs), tried, allowed, buckets(LARGEST), options.rounds, options.calls
    )
    record["conditions"] = (
        f"Milliseconds a batch with its copies, one thread, median of {options.rounds} rounds of {options.calls} in "
        f"turns; onnxruntime {require_onnxruntime().__version__}, {records.machine()}."
    )
    records.write(options.out, "cuda", report(record), record)
    print(report(record))
    return 1 if record["too_far"] else 0


if __name__ == "__main__":
    sys.exit(main())
