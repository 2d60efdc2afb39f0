"""python -m benchmarks.faults.pictures: thousands of pictures made to break decoders, against a running service.

Each is encoded, edited, swept or verified, in turn. The answers must be 2xx and 4xx, and the service's memory within
what docs/security.md promises. The results go to benchmarks/results/pictures.{json,md}.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
import psutil

from benchmarks import records
from benchmarks.faults.attacks.samples import sound
from benchmarks.faults.mutations import mutated
from benchmarks.processes import facet
from service.pipeline.pixel_budget import SMALL
from service.settings import Settings

_AT_ONCE = 4
_WAYS = 4
# What a picture takes at most while it is decoded, and while it waits decoded for its edit: docs/settings.md.
_BYTES_PER_PIXEL, _BYTES_PER_CACHED_PIXEL = 16, 5


@dataclass
class Attacked:
    """Statuses by attack, wrong answers, the slowest answer, and the service's memory in bytes."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    before: int = 0
    peak: int = 0

    def allowed(self, settings: Settings) -> int:
        """Bytes that the peak may reach."""
        decoded = _BYTES_PER_PIXEL * (settings.decoded_pixels + settings.codec_threads * SMALL)
        return self.before + decoded + _BYTES_PER_CACHED_PIXEL * settings.max_image_pixels

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
            sweep = {"attribute": "Smiling", "steps": "2", "size": "64"}
            return client.build_request("POST", "/v1/sweep", **form, data=sweep)


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
                    # Not the number itself, which is in step with the order of the attacks.
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
    parser = records.parser("faults.pictures", __doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = Settings()
    with facet(options.bundle.resolve()) as instance:
        found = asyncio.run(attack(instance.url, mutated(options.seed, options.count), instance.process))
    text = report(found, options.seed, settings)
    print(text, *found.wrong, sep="\n")
    record = {
        "seed": options.seed,
        "statuses": {name: dict(sorted(counted.items())) for name, counted in sorted(found.statuses.items())},
        "wrong": found.wrong,
        "slowest": found.slowest,
        "memory": {"before": found.before, "peak": found.peak, "allowed": found.allowed(settings)},
    }
    records.write(options.out, "pictures", text, record)
    return 1 if found.wrong or found.peak > found.allowed(settings) else 0


if __name__ == "__main__":
    sys.exit(main())
