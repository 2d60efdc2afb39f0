"""python -m benchmarks.soak: an hour of everything at 70% of the peak, and whether anything grows.

Generated faces, edits, encodings, sweeps, broken pictures and clients that hang up, at a fixed rate, open-loop. Once a
minute the service's memory, descriptors and threads and the latencies of that minute are recorded. What grows is found
by a Theil-Sen slope over the minutes after the first tenth, which outliers do not move.

A machine that others share gets slower too. So the server that has run all that time is then measured in turns with
one just started, at the same rate: what slows both is the machine, and what slows the old one alone is its age.
The results go to benchmarks/results/soak.{json,md}.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import records
from benchmarks.faults.mutations import mutated
from benchmarks.load import Outcome, Request, flood, hang_up, press
from benchmarks.processes import Instance, facet, on_last_core
from benchmarks.request_formats import FACET
from benchmarks.workloads import manifest_of, photo_edit, portraits, workloads

_SHARE = 0.7
_PEAK_SECONDS = 10.0
_PICTURES = 64
_SETTLING_SECONDS = 1.0  # until the service has noticed that a minute's clients are gone
_LEAVING_EVERY = 20  # one client in so many hangs up before its answer
# Of turns of the old and of a fresh server: many and short, since a shared machine changes from one minute to the next.
_PAIRS = 60
_TURN_SHARE = 0.1  # of a minute
# What may be called flat: over the whole run, of the level that the first minutes settled at.
_MOST_GROWTH = {"memory_megabytes": 0.05, "descriptors": 0.1, "threads": 0.1, "p99": 0.25}


@dataclass(frozen=True)
class Minute:
    """What one minute showed. Latencies in milliseconds, of answers with 200."""

    memory_megabytes: float
    descriptors: int
    threads: int
    p50: float
    p99: float
    statuses: dict[int, int]


@dataclass(frozen=True)
class Growth:
    """Of one quantity: its level, how much it grew over the whole run by its slope, and how much it may."""

    level: float
    grown: float
    most: float

    @property
    def flat(self) -> bool:
        return self.grown <= self.most * self.level


@dataclass(frozen=True)
class Age:
    """The p99 in milliseconds of the server that ran all the time, and of a fresh one, in each pair of turns.

    `faults` are those of both servers, in all turns.
    """

    old: list[float]
    fresh: list[float]
    faults: int = 0

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of the ratios of the old to the fresh; the second is their median."""
        first, median, third = statistics.quantiles(
            (old / fresh for old, fresh in zip(self.old, self.fresh, strict=True)), n=4, method="inclusive"
        )
        return first, median, third

    @property
    def flat(self) -> bool:
        return self.quartiles[1] <= 1 + _MOST_GROWTH["p99"]


def slope(values: Sequence[float]) -> float:
    """The median of the slopes between all pairs (Theil 1950, Sen 1968), per step; 0 for fewer than two."""
    pairs = [(b - a) / (j - i) for (i, a), (j, b) in itertools.combinations(enumerate(values), 2)]
    return statistics.median(pairs) if pairs else 0.0


