"""python -m benchmarks.replicas: Facet's replicas behind nginx, as deploy/nginx configures it.

Two scenes: the throughput of one and of two replicas that have a core each, and a rolling restart and a SIGKILL under
load, of which clients should see nothing. The results go to benchmarks/results/replicas.{json,md}.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import records
from benchmarks.load import Request, press
from benchmarks.processes import ROOT, Instance, facet, free_port
from benchmarks.workloads import facet_workloads

CONFIGURATION = ROOT / "deploy" / "nginx" / "facet.conf"
REST_SECONDS = 3.5  # nginx avoids a replica that failed for two seconds, and counts whole ones
_LOG = "log_format tried '$status $upstream_status';"


@dataclass
class Proxy(Instance):
    """nginx in front of replicas, and its log of requests."""

    directory: Path = field(kw_only=True)

    def cut(self) -> int:
        """Answers that broke off after their head was sent to the client; no proxy can retry these."""
        return (self.directory / "error.log").read_text().count("while reading upstream")

    def repeated(self) -> int:
        """Requests that nginx sent to a second replica."""
        lines = (self.directory / "access.log").read_text().splitlines()
        return sum(" " in line.partition(" ")[2] for line in lines)


@contextmanager
def proxy(ports: list[int], connections: int = 512) -> Iterator[Proxy]:
    """nginx with the shipped configuration, except the addresses; `connections` counts both sides."""
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        configuration = directory / "nginx.conf"
        configuration.write_text(_configuration(CONFIGURATION.read_text(), ports, port, directory, connections))
        command = ["nginx", "-c", str(configuration), "-e", str(directory / "error.log")]
        with Proxy(os.environ, command, port, directory=directory) as front:
            yield front


def _configuration(shipped: str, ports: list[int], port: int, directory: Path, connections: int) -> str:
    """The shipped server block with other addresses, in a complete configuration."""
    (template, *_) = re.findall(r"^ *server facet-1:8000(.*);$", shipped, flags=re.MULTILINE)
    servers = "\n".join(f"server 127.0.0.1:{each}{template};" for each in ports)
    lines = re.sub(r"^ *server facet-\d:8000.*;$", "", shipped, flags=re.MULTILINE)
    lines = lines.replace("keepalive 32;", f"{servers}\nkeepalive 32;").replace(
        "listen 8080;", f"listen 127.0.0.1:{port};"
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    # One worker, in the foreground, as whoever starts it.
    user = "user root;" if os.geteuid() == 0 else ""
    return (
        f"{user} daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;\n"
        f"events {{ worker_connections {connections}; }}\n"
        f"http {{ {_LOG} access_log {directory}/access.log tried;\n{paths}\n{lines}\n}}\n"
    )


class Load(threading.Thread):
    """Closed-loop load from `concurrency` connections until `end`; `statuses` counts the answers."""

    def __init__(self, port: int, requests: list[Request], concurrency: int) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[int] = Counter()
        self._port, self._requests, self._concurrency = port, requests, concurrency
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            outcome = asyncio.run(press(self._port, self._requests, self._concurrency, 1.0, warm_up=0.0, late=True))
            self.statuses += outcome.statuses

    def end(self) -> Counter[int]:
        self._ended.set()
        self.join(timeout=60)
        return self.statuses


@dataclass(frozen=True)
class Disruption:
    """Answers by status, 0 where one broke off; requests that nginx repeated; answers cut off after their head; exit
    statuses of replicas."""

    statuses: Counter[int]
    repeated: int
    cut: int
    exits: list[int]


def disrupt(bundle: Path, requests: list[Request], concurrency: int = 8) -> tuple[Disruption, Disruption]:
    """Restart two replicas one after the other, then kill one, each under load."""
    with facet(bundle) as first, facet(bundle) as second, proxy([first.port, second.port]) as front:
        load, exits = Load(front.port, requests, concurrency), []
        load.start()
        for each in (first, second):
            time.sleep(REST_SECONDS)
            exits.append(each.stop())
            each.start()
        time.sleep(REST_SECONDS)
        restarted = Disruption(load.end(), front.repeated(), front.cut(), exits)

        load = Load(front.port, requests, concurrency)
        load.start()
        time.sleep(1.5)
        killed = [second.stop(signal.SIGKILL)]
        time.sleep(REST_SECONDS)
        statuses, repeated, cut = load.end(), front.repeated() - restarted.repeated, front.cut() - restarted.cut
        return restarted, Disruption(statuses, repeated, cut, killed)


@dataclass(frozen=True)
class Throughput:
    """Throughput of the replicas, and their processor time, without nginx."""

    images: float  # per second
    milliseconds: float  # of processor time per image


def throughput(bundle: Path, requests: list[Request], cores: list[int], seconds: float, concurrency: int) -> Throughput:
    """Through nginx, with one replica on each of those cores."""
    with ExitStack() as stack:
        replicas = [stack.enter_context(facet(bundle, [core])) for core in cores]
        front = stack.enter_context(proxy([each.port for each in replicas]))
        asyncio.run(press(front.port, requests, concurrency, 1.0, warm_up=0.0))
        before = sum(each.cpu_seconds for each in replicas)
        begun = time.perf_counter()
        outcome = asyncio.run(press(front.port, requests, concurrency, seconds, warm_up=0.0, late=True))
        elapsed = time.perf_counter() - begun
        spent = sum(each.cpu_seconds for each in replicas) - before
    return Throughput(outcome.images / elapsed, 1000 * spent / outcome.images)


def report(machine: str, pinned: dict[str, list[Throughput]], scenes: dict[str, Disruption]) -> str:
    """Medians and the clients' answers, as Markdown."""
    one = statistics.median(each.images for each in pinned["one"])
    ratios = [two.images / one.images for one, two in zip(pinned["one"], pinned["two"], strict=True)]
    lines = ["# Replicas behind nginx", "", f"- {machine}", ""]
    lines += [
        "| replicas, each on a core of its own | images/s, rounds | median | of one | CPU ms an image, median |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in pinned.items():
        median = statistics.median(each.images for each in rounds)
        cpu = statistics.median(each.milliseconds for each in rounds)
        listed = ", ".join(f"{each.images:.0f}" for each in rounds)
        lines.append(f"| {name} | {listed} | {median:.0f} | {median / one:.2f}x | {cpu:.2f} |")
    lines += ["", f"Two against one by rounds: {', '.join(f'{ratio:.2f}x' for ratio in ratios)}."]
    lines += ["", "| under load | 200 | others | repeated by nginx | exit statuses |", "|---|---|---|---|---|"]
    for name, scene in scenes.items():
        others = {status: count for status, count in scene.statuses.items() if status != 200}
        exits = ", ".join(map(str, scene.exits))
        lines.append(f"| {name} | {scene.statuses[200]} | {others or 0} | {scene.repeated} | {exits} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run both scenes and write the results."""
    parser = records.parser("replicas", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    if not shutil.which("nginx"):
        print("error: nginx is not installed", file=sys.stderr)
        return 1
    bundle = options.bundle.resolve()
    requests = facet_workloads(bundle)["mixed"]
    pinned: dict[str, list[Throughput]] = {"one": [], "two": []}
    for number in range(options.rounds):
        for name, cores in {"one": [0], "two": [0, 1]}.items():
            pinned[name].append(throughput(bundle, requests, cores, options.seconds, options.concurrency))
            print(f"round {number + 1}: {name}: {pinned[name][-1]}", flush=True)
    restarted, killed = disrupt(bundle, requests)
    scenes = {"a rolling restart of both": restarted, "SIGKILL of one": killed}
    machine = (
        f"{records.machine()}; nginx and the load generator share the cores; generate and edit in turn at concurrency "
        f"{options.concurrency}, {options.rounds} rounds of {options.seconds:g} s; load average at the end "
        f"{os.getloadavg()[1]:.0f}."
    )
    record = {
        "machine": machine,
        "pinned": {name: [vars(each) for each in found] for name, found in pinned.items()},
        "scenes": {name: vars(scene) for name, scene in scenes.items()},
    }
    records.write(options.out, "replicas", report(machine, pinned, scenes), record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
