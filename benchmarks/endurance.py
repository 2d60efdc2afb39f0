"""python -m benchmarks.endurance: what overload, reloading and clients that leave do to a running service.

Three scenes, each against a server of its own: four times the load it can do, a new model as often as it can load one,
and clients half of whom hang up. The results go to benchmarks/results/endurance.{json,md}.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import onnx
from onnx import numpy_helper
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import records
from benchmarks.load import Outcome, Request, flood, hang_up, press
from benchmarks.processes import Instance, facet, on_last_core
from benchmarks.workloads import facet_workloads
from export.writer import seal
from service.bundle import loader

_TOKEN = "endurance"
_CLIENTS = 16


def overload(bundle: Path, factor: float, seconds: float) -> dict:
    """Offer `factor` times the peak for `seconds`, then measure at once whether the peak is back."""
    requests = facet_workloads(bundle)["mixed"]

    def pressed(port: int, warm_up: float) -> Outcome:
        return asyncio.run(press(port, requests, 64, min(10.0, seconds), warm_up))

    with on_last_core() as others, facet(bundle, others) as instance:
        peak = pressed(instance.port, 2.0).throughput
        before = instance.memory_megabytes
        during, rate = asyncio.run(flood(instance.port, requests, factor * peak, seconds))
        after = instance.memory_megabytes
        again = pressed(instance.port, 0.0).throughput
        return {
            "cores of the server, beside one of the load generator": len(others) if others else "the same one",
            "peak images/s": peak,
            "target rate, times the peak": factor,
            "offered rate, times the peak": rate / peak,
            "goodput under overload, of the peak": during.throughput / peak,
            "answers by status": dict(sorted(during.statuses.items())),
            "429 after ms, p50": during.percentile(50, 429),
            "429 after ms, p99": during.percentile(99, 429),
            "memory before, MB": before,
            "memory after, MB": after,
            "memory at the end, MB": instance.memory_megabytes,
            "throughput right afterwards, of the peak": again / peak,
        }


def reloads(bundle: Path, seconds: float) -> dict:
    """Two models replace each other as often as they can; every answer must be wholly of one of them."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        versions = [_variation(bundle, root / version, version, 0.1 * number) for number, version in enumerate("ab")]
        served = root / "bundles" / bundle.name
        served.parent.mkdir()
        served.symlink_to(versions[0])
        requests = facet_workloads(bundle)["mixed"]
        with facet(served, FACET_ADMIN_TOKEN=_TOKEN) as instance:
            return asyncio.run(_reload_under_load(instance, served, versions, requests, seconds))


async def _reload_under_load(
    instance: Instance, served: Path, versions: list[Path], requests: list[Request], seconds: float
) -> dict:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=instance.url, timeout=60, limits=limits) as client:

        async def send(request: Request) -> tuple[int, str, str]:
            path, headers, body = request.parts()
            answer = await client.post(path, content=body, headers=headers)
            return answer.status_code, answer.headers.get("x-facet-model", ""), _digest(answer.content)

        async def reload(directory: Path) -> None:
            link = served.with_name(".next")
            link.symlink_to(directory)
            link.replace(served)
            answer = await client.post(
                f"/v1/models/{served.name}:reload", headers={"Authorization": f"Bearer {_TOKEN}"}
            )
            answer.raise_for_status()

        expected: dict[tuple[int, str], str] = {}  # by request and model
        for directory in versions:
            await reload(directory)
            for number, request in enumerate(requests):
                _, model, digest = await send(request)
                expected[number, model] = digest
        different = sum(
            len({d for (n, _), d in expected.items() if n == number}) > 1 for number in range(len(requests))
        )
        before, end = instance.memory_megabytes, time.monotonic() + seconds
        counts = {"answers": 0, "failed": 0, "mixed": 0}

        async def client_loop(number: int) -> None:
            while time.monotonic() < end:
                number = (number + 1) % len(requests)
                status, model, digest = await send(requests[number])
                counts["answers"] += 1
                counts["failed"] += status != 200
                counts["mixed"] += status == 200 and expected.get((number, model)) != digest

        async def reload_loop() -> int:
            done = 0
            while time.monotonic() < end:
                await reload(versions[done % 2])
                done += 1
            return done

        done, *_ = await asyncio.gather(reload_loop(), *(client_loop(n) for n in range(_CLIENTS)))
        return {
            "reloads": done,
            **counts,
            "requests that the two models answer differently": f"{different} of {len(requests)}",
            "memory before, MB": before,
            "memory after, MB": instance.memory_megabytes,
            "threads afterwards": instance.process.num_threads(),
        }


