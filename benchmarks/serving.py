"""python -m benchmarks.serving: Facet beside its peers, all serving the same bundle, under the same load.

Servers take turns (A B ... A B ...): each is started, pressed with every workload at every concurrency, and stopped.
Medians over the rounds are reported, since machines are shared and noisy. Peers with requirements of their own
(benchmarks/peers/serve_NAME.txt) get an environment of their own, which `--prepare` makes.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import limit
from benchmarks.dialects import Bytes, Dialect, Json, JsonBatch, OpenInference
from benchmarks.load import Outcome, Request, ceiling, press
from benchmarks.processes import ROOT, Instance, free_port

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".bench"
PEER_DIALECTS: dict[str, Dialect] = {
    "plain": Bytes(),
    "litserve": Json(),
    "bentoml": JsonBatch(),
    "ray": Bytes(),
    "mlserver": OpenInference(),
}
CONCURRENCIES = (1, 8, 64)
_VARIETY = 64  # different requests in a workload, so that nothing can be answered from memory


@dataclass(frozen=True)
class Server:
    """How to start one server; `{python}`, `{bundle}`, `{bundles}` and `{port}` stand in the command."""

    name: str
    command: tuple[str, ...]
    dialect: Dialect = field(default_factory=Bytes)
    environment: dict[str, str] = field(default_factory=dict)
    requirements: Path | None = None  # None: the environment this runs in

    @property
    def python(self) -> str:
        return str(ENVIRONMENTS / self.name / "bin" / "python") if self.requirements else sys.executable

    def arguments(self, bundle: Path, port: int) -> list[str]:
        places = {"python": self.python, "bundle": str(bundle), "bundles": str(bundle.parent), "port": str(port)}
        return [part.format(**places) for part in self.command]


def servers() -> dict[str, Server]:
    """Facet, and every peer that benchmarks/peers knows, by name."""
    facet = Server(
        "facet",
        ("{python}", "-m", "service"),
        environment={
            "FACET_BUNDLES": "{bundles}",
            "FACET_LOG_LEVEL": "warning",
            "FACET_LATENT_CACHE_BYTES": "0",  # peers remember nothing either
            "FACET_SENSITIVE_ATTRIBUTES": "true",  # and take every attribute
        },
    )
    found = [facet]
    for name, dialect in PEER_DIALECTS.items():
        script = PEERS / f"serve_{name}.py"
        requirements = script.with_suffix(".txt")
        command = ("{python}", str(script), "{bundle}", "{port}")
        found.append(Server(name, command, dialect, requirements=requirements if requirements.is_file() else None))
    return {server.name: server for server in found}


def workloads(dialect: Dialect, manifest: dict, pictures: list[bytes]) -> dict[str, list[Request]]:
    """Requests by workload: a generated PNG, an edited JPEG, and both in turn."""
    names = [attribute["name"] for attribute in manifest["attributes"]]
    generate, edit = [], []
    for number, picture in enumerate(pictures):
        asked = {names[number % len(names)]: 1.0}
        generate.append(dialect.generate(asked, number))
        edit.append(dialect.edit(asked, picture))
    mixed = [request for pair in zip(generate, edit, strict=True) for request in pair]
    return {"generate": generate, "edit": edit, "mixed": mixed}


def portrait(seed: int, width: int, height: int) -> bytes:
    """A JPEG of about as much detail as a portrait, some 10 kB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(picture, dtype=np.int16) + rng.integers(-6, 7, (height, width, 3))
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def requests_of(bundle: Path, count: int = 16) -> list[Request]:
    """Generated faces and edits in turn, as Facet wants them."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    pictures = [portrait(seed, *manifest["frame"]["aligned_size"]) for seed in range(count)]
    return workloads(Bytes(), manifest, pictures)["mixed"]


def running(server: Server, bundle: Path, cores: Collection[int] | None = None) -> Instance:
    """The server on a free port, on those cores alone if named, to be used in a `with`."""
    port, places = free_port(), {"bundles": str(bundle.parent)}
    environment = os.environ | {name: value.format(**places) for name, value in server.environment.items()}
    return Instance(environment, server.arguments(bundle, port), port, server.dialect.ready, cores)


@contextmanager
def on_a_core_of_its_own() -> Iterator[list[int] | None]:
    """Meanwhile this process keeps to the last core; gives the others, for a server, or None if there is but one."""
    before = sorted(os.sched_getaffinity(0))
    if len(before) < 2:
        yield None
        return
    os.sched_setaffinity(0, before[-1:])
    try:
        yield before[:-1]
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Sample:
    """One server, workload and concurrency in one round."""

    throughput: float  # images/s
    p50: float  # ms
    p99: float  # ms
    failures: int
    cpu_milliseconds: float  # of the server's processes, an image
    memory_megabytes: float  # resident, of the server's processes, afterwards


def measure(instance: Instance, requests: list[Request], concurrency: int, seconds: float) -> Sample:
    """Press a running server."""
    before = instance.cpu_seconds
    outcome: Outcome = asyncio.run(press(instance.port, requests, concurrency, seconds))
    spent = instance.cpu_seconds - before
    # The CPU time covers the warm-up second too, so it is taken per image of the whole time at the same rate.
    images = outcome.throughput * (seconds + 1.0)
    return Sample(
        throughput=outcome.throughput,
        p50=outcome.percentile(50),
        p99=outcome.percentile(99),
        failures=sum(count for status, count in outcome.statuses.items() if status != 200),
        cpu_milliseconds=1000 * spent / images if images else float("nan"),
        memory_megabytes=instance.memory_megabytes,
    )


def prepare(server: Server) -> None:
    """Make the environment of a peer."""
    if server.requirements is None:
        return
    directory = ENVIRONMENTS / server.name
    if not (directory / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    subprocess.run([server.python, "-m", "pip", "install", "--quiet", "-r", str(server.requirements)], check=True)


def report(samples: dict[tuple[str, str, int], list[Sample]], facts: list[str]) -> str:
    """Medians as Markdown, best throughput first."""
    lines = []
    for workload, concurrency in dict.fromkeys((workload, concurrency) for _, workload, concurrency in samples):
        rows = {}
        for (name, w, c), found in samples.items():
            if (w, c) == (workload, concurrency):
                rows[name] = {key: statistics.median(getattr(s, key) for s in found) for key in Sample.__annotations__}
        facet = rows["facet"]["throughput"] if "facet" in rows else float("nan")
        lines += [
            f"### {workload}, concurrency {concurrency}",
            "",
            "| server | images/s | Facet does | p50 ms | p99 ms | CPU ms an image | memory MB | failures |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["throughput"]):
            ratio = facet / row["throughput"] if row["throughput"] else float("nan")
            lines.append(
                f"| {name} | {row['throughput']:.0f} | {ratio:.2f}x | {row['p50']:.1f} | {row['p99']:.1f} "
                f"| {row['cpu_milliseconds']:.2f} | {row['memory_megabytes']:.0f} | {row['failures']:.0f} |"
            )
        lines.append("")
    return "\n".join([*(f"- {fact}" for fact in facts), "", *lines])


def main() -> int:
    """Run the comparison and write benchmarks/results/serving.{json,md}."""
    known = servers()
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    arguments.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "celeba64")
    arguments.add_argument("--servers", nargs="+", choices=known, default=list(known))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=5.0)
    arguments.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCIES))
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments.add_argument("--prepare", action="store_true", help="make the peers' environments first")
    asked = arguments.parse_args()
    chosen = [known[name] for name in asked.servers]
    if asked.prepare:
        for server in chosen:
            prepare(server)
    manifest = json.loads((asked.bundle / "manifest.json").read_text())
    pictures = [portrait(seed, *manifest["frame"]["aligned_size"]) for seed in range(_VARIETY)]
    limits: dict[str, list[float]] = {}
    samples: dict[tuple[str, str, int], list[Sample]] = {}
    for number in range(asked.rounds):
        for name, most in limit.limits(asked.bundle, pictures, asked.seconds / 4).items():
            limits.setdefault(name, []).append(most)
        for server in chosen:
            with running(server, asked.bundle.resolve()) as instance:
                for workload, requests in workloads(server.dialect, manifest, pictures).items():
                    for concurrency in asked.concurrency:
                        sample = measure(instance, requests, concurrency, asked.seconds)
                        samples.setdefault((server.name, workload, concurrency), []).append(sample)
                        print(f"round {number + 1}: {server.name} {workload} at {concurrency}: {sample}", flush=True)
    fastest = asyncio.run(ceiling(workloads(Bytes(), manifest, pictures)["generate"], max(asked.concurrency), 2.0))
    facts = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"bundle {asked.bundle.name}; medians of {asked.rounds} rounds of {asked.seconds:g} s.",
        f"The load generator alone, against a server that does nothing in the same thread: {fastest:.0f} answers/s.",
    ]
    facts += [
        f"The limit for {name}, graphs and codecs in one process without HTTP: {statistics.median(found):.0f} images/s."
        for name, found in limits.items()
    ]
    asked.out.mkdir(parents=True, exist_ok=True)
    listed = [
        {"server": name, "workload": w, "concurrency": c, "rounds": [vars(s) for s in found]}
        for (name, w, c), found in samples.items()
    ]
    (asked.out / "serving.json").write_text(
        json.dumps({"machine": facts, "limits": limits, "samples": listed}, indent=1) + "\n"
    )
    (asked.out / "serving.md").write_text("# Serving\n\n" + report(samples, facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