def growth(minutes: Sequence[Minute]) -> dict[str, Growth]:
    """How each quantity changed over the minutes, without the first tenth, in which memory settles."""
    settled = minutes[len(minutes) // 10 :]
    found = {}
    for name, most in _MOST_GROWTH.items():
        values = [float(getattr(minute, name)) for minute in settled]
        found[name] = Growth(statistics.median(values), slope(values) * (len(values) - 1), most)
    return found


def mixed(bundle: Path) -> list[Request]:
    """All kinds of requests in turn: faces, edits, encodings, sweeps, and pictures that are broken."""
    pictures = portraits(bundle, _PICTURES)
    found = workloads(FACET, manifest_of(bundle), pictures)
    encoded = [Request.post("/v1/encode", "image/jpeg", picture) for picture in pictures]
    swept = [
        Request.post("/v1/sweep?attribute=Smiling&steps=3&size=64", "image/jpeg", picture, images=3)
        for picture in pictures
    ]
    # Not the bombs: they take a core for a second each, and then the rate is not that of the mixture.
    broken = [photo_edit(data) for name, data in mutated(0, 10 * _PICTURES) if not name.endswith("bomb")][:_PICTURES]
    return [
        request for row in zip(found["generate"], found["edit"], encoded, swept, broken, strict=True) for request in row
    ]


async def leave(port: int, requests: Iterator[Request], rate: float, seconds: float, rng: random.Random) -> None:
    """`rate` clients a second that hang up before the answer."""

    async def one(payload: bytes) -> None:
        with suppress(OSError):  # the connection was not made
            await hang_up(port, payload, rng)

    end, under_way = time.monotonic() + seconds, set()
    while time.monotonic() < end:
        task = asyncio.create_task(one(next(requests).payload))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        await asyncio.sleep(1 / rate)
    await asyncio.gather(*under_way)


async def minute(port: int, requests: list[Request], rate: float, seconds: float, number: int) -> Outcome:
    """`seconds` of the mixture at `rate` requests a second, some of which are given up."""
    start = number * 7 % len(requests)
    turned = requests[start:] + requests[:start]
    leaving = rate / _LEAVING_EVERY
    (outcome, _), _ = await asyncio.gather(
        flood(port, turned, rate - leaving, seconds),
        leave(port, itertools.cycle(turned), leaving, seconds, random.Random(number)),
    )
    return outcome


@dataclass(frozen=True)
class Record:
    """The peak in requests a second, what each minute at a share of it showed, and what age did."""

    peak: float
    minutes: list[Minute]
    age: Age

    @property
    def verdicts(self) -> dict[str, str]:
        """Of each quantity, whether it is flat; a slope of p99 that a fresh server has as well is the machine's."""
        found = {name: "flat" if each.flat else "GROWS" for name, each in growth(self.minutes).items()}
        if not self.age.flat:
            found["p99"] = "GROWS"
        elif found["p99"] == "GROWS":
            found["p99"] = "the machine's"
        return found

    @property
    def faults(self) -> int:
        """In the minutes and in the turns."""
        return sum(faults(each.statuses) for each in self.minutes) + self.age.faults

    @property
    def passed(self) -> bool:
        return not self.faults and "GROWS" not in self.verdicts.values()


def soak(bundle: Path, minutes: int, share: float, seconds: float) -> Record:
    """Run it: that many minutes, of `seconds` each, and then the turns."""
    requests, found = mixed(bundle), []
    # A client that reuses a pooled connection just when the server closes it would count as a fault of the server.
    settings = {"FACET_KEEP_ALIVE": str(2 * seconds)}
    with on_last_core() as others, facet(bundle, others, **settings) as instance:
        most = asyncio.run(press(instance.port, requests, 32, _PEAK_SECONDS, 5.0))
        peak = most.statuses.total() / _PEAK_SECONDS
        for number in range(minutes):
            outcome = asyncio.run(minute(instance.port, requests, share * peak, seconds, number))
            time.sleep(_SETTLING_SECONDS)
            found.append(_sample(instance, outcome))
            print(f"minute {number + 1}: {found[-1]}", flush=True)
        with facet(bundle, others, **settings) as fresh:
            age = _age(instance.port, fresh.port, requests, share * peak, _TURN_SHARE * seconds)
    return Record(peak, found, age)


def _age(old: int, fresh: int, requests: list[Request], rate: float, seconds: float) -> Age:
    """Load the servers on those two ports in turns; the first turn of the fresh one only warms it up."""

    def turn(port: int, number: int) -> Outcome:
        return asyncio.run(minute(port, requests, rate, seconds, number))

    broken = faults(turn(fresh, 0).statuses)
    found: dict[int, list[float]] = {old: [], fresh: []}
    for number in range(_PAIRS):
        # Who begins changes, so that what drifts within a pair is nobody's.
        for port in (old, fresh) if number % 2 == 0 else (fresh, old):
            outcome = turn(port, number)
            found[port].append(outcome.percentile(99))
            broken += faults(outcome.statuses)
        print(f"p99 in turns: old {found[old][-1]:.1f} ms, fresh {found[fresh][-1]:.1f} ms", flush=True)
    return Age(found[old], found[fresh], broken)


def _sample(instance: Instance, outcome: Outcome) -> Minute:
    return Minute(
        memory_megabytes=instance.memory_megabytes,
        descriptors=instance.process.num_fds(),
        threads=instance.process.num_threads(),
        p50=outcome.percentile(50),
        p99=outcome.percentile(99),
        statuses=dict(sorted(outcome.statuses.items())),
    )


def faults(statuses: Mapping[int, int]) -> int:
    """Answers with 5xx, and none at all, of clients that stayed."""
    return sum(count for status, count in statuses.items() if status == 0 or status >= 500)


def report(record: Record, share: float, facts: str) -> str:
    """The results as Markdown."""
    total: dict[int, int] = {}
    for each in record.minutes:
        for status, count in each.statuses.items():
            total[status] = total.get(status, 0) + count
    age, verdicts = record.age, record.verdicts
    first, ratio, third = age.quartiles
    lines = [
        "# Soak",
        "",
        f"- {facts}.",
        f"- The peak of this mixture: {record.peak:.0f} requests/s; offered: {share:.0%} of it.",
        f"- Answers by status: {', '.join(f'{status}: {count}' for status, count in sorted(total.items()))}.",
        f"- Faults (5xx, or no answer): {record.faults}.",
        f"- Afterwards, in {len(age.old)} pairs of turns with a server just started: "
        f"p99 {statistics.median(age.old):.1f} ms against {statistics.median(age.fresh):.1f}, "
        f"{ratio:.2f} times in the median of the pairs, {first:.2f} and {third:.2f} in their quartiles "
        f"({1 + _MOST_GROWTH['p99']:g} allowed).",
        "",
        "| | level | grown over the run | allowed | |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {found.level:.4g} | {found.grown:+.3g} | {found.most * found.level:.3g} | {verdicts[name]} |"
        for name, found in growth(record.minutes).items()
    ]
    lines += ["", "| minute | memory MB | descriptors | threads | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {n} | {m.memory_megabytes:.0f} | {m.descriptors} | {m.threads} | {m.p50:.1f} | {m.p99:.1f} |"
        for n, m in enumerate(record.minutes, 1)
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run it and write benchmarks/results/soak.{json,md}; status 1 if anything grew or failed."""
    parser = records.parser("soak", __doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a minute; less for a trial")
    parser.add_argument("--share", type=float, default=_SHARE, help="of the peak")
    options = parser.parse_args()
    record = soak(options.bundle.resolve(), options.minutes, options.share, options.seconds)
    machine = f"{records.machine()}; the load generator keeps to one core, the service to the others"
    text = report(record, options.share, f"{machine}; bundle {options.bundle.name}")
    print(text)
    facts = {
        "machine": machine,
        "peak_requests_per_second": record.peak,
        "share": options.share,
        "seconds": options.seconds,
        "growth": {name: asdict(each) for name, each in growth(record.minutes).items()},
        "age": asdict(record.age) | {"quartiles": record.age.quartiles},
        "verdicts": record.verdicts,
        "faults": record.faults,
        "minutes": [asdict(each) for each in record.minutes],
    }
    records.write(options.out, "soak", text, facts)
    return 0 if record.passed else 1


if __name__ == "__main__":
    sys.exit(main())
