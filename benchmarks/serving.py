"""python -m benchmarks.serving: Facet beside its peers, all serving the same bundle, under the same load.

Servers take turns (A B ... A B ...): each is started, pressed with every workload at every concurrency, and stopped.
For the workload "slider", as a visitor of the page moves one, each is started again and keeps photographs it has seen.
Medians over the rounds are reported, since machines are shared and noisy. Peers with requirements of their own
(benchmarks/peers/serve_NAME.txt) get an environment of their own, which `--prepare` makes.
"""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks import limit, records
from benchmarks.capacity import generated
from benchmarks.load import Outcome, Request, ceiling, press
from benchmarks.processes import ROOT, Instance, facet, free_port
from benchmarks.request_formats import FACET, Json, JsonBatch, OpenInference, RawBody, RequestFormat
from benchmarks.workloads import (
    PREVIEW,
    WHOLE,
    in_turn,
    keep,
    kept_slider,
    manifest_of,
    never_seen,
    photo_edit,
    photograph,
    portraits,
    slider_values,
    workloads,
)
from service.bundle.manifest import EDITOR
from service.settings import Settings

PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".bench"
CONCURRENCIES = (1, 8, 64)
_VARIETY = 64  # different requests in a workload, so that no answer comes from a cache
_STEPS = 17  # of each slider; the load generator holds a request for each step and visitor, some with the photograph
_KEPT_BYTES = 256_000_000  # for decoded photographs, which is room for those of 64 visitors


class Facet:
    """The service of this repository, in the environment of this process."""

    request_format = FACET

    def prepare(self) -> None:
        """Nothing is missing."""

    def running(self, bundle: Path, keeping: bool = False) -> Instance:
        """The server, to be used in a `with`; `keeping` what it has found in photographs."""
        if not keeping:
            return facet(bundle)
        latents = str(Settings().latent_cache_bytes)
        return facet(bundle, FACET_LATENT_CACHE_BYTES=latents, FACET_PHOTO_STORE_DECODED_BYTES=str(_KEPT_BYTES))

    def slider(self, instance: Instance, picture: bytes) -> list[Request]:
        """The steps of a slider on a photograph, which `instance` keeps."""
        return kept_slider(keep(instance, picture), _STEPS)


@dataclass(frozen=True)
class Peer:
    """Another server: benchmarks/peers/serve_NAME.py, in an environment of its own where it has requirements."""

    name: str
    request_format: RequestFormat

    @property
    def script(self) -> Path:
        return PEERS / f"serve_{self.name}.py"

    @property
    def requirements(self) -> Path:
        return self.script.with_suffix(".txt")

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        own = self.requirements.is_file()
        return str(ENVIRONMENTS / self.name / "bin" / "python") if own else sys.executable

    def prepare(self) -> None:
        """Make its environment."""
        if not self.requirements.is_file():
            return
        if not Path(self.python).exists():
            subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENTS / self.name)], check=True)
        subprocess.run([self.python, "-m", "pip", "install", "--quiet", "-r", str(self.requirements)], check=True)

    def running(self, bundle: Path, keeping: bool = False) -> Instance:
        """The server, to be used in a `with`; `keeping` photographs decoded, with what it has found in them."""
        port = free_port()
        command = [self.python, str(self.script), str(bundle), str(port)]
        kept = {"PEER_KEPT_PHOTOGRAPHS": str(_VARIETY)} if keeping else {}
        return Instance(os.environ | kept, command, port, self.request_format.ready)

    def slider(self, instance: Instance, picture: bytes) -> list[Request]:
        """The steps of a slider on a photograph, which is sent with each of them."""
        return [self.request_format.photograph({"Smiling": value}, picture) for value in slider_values(_STEPS)]


SERVERS: dict[str, Facet | Peer] = {
    "facet": Facet(),
    "plain": Peer("plain", RawBody()),
    "litserve": Peer("litserve", Json()),
    "bentoml": Peer("bentoml", JsonBatch()),
    "ray": Peer("ray", RawBody()),
    "mlserver": Peer("mlserver", OpenInference()),
}