def disconnects(bundle: Path, count: int) -> dict:
    """Half of `count` clients hang up before the answer."""
    requests, rng = facet_workloads(bundle)["mixed"], random.Random(0)
    leaving = [True, False] * (count // 2)
    rng.shuffle(leaving)
    with facet(bundle) as instance:
        descriptors = instance.process.num_fds()
        answered, hung = asyncio.run(_leave(instance.port, requests, leaving, rng))
        metrics = _settled(instance.url)
        codes: Counter[str] = Counter()
        for labels, value in metrics["facet_requests_total"]:
            if labels["endpoint"].startswith("/v1"):
                codes[labels["code"]] += int(value)
        return {
            "requests": len(leaving),
            "hung up": sum(leaving),
            "answered with 200, as clients count": answered,
            "without an answer within 60 s": hung,
            "by code, as the server counts": dict(sorted(codes.items())),
            "cancelled, by stage": {
                labels["stage"]: int(value) for labels, value in metrics["facet_requests_cancelled_total"]
            },
            "images waiting afterwards": sum(value for _, value in metrics["facet_queue_images"]),
            "requests in flight afterwards": sum(value for _, value in metrics["facet_requests_in_flight"]) - 1,
            "file descriptors before and afterwards": f"{descriptors}, {instance.process.num_fds()}",
        }


async def _leave(port: int, requests: list[Request], leaving: list[bool], rng: random.Random) -> tuple[int, int]:
    """How many of the clients that stay get 200, and how many get nothing within a minute."""
    numbers, answered, hung = iter(range(len(leaving))), 0, 0

    async def worker() -> None:
        nonlocal answered, hung
        for number in numbers:
            payload = requests[number % len(requests)].payload
            if leaving[number]:
                await hang_up(port, payload, rng)
                continue
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(payload)
            try:
                async with asyncio.timeout(60):
                    status = (await reader.readline()).split(b" ")[1:2]
                answered += status == [b"200"]
            except TimeoutError:
                hung += 1
            writer.transport.abort()

    await asyncio.gather(*(worker() for _ in range(64)))
    return answered, hung


def _settled(url: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The metrics once nothing is in flight, or after ten seconds."""
    for _ in range(100):
        text = httpx.get(f"{url}/metrics").text
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        if found["facet_requests_in_flight"][0][1] <= 1:  # this one
            break
        time.sleep(0.1)
    return found


def _variation(bundle: Path, directory: Path, version: str, brighter: float) -> Path:
    """A copy of the bundle under another version, whose faces are so much brighter; -1..1 is the scale."""
    shutil.copytree(bundle, directory)
    path = directory / "decoder.onnx"
    graph = onnx.load(path)
    last = [node for node in graph.graph.node if node.op_type == "Conv"][-1]
    bias = next(values for values in graph.graph.initializer if values.name == last.input[2])
    moved = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array((moved + brighter).astype(moved.dtype), bias.name))
    onnx.save(graph, path)
    manifest = loader.load(bundle).manifest.model_copy(update={"version": version})
    seal(directory, manifest, with_samples=True)
    return directory


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _formatted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items()) or "none"
    return str(value)


def main() -> int:
    """Run the scenes and write benchmarks/results/endurance.{json,md}."""
    parser = records.parser("endurance", __doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload, and of reloading")
    parser.add_argument("--factor", type=float, default=4.0, help="overload, times the peak")
    parser.add_argument("--requests", type=int, default=5000, help="half of their clients hang up")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    scenes = {
        "overload": lambda: overload(bundle, options.factor, options.seconds),
        "reloads": lambda: reloads(bundle, options.seconds),
        "disconnects": lambda: disconnects(bundle, options.requests),
    }
    machine = f"{records.machine()}; bundle {bundle.name}"
    machine += "; load generator and server on the same cores, except under overload"
    found, lines = {}, ["# Endurance", "", f"- {machine}."]
    for name, scene in scenes.items():
        found[name] = scene()
        rows = [f"| {key} | {_formatted(value)} |" for key, value in found[name].items()]
        lines += ["", f"## {name.capitalize()}", "", "| | |", "|---|---|", *rows]
        print("\n".join(lines[-len(rows) - 5 :]), flush=True)
    records.write(options.out, "endurance", "\n".join(lines) + "\n", {"machine": machine, **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
