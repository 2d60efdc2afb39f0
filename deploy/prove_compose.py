"""python deploy/prove_compose.py: bring docker-compose.yml up, without Grafana, ask its Prometheus, and bring it down.

Takes the image `facet:cpu` that prove_containers.py leaves with an engine. `--engine` starts that engine again, in a
network of its own, so that neither this machine's firewall nor its ports are touched; that needs root. `--bootstrap`
makes an image of Debian's Prometheus, where no registry of images is reached. Each check is a line; the first that
fails ends it with status 1.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from prove_containers import (
    DRAIN_SECONDS,
    ROOT,
    Docker,
    ProofError,
    answer_over_a_stop,
    ask,
    check,
    engine,
    generation,
    report,
    run,
    status_of,
    succeeds,
    wait,
)

FACET, PROMETHEUS = "http://127.0.0.1:8000", "http://127.0.0.1:9090"
SERVICES = ("facet", "prometheus")  # a Grafana cannot be made of Debian's archive
WORK_SECONDS = 100  # six scrapes, and every group of rules more than once
# Nothing fails in a service that is well.
_WITHOUT_DATA = {"Failed batches"}
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h


class Composition:
    """The compose program on docker-compose.yml; `images` are variables of that file."""

    def __init__(self, docker: Docker, program: list[str], images: dict[str, str]) -> None:
        files = ("docker-compose.yml", "deploy/compose.built.yml")
        self._program = [*program, *(f"--file={ROOT / name}" for name in files)]
        self._environment = docker.environment | {"COMPOSE_PROJECT_NAME": f"facet-proof-{os.getpid()}"} | images

    def __call__(self, *arguments: str) -> str:
        return run(*self._program, *arguments, env=self._environment)

    def begin(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen([*self._program, *arguments], env=self._environment, stderr=subprocess.DEVNULL)

    def container(self, service: str) -> str:
        """Its identifier."""
        return self("ps", "--quiet", service).strip()


def bootstrap_prometheus(docker: Docker, suite: str) -> str:
    """Make an image of Prometheus of Debian's `suite`, laid out as its makers' is, unless it is there."""
    name = f"facet-prometheus:{suite}"
    if not succeeds(lambda: docker.inspect(name)):
        with tempfile.TemporaryDirectory() as place:
            archive = f"{place}/prometheus.tar"
            home = 'mkdir "$1/prometheus" && chown 65534:65534 "$1/prometheus"'
            run("mmdebstrap", "--variant=minbase", "--include=prometheus", f"--customize-hook={home}", suite, archive)
            changes = ("USER 65534:65534", 'ENTRYPOINT ["prometheus"]', "VOLUME /prometheus")
            docker("import", *(f"--change={change}" for change in changes), archive, name)
    return name


def leave_the_network() -> None:
    """This process, and all that it starts from now on, in a new network that has nothing but itself."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network of its own")
    run("ip", "link", "set", "lo", "up")


def prove(docker: Docker, composition: Composition) -> None:
    begun = time.monotonic()
    try:
        composition("up", "--detach", "--no-build", *SERVICES)
        facet = composition.container("facet")
        wait(lambda: docker.health(facet) == "healthy", 120, "facet is up, and its health check says healthy", begun)
        wait(lambda: targets() == {"up"}, 60, "Prometheus finds facet by its name, and scrapes it", begun)
        for service in SERVICES:
            look_at_limits(docker, composition, service)
        look_at_rules()
        work()
        look_at_dashboard()
        look_at_alerts()
        come_down(docker, composition, facet)
    finally:
        composition("down", "--volumes")


def query(path: str, **parameters: str) -> Any:
    return json.loads(ask(PROMETHEUS, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))["data"]


def targets() -> set[str]:
    """The health of each."""
    try:
        return {target["health"] for target in query("targets")["activeTargets"]}
    except OSError:
        return set()