@dataclass(frozen=True)
class Sample:
    """One server, workload and concurrency in one round."""

    throughput: float  # images/s
    p50: float  # ms
    p99: float  # ms
    failures: int
    cpu_milliseconds: float  # per image, of the server's processes
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


@dataclass(frozen=True)
class Material:
    """What requests are made of: a bundle's manifest, aligned faces, photographs of a megapixel with a generated face,
    and the same as a page shows them. No two files are the same; there are no photographs without an editor."""

    manifest: dict
    pictures: list[bytes]
    photographs: list[bytes]
    previews: list[bytes]

    @classmethod
    def of(cls, bundle: Path) -> Material:
        """For a bundle's directory."""
        manifest, pictures = manifest_of(bundle), portraits(bundle, _VARIETY)
        if EDITOR not in manifest["files"]:
            return cls(manifest, pictures, [], [])
        with facet(bundle) as server:
            face = Image.open(io.BytesIO(generated(server.port)))
        return cls(manifest, pictures, *(never_seen(photograph(face, *size), _VARIETY) for size in (WHOLE, PREVIEW)))


def measured(
    server: Facet | Peer, bundle: Path, material: Material, concurrencies: list[int], seconds: float
) -> Iterator[tuple[str, int, Sample]]:
    """Press a server with every workload at every concurrency."""
    loads = workloads(server.request_format, material.manifest, material.pictures)
    if material.photographs:
        loads["photograph"] = [photo_edit(file, server.request_format) for file in material.photographs]
    with server.running(bundle) as instance:
        for workload, requests in loads.items():
            for concurrency in concurrencies:
                yield workload, concurrency, measure(instance, requests, concurrency, seconds)
    if not material.previews:
        return
    with server.running(bundle, keeping=True) as instance:
        for concurrency in concurrencies:
            moving = in_turn([server.slider(instance, file) for file in material.previews[:concurrency]])
            # Every process has to see each photograph once.
            asyncio.run(press(instance.port, moving, concurrency, seconds))
            yield "slider", concurrency, measure(instance, moving, concurrency, seconds)


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
    parser = records.parser("serving", __doc__)
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCIES))
    parser.add_argument("--prepare", action="store_true", help="make the peers' environments first")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    if options.prepare:
        for name in options.servers:
            SERVERS[name].prepare()
    material = Material.of(bundle)
    limits: dict[str, list[float]] = {}
    samples: dict[tuple[str, str, int], list[Sample]] = {}
    for number in range(options.rounds):
        for workload, most in limit.limits(
            bundle, material.pictures, material.photographs, options.seconds / 4
        ).items():
            limits.setdefault(workload, []).append(most)
        for name in options.servers:
            of_server = measured(SERVERS[name], bundle, material, options.concurrency, options.seconds)
            for workload, concurrency, sample in of_server:
                samples.setdefault((name, workload, concurrency), []).append(sample)
                print(f"round {number + 1}: {name} {workload} at {concurrency}: {sample}", flush=True)
    fastest = asyncio.run(
        ceiling(workloads(FACET, material.manifest, material.pictures)["generate"], max(options.concurrency), 2.0)
    )
    facts = [
        f"{records.machine()}; bundle {bundle.name}; medians of {options.rounds} rounds of {options.seconds:g} s.",
        "Of a slider's photograph Facet gets the handle with each step, as its page sends it, the others the file; "
        f"all keep {_VARIETY} photographs decoded, those with several processes in each of them.",
        f"The load generator alone, against a server that does nothing in the same thread: {fastest:.0f} answers/s.",
    ]
    facts += [
        f"The limit for {name}, graphs and codecs in one process without HTTP: {statistics.median(found):.0f} images/s."
        for name, found in limits.items()
    ]
    listed = [
        {"server": name, "workload": w, "concurrency": c, "rounds": [vars(s) for s in found]}
        for (name, w, c), found in samples.items()
    ]
    record = {"machine": facts, "limits": limits, "samples": listed}
    records.write(options.out, "serving", "# Serving\n\n" + report(samples, facts), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
