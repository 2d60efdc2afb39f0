"""python -m benchmarks.capacity: what one request costs, and so what a thousand a second and a billion a day need.

One replica on one core: first one request at a time, for the stages, the bytes and the memory; then several at once,
for the processor's time that capacity is planned with. The results go to benchmarks/results/capacity.{json,md}.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from benchmarks import records
from benchmarks.load import Request, press
from benchmarks.processes import Instance, facet
from benchmarks.request_formats import FACET
from benchmarks.workloads import manifest_of, photo_edit, photograph, portraits, workloads

USE = 0.7  # share of the processor's time that is planned to be used, the autoscaler's target
DAY, BILLION = 86_400, 1e9
_CONCURRENCY = {"generate": 32, "edit": 32, "photograph": 4}


@dataclass(frozen=True)
class Cost:
    """Of one request: ms of the processor alone and among others, stages by `Server-Timing`, bytes of both bodies."""

    alone: float
    among_others: float
    stages: dict[str, float]  # median ms, by the clock, alone
    bytes_in: float
    bytes_out: float
    memory_megabytes: float  # resident, of the replica afterwards

    @property
    def rest(self) -> float:
        """Milliseconds of the processor in no stage: HTTP, parsing, and what is between stages."""
        return self.alone - sum(ms for name, ms in self.stages.items() if name != "queue")


@dataclass(frozen=True)
class Needs:
    """What `rate` requests a second need: cores that are busy, cores to have, and bytes a second of bodies."""

    busy: float
    cores: float
    bytes_in: float
    bytes_out: float


def needs(cost: Cost, rate: float, use: float = USE) -> Needs:
    """By the processor's time among others, with `use` of the cores' time in use."""
    busy = rate * cost.among_others / 1000
    return Needs(busy, busy / use, rate * cost.bytes_in, rate * cost.bytes_out)


def stages_of(header: str) -> dict[str, float]:
    """Milliseconds by stage, of a `Server-Timing`."""
    parts = (part.split(";dur=") for part in header.split(", ") if part)
    return {name: float(milliseconds) for name, milliseconds in parts}


def measure(server: Instance, requests: list[Request], concurrency: int, count: int, seconds: float) -> Cost:
    """`count` requests one by one, medians of ten parts, then `concurrency` at once for `seconds`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    timings, spent, sizes_in, sizes_out = [], [], [], []
    for part in range(11):
        before = server.cpu_seconds
        for number in range(count // 10):
            path, headers, body = requests[number % len(requests)].parts()
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {data[:200]!r}")
            if part:  # the first warms up
                timings.append(stages_of(answer.headers["Server-Timing"]))
                sizes_in.append(len(body))
                sizes_out.append(len(data))
        if part:
            spent.append(1000 * (server.cpu_seconds - before) / (count // 10))
    connection.close()
    asyncio.run(press(server.port, requests, concurrency, 1.0, warm_up=0.0, late=True))
    before = server.cpu_seconds
    outcome = asyncio.run(press(server.port, requests, concurrency, seconds, warm_up=0.0, late=True))
    return Cost(
        alone=statistics.median(spent),
        among_others=1000 * (server.cpu_seconds - before) / outcome.images,
        stages={name: statistics.median(each[name] for each in timings) for name in timings[0]},
        bytes_in=statistics.fmean(sizes_in),
        bytes_out=statistics.fmean(sizes_out),
        memory_megabytes=server.memory_megabytes,
    )


def requests_of(bundle: Path, pictures: list[bytes], face: bytes) -> dict[str, list[Request]]:
    """A generated PNG; a framed face edited and pasted, JPEG in and out; the same of a photograph of 12 megapixels."""
    return {
        "generate": workloads(FACET, manifest_of(bundle), pictures)["generate"],
        "edit": [photo_edit(picture) for picture in pictures],
        "photograph": [photo_edit(photograph(Image.open(io.BytesIO(face))))],
    }


def generated(port: int) -> bytes:
    """A face as PNG."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": "application/json", "Accept": "image/png"}
    connection.request("POST", "/v1/generate", json.dumps({"attributes": {"Smiling": -1}, "seed": 5}), headers)
    return connection.getresponse().read()


def report(machine: str, costs: dict[str, Cost]) -> str:
    """Costs and needs as Markdown."""
    lines = ["# What a request costs", "", f"- {machine}", ""]
    names = list(dict.fromkeys(name for cost in costs.values() for name in cost.stages if name != "queue"))
    lines += [
        f"| ms | {' | '.join(names)} | rest | processor, alone | among others | kB in | kB out | memory MB |",
        "|---" * (len(names) + 7) + "|",
    ]
    for kind, cost in costs.items():
        stages = " | ".join(f"{cost.stages[name]:.2f}" if name in cost.stages else "" for name in names)
        lines.append(
            f"| {kind} | {stages} | {cost.rest:.2f} | {cost.alone:.2f} | {cost.among_others:.2f} "
            f"| {cost.bytes_in / 1000:.1f} | {cost.bytes_out / 1000:.1f} | {cost.memory_megabytes:.0f} |"
        )
    lines += [
        "",
        f"| 1,000 a second | cores busy | cores at {USE:.0%} | in, Mbit/s | out, Mbit/s |",
        "|---|---|---|---|---|",
    ]
    for kind, cost in costs.items():
        a_second = needs(cost, 1000)
        lines.append(
            f"| {kind} | {a_second.busy:.1f} | {a_second.cores:.1f} | {a_second.bytes_in * 8 / 1e6:,.0f} "
            f"| {a_second.bytes_out * 8 / 1e6:,.0f} |"
        )
    lines += [
        "",
        f"| a billion in a day | core-hours busy | core-hours at {USE:.0%} | in, TB | out, TB |",
        "|---|---|---|---|---|",
    ]
    for kind, cost in costs.items():
        day = needs(cost, BILLION / DAY)
        lines.append(
            f"| {kind} | {day.busy * 24:,.0f} | {day.cores * 24:,.0f} | {day.bytes_in * DAY / 1e12:,.1f} "
            f"| {day.bytes_out * DAY / 1e12:,.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write the results."""
    parser = records.parser("capacity", __doc__)
    parser.add_argument("--data", type=Path, help="CelebA, for faces of its size in bytes; else drawn noise")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--requests", type=int, default=500, help="one by one; a tenth as many photographs")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    if options.data:
        paths = sorted((options.data / "img_align_celeba").iterdir())
        pictures = [path.read_bytes() for path in paths[:: max(1, len(paths) // 100)]]
    else:
        pictures = portraits(bundle, 64)
    costs, begun = {}, time.perf_counter()
    with facet(bundle, [options.core]) as server:
        for kind, requests in requests_of(bundle, pictures, generated(server.port)).items():
            count = options.requests // 10 if kind == "photograph" else options.requests
            costs[kind] = measure(server, requests, _CONCURRENCY[kind], count, options.seconds)
            print(kind, costs[kind], flush=True)
    machine = (
        f"{records.machine()}; one core for the replica and its client; {len(pictures)} "
        f"{'pictures of CelebA' if options.data else 'drawn pictures'} of 178 x 218; "
        f"{time.perf_counter() - begun:.0f} s, load average at the end {os.getloadavg()[0]:.1f}."
    )
    record = {"machine": machine, "costs": {kind: asdict(cost) for kind, cost in costs.items()}}
    records.write(options.out, "capacity", report(machine, costs), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
