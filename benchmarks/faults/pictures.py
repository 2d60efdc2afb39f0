"""python -m benchmarks.faults.pictures: thousands of pictures made to break decoders, against a running service.

Each is encoded, edited, swept or verified, in turn. The answers must be 2xx and 4xx, and the service's memory within
what docs/operations.md promises. The results go to benchmarks/results/pictures.{json,md}.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.faults.mutations import mutated, sound
from benchmarks.processes import ROOT
from benchmarks.serving import running, servers
from service.settings import Settings

_AT_ONCE = 4
_WAYS = 4
# What one thread takes for the largest picture that is accepted, transparent and turned: docs/operations.md.
_BYTES_PER_PIXEL = 20


@dataclass
class Attacked:
    """What came back: statuses by attack, those that must not be, the slowest answer, and the service's memory."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    before: int = 0
    peak: int = 0

    def allowed(self, settings: Settings) -> int:
        """Bytes that the peak may reach."""
        return self.before + settings.codec_threads * settings.max_image_pixels * _BYTES_PER_PIXEL

    def add(self, attack: str, status: int, seconds: float) -> None:
        self.statuses.setdefault(attack, Counter())[status] += 1
        self.slowest = max(self.slowest, (seconds, attack))


def requests(client: httpx.AsyncClient, data: bytes, turn: int) -> httpx.Request:
    """One of the ways to send a picture."""
    raw = {"content": data, "headers": {"Content-Type": "application/octet-stream"}}
    form = {"files": {"image": ("picture", data)}}
    match turn % _WAYS:
        case 0:
            return client.build_request("POST", "/v1/encode", **raw)
        case 1:
            return client.build_request("POST", "/v1/edit", **form, data={"attributes": '{"Smiling": 1}'})
        case 2:
            return client.build_request("POST", "/v1/verify", **raw)
        case _:
            asked = {"attribute": "Smiling", "steps": "2", "size": "64"}
            return client.build_request("POST", "/v1/sweep", **form, data=asked)


async def attack(url: str, files: Iterable[tuple[str, bytes]], process: psutil.Process) -> Attacked:
    """Send every file, between sound ones, which the service must answer before and after."""
    found, supply = Attacked(), enumerate(files)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def send_sound(when: str) -> None:
            for (name, data), turn in itertools.product(sound().items(), range(_WAYS)):
                status = (await client.send(requests(client, data, turn))).status_code
                if status != 200:
                    found.wrong.append(f"a sound {name} {when}: {status}")

        async def watch() -> None:
            while True:
                found.peak = max(found.peak, process.memory_info().rss)
                await asyncio.sleep(0.02)

        async def send() -> None:
            for number, (name, data) in supply:
                started = time.perf_counter()
                try:
                    # By no number that is in step with the attacks' turns.
                    status = (await client.send(requests(client, data, zlib.crc32(b"%d" % number)))).status_code
                except httpx.HTTPError as exc:
                    status = 0
                    found.wrong.append(f"number {number}, {name}: {exc!r}")
                found.add(name, status, time.perf_counter() - started)
                if status >= 500:
                    found.wrong.append(f"number {number}, {name}: {status}")

        await send_sound("before")
        found.before = process.memory_info().rss  # of a process that has worked
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(send() for _ in range(_AT_ONCE)))
        watching.cancel()
        await send_sound("afterwards")
    return found


def report(found: Attacked, seed: int, settings: Settings) -> str:
    """The results as Markdown."""
    codes = sorted(set(itertools.chain.from_iterable(found.statuses.values())))
    total = sum((counted for counted in found.statuses.values()), Counter())
    lines = [
        "# Pictures made to break decoders",
        "",
        f"- {total.total()} files, seed {seed}, {_AT_ONCE} at a time; {settings.codec_threads} threads for pictures.",
        f"- Answers that were neither 2xx nor 4xx, or missing: {len(found.wrong)}.",
        f"- Memory before {found.before / 1e6:.0f} MB, at most {found.peak / 1e6:.0f} MB; allowed are "
        f"{found.allowed(settings) / 1e6:.0f} MB.",
        f"- The slowest answer took {found.slowest[0]:.1f} s ({found.slowest[1]}).",
        "",
        f"| attack | {' | '.join(map(str, codes))} |",
        f"|---|{'---|' * len(codes)}",
    ]
    lines += [
        f"| {name} | {' | '.join(str(counted[code] or '') for code in codes)} |"
        for name, counted in [*sorted(found.statuses.items()), ("all", total)]
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Attack a service of its own; status 1 where something was wrong."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.faults.pictures", description=__doc__)
    arguments.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "celeba64")
    arguments.add_argument("--count", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    asked = arguments.parse_args()
    settings = Settings()
    with running(servers()["facet"], asked.bundle.resolve()) as instance:
        found = asyncio.run(attack(instance.url, mutated(asked.seed, asked.count), instance.process))
    text = report(found, asked.seed, settings)
    print(text, *found.wrong, sep="\n")
    facts = {
        "seed": asked.seed,
        "statuses": {name: dict(sorted(counted.items())) for name, counted in sorted(found.statuses.items())},
        "wrong": found.wrong,
        "slowest": found.slowest,
        "memory": {"before": found.before, "peak": found.peak, "allowed": found.allowed(settings)},
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "pictures.json").write_text(json.dumps(facts, indent=1) + "\n")
    (asked.out / "pictures.md").write_text(text)
    return 1 if found.wrong or found.peak > found.allowed(settings) else 0


if __name__ == "__main__":
    sys.exit(main())
