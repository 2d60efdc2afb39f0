"""python -m benchmarks.autoscaling: bursts, simulated with the autoscaler of deploy/kubernetes, and two real replicas.

First two real replicas behind nginx get a burst, at the very times at which the simulation gets it: half of what one
can do, then three times that, then half again. Then the simulation asks what an autoscaler makes of longer bursts, of
edits that cost what benchmarks/results/capacity.json says. The results go to benchmarks/results/autoscaling.{json,md};
`--recorded` simulates anew what was measured before.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.autoscaler import Autoscaler, Policy
from benchmarks.load import Request, press, replay
from benchmarks.processes import ROOT, facet
from benchmarks.queueing import Capacity, Fleet, Scaling, Trace, poisson
from benchmarks.replicas import proxy
from benchmarks.request_formats import FACET
from benchmarks.workloads import manifest_of, photo_edit, portraits, workloads

POLICY = ROOT / "deploy" / "kubernetes" / "monitoring" / "autoscaler.yaml"
CALM, BURST = 0.5, 3.0  # of what one replica can do
PHASES = {"before": 8.0, "burst": 20.0, "after": 8.0}  # seconds
QUEUE_IMAGES = 64  # the default of 512 would not fill in 20 s on a slow machine
ROWS = {"generate": 1, "edit": 2}  # images that a request puts into the decoder's queue: an edit draws before and after
_PREFETCH, _MAX_BATCH = 1, 16  # batches handed over before a worker is free, and the largest on a CPU
_REPLICA_CORES, _REPLICA_QUEUE = 2, 512  # of deploy/kubernetes/base
_COMFORT, _CALM_SECONDS, _BURST_SECONDS, _PATIENCE = 0.6, 60.0, 300.0, 5


@dataclass(frozen=True)
class Measured:
    """One burst on two replicas: what they can do together, and what came of it by phase."""

    workload: str
    seed: int
    peak: float  # requests a second of both, never without work
    milliseconds: float  # of the replicas' processor time for one, at that
    refusal_milliseconds: float  # the same for a 429, from the time that answers in the burst do not explain
    proxy_milliseconds: float  # of nginx's processor time for one, at the peak
    late_milliseconds: float  # p99 of how late the generator was
    phases: dict[str, dict[str, float]]


def requests_of(bundle: Path, count: int = 16) -> dict[str, list[Request]]:
    """Generated faces as PNG; framed faces of 178 x 218 edited and pasted, JPEG in and out."""
    pictures = portraits(bundle, count)
    generate = workloads(FACET, manifest_of(bundle), pictures)["generate"]
    return {"generate": generate, "edit": [photo_edit(picture) for picture in pictures]}


def arrivals(peak: float, seed: int) -> np.ndarray:
    """When requests of the burst come, seconds, where two replicas can do `peak` a second together."""
    rates = {"before": CALM, "burst": BURST, "after": CALM}
    phases = [(seconds, rates[name] * peak / 2) for name, seconds in PHASES.items()]
    return poisson(phases, np.random.default_rng(seed))


def by_phase(due: np.ndarray, ended: np.ndarray, status: np.ndarray) -> dict[str, dict[str, float]]:
    """By phase: the number of requests due in it, the shares refused and lost, ms until the answer, and answers with
    200 per second."""
    found, begin = {}, 0.0
    for name, seconds in PHASES.items():
        inside = (due >= begin) & (due < begin + seconds)
        good = inside & (status == 200)
        milliseconds = 1000 * (ended - due)[good]
        during = (status == 200) & (ended >= begin) & (ended < begin + seconds)
        found[name] = {
            "requests": int(inside.sum()),
            "answers a second": float(during.sum() / seconds),
            "refused": float((status == 429)[inside].mean()),
            "lost": float(((status != 200) & (status != 429))[inside].mean()),
            "p50": float(np.percentile(milliseconds, 50)) if good.any() else float("nan"),
            "p99": float(np.percentile(milliseconds, 99)) if good.any() else float("nan"),
        }
        begin += seconds
    return found


def measure(bundle: Path, workload: str, requests: list[Request], cores: list[int], seed: int) -> Measured:
    """The burst on one replica for each of `cores`, behind nginx."""
    queue = {"FACET_QUEUE_IMAGES": str(QUEUE_IMAGES)}
    with ExitStack() as stack:
        replicas = [stack.enter_context(facet(bundle, [core], **queue)) for core in cores]
        front = stack.enter_context(proxy([each.port for each in replicas], connections=4096))

        def spent() -> float:
            return sum(each.cpu_seconds for each in replicas)

        asyncio.run(press(front.port, requests, 32, 1.5, warm_up=0.0))
        before, proxied, begun = spent(), front.cpu_seconds, time.perf_counter()
        outcome = asyncio.run(press(front.port, requests, 32, 6.0, warm_up=0.0, late=True))
        peak = outcome.images / (time.perf_counter() - begun)
        each, proxied = (spent() - before) / outcome.images, (front.cpu_seconds - proxied) / outcome.images
        before = spent()
        answers = asyncio.run(replay(front.port, requests, arrivals(peak, seed)))
        used = spent() - before
    columns = (np.array([getattr(answer, name) for answer in answers]) for name in ("due", "begun", "ended", "status"))
    due, begun, ended, status = columns
    good, refused = (status == 200).sum(), (status == 429).sum()
    return Measured(
        workload=workload,
        seed=seed,
        peak=peak,
        milliseconds=1000 * each,
        refusal_milliseconds=float(1000 * max(0.0, used - good * each) / refused) if refused else 0.0,
        proxy_milliseconds=1000 * proxied,
        late_milliseconds=float(1000 * np.percentile(begun - due, 99)),
        phases=by_phase(due, ended, status),
    )


def simulated(measured: Measured, refusals: bool) -> dict[str, dict[str, float]]:
    """The same burst on two simulated replicas that do half the peak each; with `refusals`, these take time as well."""
    seconds = 2 / measured.peak
    capacity = Capacity(
        workers=1,
        seconds=seconds,
        max_batch=_MAX_BATCH // ROWS[measured.workload],
        # Prefetched batches wait too.
        queue=(QUEUE_IMAGES + _PREFETCH * _MAX_BATCH) // ROWS[measured.workload],
        refusal_seconds=seconds * measured.refusal_milliseconds / measured.milliseconds if refusals else 0.0,
    )
    trace = Fleet(capacity, 2, np.random.default_rng(measured.seed)).run(arrivals(measured.peak, measured.seed))
    return by_phase(trace.arrived, trace.ended, np.where(trace.answered, 200, 429))


def scene(
    milliseconds: float, factor: float, start: float, patience: int, scales: bool = True, seed: int = 0
) -> dict[str, float]:
    """A burst of `factor` times what the least number of replicas can do, after a calm at 60% of it.

    A replica is that of deploy/kubernetes, with `milliseconds` of a core for an edit; its autoscaler needs `start`
    seconds for another one, and refused clients come back `patience` times.
    """
    policy = Policy.read(POLICY)
    rows = ROWS["edit"]
    capacity = Capacity(_REPLICA_CORES, milliseconds / 1000, max_batch=_MAX_BATCH // rows, queue=_REPLICA_QUEUE // rows)
    most = policy.least * capacity.rate
    phases = [(_CALM_SECONDS, _COMFORT * most), (_BURST_SECONDS, factor * most)]
    scaling = Scaling(Autoscaler(policy), start) if scales else None
    trace = Fleet(capacity, policy.least, np.random.default_rng([seed, 1]), scaling, patience).run(
        poisson(phases, np.random.default_rng(seed))
    )
    return judged(trace, capacity, policy.least)


def judged(trace: Trace, capacity: Capacity, least: int) -> dict[str, float]:
    """What clients of the burst saw, and what it took, from `least` replicas on; times in seconds of the burst."""
    burst = trace.arrived >= _CALM_SECONDS
    refused = trace.refused[trace.refused >= _CALM_SECONDS] - _CALM_SECONDS
    responses = (trace.ended - trace.arrived)[burst & trace.answered]
    late = trace.arrived >= _CALM_SECONDS + _BURST_SECONDS / 2
    settled = (trace.ended - trace.arrived)[late & trace.answered]
    needed = burst.sum() / _BURST_SECONDS / capacity.rate
    return {
        "requests": int(burst.sum()),
        "of attempts refused": len(refused) / (burst.sum() + len(refused) - (burst & ~trace.answered).sum()),
        "given up": float(1 - trace.answered[burst].mean()),
        "last refusal": float(refused.max()) if len(refused) else 0.0,
        "p50": float(np.percentile(responses, 50)),
        "p99": float(np.percentile(responses, 99)),
        "p99 of the second half": float(np.percentile(settled, 99)),
        "most replicas": max((moment.ready for moment in trace.history), default=least),
        "replicas needed": needed,
        "replica-hours": trace.replica_seconds / 3600,
    }


SCENES = [
    {"factor": 1.5, "start": 10.0, "patience": 0},
    {"factor": 3.0, "start": 10.0, "patience": 0},
    {"factor": 3.0, "start": 60.0, "patience": 0},
    {"factor": 1.5, "start": 10.0, "patience": _PATIENCE},
    {"factor": 3.0, "start": 10.0, "patience": _PATIENCE},
    {"factor": 3.0, "start": 60.0, "patience": _PATIENCE},
    {"factor": 3.0, "start": 10.0, "patience": _PATIENCE, "scales": False},
]

SEEDS = (0, 1, 2)


def report(machine: str, measured: list[Measured], milliseconds: float, scenes: list[dict[str, Any]]) -> str:
    """Both tables as Markdown."""
    lines = ["# Bursts and autoscaling", "", f"- {machine}", ""]
    lines += [
        f"## {PHASES['burst']:g} s of {BURST:g} times what one replica can do, on two",
        "",
        f"Queues of {QUEUE_IMAGES} images. *Simulated* knows the peak alone, *with refusals* also what a 429 took.",
        "",
        "| workload, round | | peak/s | 429 costs, ms | before: p50, p99 ms | burst: answers/s | 429 | lost "
        "| p50, p99 ms | after: 429 | p50, p99 ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in measured:
        peak, cost = f"{each.peak:.0f}", f"{each.refusal_milliseconds:.2f} of {each.milliseconds:.2f}"
        lines.append(_row(f"{each.workload}, {each.seed}", "measured", peak, cost, each.phases))
        lines.append(_row("", "simulated", "", "0", simulated(each, refusals=False)))
        lines.append(_row("", "with refusals", "", "", simulated(each, refusals=True)))
    late = max(each.late_milliseconds for each in measured)
    proxied = statistics.median(each.proxy_milliseconds for each in measured)
    lines += [
        "",
        f"The generator began 99% of its requests within {late:.0f} ms of when they were due; times count from there. "
        f"nginx took {proxied:.2f} ms of the processor for a request at the peak.",
    ]
    lines += [
        "",
        "## The autoscaler, simulated",
        "",
        f"{_CALM_SECONDS:g} s at {_COMFORT:.0%} of what two replicas can do, then {_BURST_SECONDS:g} s of the burst. "
        f"An edit takes {milliseconds:.2f} ms of a core. Medians of {len(SEEDS)} seeds.",
        "",
    ]
    lines += [
        "| burst, times the capacity of the calm | a replica starts in | clients come back | attempts refused "
        "| given up | last refusal after | p50, p99 | p99 later | most replicas (needed) | replica-hours |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in scenes:
        rounds = each["rounds"]
        middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
        last = [found["last refusal"] for found in rounds]
        start = f"{each['start']:g} s" if each.get("scales", True) else "no autoscaler"
        lines.append(
            f"| {each['factor']:g} | {start} | {each['patience'] or 'never'} | {middle['of attempts refused']:.1%} "
            f"| {middle['given up']:.1%} | {min(last):.0f} to {max(last):.0f} s "
            f"| {middle['p50']:.2f}, {middle['p99']:.2f} s | {middle['p99 of the second half']:.2f} s "
            f"| {middle['most replicas']} ({middle['replicas needed']:.1f}) "
            f"| {middle['replica-hours']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _row(name: str, kind: str, peak: str, cost: str, phases: dict[str, dict[str, float]]) -> str:
    before, burst, after = (phases[phase] for phase in PHASES)
    return (
        f"| {name} | {kind} | {peak} | {cost} | {before['p50']:.0f}, {before['p99']:.0f} "
        f"| {burst['answers a second']:.0f} | {burst['refused']:.1%} | {burst['lost']:.1%} "
        f"| {burst['p50']:.0f}, {burst['p99']:.0f} | {after['refused']:.1%} | {after['p50']:.0f}, {after['p99']:.0f} |"
    )


def main() -> int:
    """Measure, simulate and write the results."""
    parser = records.parser("autoscaling", __doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], help="of the two replicas")
    parser.add_argument("--recorded", action="store_true", help="measure nothing, take what is recorded")
    options = parser.parse_args()
    if options.recorded:
        known = json.loads((options.out / "autoscaling.json").read_text())
        machine, measured = known["machine"], [Measured(**each) for each in known["measured"]]
    elif shutil.which("nginx"):
        bundle = options.bundle.resolve()
        requests = requests_of(bundle)
        measured = []
        for number in range(options.rounds):
            for workload, listed in requests.items():
                measured.append(measure(bundle, workload, listed, options.cores, number + 1))
                print(measured[-1], flush=True)
        replicas = "one core for both replicas" if len(set(options.cores)) == 1 else "a core for each replica"
        machine = (
            f"{records.machine()}; {replicas}, shared with nginx and the load generator; "
            f"load average at the end {os.getloadavg()[0]:.0f}."
        )
    else:
        print("error: nginx is not installed", file=sys.stderr)
        return 1
    edit = json.loads((records.RESULTS / "capacity.json").read_text())["costs"]["edit"]["among_others"]
    scenes = [each | {"rounds": [scene(edit, **each, seed=seed) for seed in SEEDS]} for each in SCENES]
    record = {"machine": machine, "measured": [asdict(each) for each in measured], "edit_ms": edit, "scenes": scenes}
    records.write(options.out, "autoscaling", report(machine, measured, edit, scenes), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