def look_at_limits(docker: Docker, composition: Composition, service: str) -> None:
    """What the kernel says of a container, not what was asked for."""
    identifier = composition.container(service)
    requested = docker.inspect(identifier)["HostConfig"]

    def read(*paths: str) -> str:
        """The first of some files that exists."""
        return docker("exec", identifier, "sh", "-c", " || ".join(f"cat {path} 2>/dev/null" for path in paths)).strip()

    status = dict(line.split(":\t", 1) for line in read("/proc/1/status").splitlines())
    check("0" not in status["Uid"].split(), f"{service} is not root", status["Uid"].split()[0])
    check(int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1", "has no capability and gets none")
    writes = "for d in / /etc /usr /tmp; do touch $d/x 2>/dev/null && echo $d; done; true"
    written = docker("exec", "--user", "0", identifier, "sh", "-c", writes).split()
    check(written == ["/tmp"], "writes nothing but /tmp, not as root either", written)
    memory = int(read("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    processes = int(read("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"))
    shown = f"{memory / (1 << 20):g} MiB, {processes}"
    check(
        (memory, processes) == (requested["Memory"], requested["PidsLimit"]), "may have no more memory and tasks", shown
    )


def look_at_rules() -> None:
    """Prometheus has loaded each rule of the file, and evaluates it."""
    text = (ROOT / "deploy" / "prometheus" / "facet.rules.yml").read_text(encoding="utf-8")
    written = sorted(re.findall(r"- (?:alert|record): (\S+)", text))

    def rules() -> list[dict[str, Any]]:
        return [rule for group in query("rules")["groups"] for rule in group["rules"]]

    wait(lambda: {rule["health"] for rule in rules()} == {"ok"}, 120, "Prometheus evaluates every rule")
    loaded = sorted(rule["name"] for rule in rules())
    check(bool(written) and loaded == written, "and has all that are written", f"{len(loaded)} rules")


def work() -> None:
    """Some of everything that the dashboard shows, for some scrapes."""
    deadline, done = time.monotonic() + WORK_SECONDS, 0
    face = ask(FACET, "/v1/generate", {"attributes": {}, "seed": 5})
    smile = "/v1/edit?" + urllib.parse.urlencode({"attributes": '{"Smiling": 1}'})
    while time.monotonic() < deadline:
        ask(FACET, "/v1/generate", {"attributes": {}, "seed": done, "count": 5})
        ask(FACET, smile, face)
        ask(FACET, "/v1/encode", face)
        if succeeds(lambda: ask(FACET, "/v1/encode", b"no picture")):
            raise ProofError("what is no picture was encoded")
        leave_early()
        done += 1
        time.sleep(0.5)
    report("it works", f"{done} times for {WORK_SECONDS} s")


def leave_early() -> None:
    """A client that goes away while its faces are drawn."""
    with socket.create_connection(("127.0.0.1", 8000), timeout=30) as client:
        client.sendall(generation(64))
        time.sleep(0.02)


def look_at_dashboard() -> None:
    """Each query of each panel, as Grafana sends it, has data."""
    board = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "facet.json").read_text(encoding="utf-8"))
    queries, empty = 0, []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            queries += 1
            if not query("query", query=expression)["result"]:
                empty.append(panel["title"])
    shown = f"{queries - len(empty)} of {queries} have data; none: {', '.join(empty) or '-'}"
    check(queries > 0 and set(empty) <= _WITHOUT_DATA, "the dashboard's queries are answered", shown)
    instances = query("label/instance/values", **{"match[]": "facet_build_info"})
    check(instances == ["facet:8000"], "and its choice of instances", instances)


def look_at_alerts() -> None:
    check(not query("alerts")["alerts"], "no alert is pending or fires")


def come_down(docker: Docker, composition: Composition, facet: str) -> None:
    """A request that is under way is answered, and the drain ends well within its time."""
    ended = docker.begin("wait", facet, stdout=subprocess.PIPE)
    begun = time.monotonic()
    answer = answer_over_a_stop(FACET, lambda: composition.begin("down", "--volumes"))
    seconds = time.monotonic() - begun
    check(answer.startswith(b"HTTP/1.1 200"), "a request that is under way at `down` is answered")
    status = ended.communicate(timeout=60)[0].strip()
    check(status == b"0" and seconds < DRAIN_SECONDS, "facet ends with status 0, and all is down", f"{seconds:.1f} s")
    check(not succeeds(lambda: docker.inspect(facet)), "and nothing is left")


def main() -> int:
    """A failed check is one line and status 1."""
    arguments = argparse.ArgumentParser(prog="python deploy/prove_compose.py", description=__doc__)
    arguments.add_argument("--client", default=shutil.which("docker"), help="the docker program")
    arguments.add_argument(
        "--compose", help="the compose program, such as docker-compose; default: the client's `compose`"
    )
    arguments.add_argument(
        "--bootstrap", metavar="SUITE", help="make Prometheus of this suite of Debian, such as trixie"
    )
    arguments.add_argument(
        "--engine", type=Path, metavar="DIRECTORY", help="start the engine that keeps its images here"
    )
    return status_of(proof, arguments.parse_args())


def proof(arguments: argparse.Namespace) -> None:
    program = [arguments.compose] if arguments.compose else [arguments.client, "compose"]

    def images(docker: Docker) -> dict[str, str]:
        return (
            {"FACET_PROMETHEUS_IMAGE": bootstrap_prometheus(docker, arguments.bootstrap)} if arguments.bootstrap else {}
        )

    if arguments.engine:
        directory = arguments.engine.resolve()
        with engine(arguments.client, directory) as docker:
            found = images(docker)
        leave_the_network()
        with engine(arguments.client, directory, bridges=True) as docker:
            prove(docker, Composition(docker, program, found))
    else:
        docker = Docker(arguments.client)
        prove(docker, Composition(docker, program, images(docker)))


if __name__ == "__main__":
    sys.exit(main())
