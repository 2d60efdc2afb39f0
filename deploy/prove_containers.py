"""python deploy/prove_containers.py: build an image, look inside, run it as it should be run, use it and stop it.

Needs root or a Docker engine, and the client with BuildKit. `--engine` starts an engine of its own, without bridges and
firewall rules, and `--bootstrap` makes the base image from Debian's archive with mmdebstrap, so that it runs inside
another container and where no registry of images is reached. Each check is a line; the first that fails ends it with
status 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTAINER = f"facet-proof-{os.getpid()}"
DRAIN_SECONDS = 45  # as docker-compose.yml grants
_HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
_LOOK = """
import importlib.util, json, os, shutil
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "compilers": [name for name in ("gcc", "cc", "g++", "clang", "ld", "make", "nvcc") if shutil.which(name)],
    "torch": importlib.util.find_spec("torch") is not None,
    "weights": sorted(os.listdir("weights")),
    "bundles": sorted(os.listdir("bundles")),
    "writable": [path for path in ("/", "/srv", "/opt", "/opt/facet", "/etc") if os.access(path, os.W_OK)],
}))
"""


class ProofError(Exception):
    """A check that failed; the message says what was found."""


def check(holds: bool, what: str, found: Any = "") -> None:
    if not holds:
        raise ProofError(f"{what}: {found}")
    report(what, found)


def report(what: str, found: Any = "") -> None:
    print(f"ok: {what}{f' ({found})' if found != '' else ''}", flush=True)


def run(*command: str, timeout: float = 3600, **options: Any) -> str:
    """The standard output of a command. Raises ProofError with its last words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    if done.returncode:
        raise ProofError(
            f"{shlex.join(command[:3])} ...: status {done.returncode}: {(done.stdout + done.stderr)[-3000:]}"
        )
    return done.stdout


class Docker:
    """The client, and the engine that it asks."""

    def __init__(self, client: str, host: str | None = None) -> None:
        self._client = client
        self.environment = os.environ | {"DOCKER_BUILDKIT": "1"} | ({"DOCKER_HOST": host} if host else {})

    def __call__(self, *arguments: str, **options: Any) -> str:
        return run(self._client, *arguments, env=self.environment, **options)

    def begin(self, *arguments: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen:
        """A command that goes on by itself."""
        return subprocess.Popen([self._client, *arguments], env=self.environment, stdout=stdout)

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self("inspect", name))[0]

    def health(self, name: str) -> str:
        """What the image's health check says of a container."""
        return self.inspect(name)["State"]["Health"]["Status"]

    def logs(self, name: str) -> str:
        """What a container has said, on either stream."""
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.run([self._client, "logs", name], env=self.environment, **both).stdout


@contextmanager
def engine(client: str, directory: Path, bridges: bool = False) -> Iterator[Docker]:
    """An engine of our own; its images stay in `directory`. With `bridges` it changes the firewall of its network."""
    directory.mkdir(parents=True, exist_ok=True)
    host = f"unix://{directory}/docker.sock"
    options = [f"--{name}={directory / name}" for name in ("data-root", "exec-root", "pidfile")]
    if not bridges:
        options += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(["dockerd", *options, f"--host={host}"], stdout=log, stderr=log)
    try:
        docker = Docker(client, host)
        wait(lambda: succeeds(lambda: docker("version")), 60, f"the engine answers; its log is {directory / 'log'}")
        yield docker
    finally:
        process.terminate()
        process.wait(timeout=60)
        # It leaves this behind, and then the directory cannot be removed.
        subprocess.run(["umount", str(directory / "exec-root" / "netns" / "default")], stderr=subprocess.DEVNULL)


def bootstrap(docker: Docker, suite: str) -> str:
    """Make a base image of Debian's `suite` with Python and venv, unless it is there."""
    name = f"facet-base:{suite}"
    if not succeeds(lambda: docker.inspect(name)):
        with tempfile.TemporaryDirectory() as place:
            archive = f"{place}/base.tar"
            run("mmdebstrap", "--variant=minbase", "--include=python3,python3-venv", suite, archive)
            docker("import", archive, name)
    return name


def build(docker: Docker, base: str, target: str, tag: str) -> float:
    """Build a target with this machine's pip configuration as secrets; seconds that it took."""
    revision = run("git", "rev-parse", "HEAD", cwd=ROOT).strip()
    with tempfile.TemporaryDirectory() as place:
        arguments = [
            f"PYTHON_IMAGE={base}",
            f"REVISION={revision}",
            f"CREATED={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}",
        ]
        options = [part for argument in arguments for part in ("--build-arg", argument)]
        for name, path in pip_secrets(Path(place)).items():
            options += ["--secret", f"id={name},src={path}"]
        begun = time.monotonic()
        docker("build", "--network", "host", *options, "--target", target, "--tag", tag, str(ROOT))
        return time.monotonic() - begun


def pip_secrets(place: Path) -> dict[str, Path]:
    """Files with what pip needs on this machine: its index, unless that is a directory here, and its authorities."""
    listed = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    known = {line.partition("=")[0].rpartition(".")[2]: line.partition("=")[2].strip("'\"") for line in listed}
    lines, secrets = ["[global]"], {}
    for name in ("index-url", "extra-index-url"):
        if "://" in known.get(name, "") and "file:" not in known[name]:
            lines.append(f"{name} = {known[name]}")
    if authorities := known.get("cert"):
        lines.append("cert = /run/secrets/ca.pem")
        secrets["ca.pem"] = Path(authorities)
    secrets["pip.conf"] = place / "pip.conf"
    secrets["pip.conf"].write_text("\n".join(lines) + "\n")
    return secrets


def look_inside(docker: Docker, tag: str, base: str) -> None:
    """What the image is made of, and what it says of itself."""
    image = docker.inspect(tag)
    size, below = image["Size"], docker.inspect(base)["Size"]
    report("size", f"{size / 1e6:.0f} MB, of which the base {below / 1e6:.0f} MB")
    labels = {name.rpartition(".")[2]: value for name, value in (image["Config"]["Labels"] or {}).items()}
    wanted = {"title", "description", "licenses", "version", "revision", "created"}
    check(wanted <= {name for name, value in labels.items() if value}, "labels", labels)
    check(image["Config"]["Entrypoint"][0] == "python", "the service is process 1, without a shell")
    seen = json.loads(
        docker("run", "--rm", "--network", "none", *_HARDENED, "--entrypoint", "python", tag, "-c", _LOOK)
    )
    check(0 not in seen["user"], "not root", seen["user"])
    check(not seen["compilers"], "no compiler", seen["compilers"] or "")
    check(not seen["torch"], "no torch")
    check(not seen["writable"], "nothing but /tmp can be written", seen["writable"] or "")
    check(seen["weights"] == ["onet.onnx", "retinaface.onnx"], "the face finder's weights", seen["weights"])
    check("celeba128" in seen["bundles"], "the default bundle", seen["bundles"])


@contextmanager
def container(docker: Docker, tag: str, port: int, *options: str) -> Iterator[str]:
    """The service in a container that may do nothing it needs not."""
    arguments = ["--network", "host", "--memory", "2g", "--pids-limit", "256", *_HARDENED, *options]
    docker("run", "--detach", "--name", CONTAINER, "--env", f"FACET_PORT={port}", *arguments, tag)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        docker("rm", "--force", CONTAINER)


def use(docker: Docker, tag: str, port: int) -> None:
    """Start, get ready, generate, edit, become healthy, finish what is under way, and stop."""
    begun = time.monotonic()
    with container(docker, tag, port) as url:
        wait(lambda: succeeds(lambda: ask(url, "/readyz")), 120, "/readyz answers 200", begun)
        face = ask(url, "/v1/generate", {"attributes": {"Smiling": -1}, "seed": 5})
        edited = ask(url, "/v1/edit?" + urllib.parse.urlencode({"attributes": '{"Smiling": 1}'}), face)
        check(face[:8] == edited[:8] == b"\x89PNG\r\n\x1a\n" and face != edited, "a face is generated, and edited")
        found = json.loads(ask(url, "/v1/encode", edited))
        check(len(found["faces"]) == 1, "and found again")
        log = docker.logs(CONTAINER)
        check("cannot be found in photographs" not in log, "faces are found in photographs")
        wait(lambda: docker.health(CONTAINER) == "healthy", 60, "the health check says healthy", begun)
        check("Traceback" not in log, "the log has no traceback")
        stop_under_load(docker, url)
    with container(docker, tag, port, "--cpus", "1"):
        wait(lambda: "loaded celeba128" in docker.logs(CONTAINER), 120, "a start is under way")
        check("with 1 workers" in docker.logs(CONTAINER), "a limit of one core makes one worker")
        stop(docker, "a stop while it starts")


def stop_under_load(docker: Docker, url: str) -> None:
    """A request that is under way when the stop comes is answered."""
    begun = time.monotonic()
    answer = answer_over_a_stop(url, lambda: docker.begin("stop", "--time", str(DRAIN_SECONDS), CONTAINER))
    check(answer.startswith(b"HTTP/1.1 200"), "a request that is under way at the stop is answered")
    state = docker.inspect(CONTAINER)["State"]
    check(
        state["ExitCode"] == 0 and not state["OOMKilled"],
        "the drain ends with status 0",
        f"{time.monotonic() - begun:.1f} s",
    )


def generation(count: int) -> bytes:
    """A request for so many faces, as it goes over the wire."""
    body = json.dumps({"attributes": {}, "count": count}).encode()
    lines = ["POST /v1/generate HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def answer_over_a_stop(url: str, stop: Callable[[], subprocess.Popen]) -> bytes:
    """What a client gets that sends the end of its request a second after `stop` began; returns when that has ended."""
    address, whole = urllib.parse.urlsplit(url), generation(64)
    with socket.create_connection((address.hostname, address.port), timeout=60) as late:
        late.sendall(whole[:-1])
        time.sleep(0.2)  # so that the server has the head, and waits for the rest
        stopping = stop()
        time.sleep(1.0)
        late.sendall(whole[-1:])
        answer = io.BytesIO()
        while part := late.recv(65536):
            answer.write(part)
    stopping.wait(timeout=DRAIN_SECONDS + 30)
    return answer.getvalue()


def stop(docker: Docker, what: str) -> None:
    begun = time.monotonic()
    docker("stop", "--time", str(DRAIN_SECONDS), CONTAINER)
    state = docker.inspect(CONTAINER)["State"]
    check(state["ExitCode"] == 0, f"{what} ends with status 0", f"{time.monotonic() - begun:.1f} s")


def without_gpu(docker: Docker, tag: str, port: int) -> None:
    """The CUDA image refuses to start without a GPU, in one line, and serves from the CPU if that is asked for."""
    done = docker("run", "--detach", "--name", CONTAINER, "--network", "host", *_HARDENED, tag)
    try:
        status = docker("wait", done.strip(), timeout=120).strip()
        errors = [line for line in docker.logs(CONTAINER).splitlines() if line.startswith("error: ")]
        check(status == "2" and len(errors) == 1, "without a GPU it does not start", errors or docker.logs(CONTAINER))
    finally:
        docker("rm", "--force", CONTAINER)
    with container(docker, tag, port, "--env", "FACET_DEVICE=cpu") as url:
        wait(lambda: succeeds(lambda: ask(url, "/readyz")), 120, "with FACET_DEVICE=cpu it answers")
        check(bool(ask(url, "/v1/generate", {"attributes": {}})), "and generates")
        stop(docker, "a stop")


def ask(url: str, path: str, body: bytes | dict[str, Any] | None = None) -> bytes:
    """The answer to a picture or to JSON, or without a body. Raises urllib.error.URLError for a status from 400 on."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": "application/json" if isinstance(body, dict) else "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=30) as answer:
        return answer.read()


def succeeds(action: Callable[[], Any]) -> bool:
    try:
        action()
    except (OSError, ProofError, urllib.error.URLError):
        return False
    return True


def wait(condition: Callable[[], bool], seconds: float, what: str, begun: float | None = None) -> None:
    """Until `condition` holds. Raises ProofError after so many seconds."""
    begun = time.monotonic() if begun is None else begun
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ProofError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
    report(what, f"after {time.monotonic() - begun:.1f} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prove(docker: Docker, base: str, target: str) -> None:
    """Everything about one target."""
    tag = f"facet:{target}"
    seconds = build(docker, base, target, tag)
    report(f"the target {target} is built", f"{seconds:.0f} s")
    look_inside(docker, tag, base)
    if target == "cpu":
        use(docker, tag, free_port())
    else:
        without_gpu(docker, tag, free_port())


def main() -> int:
    """A failed check is one line and status 1."""
    arguments = argparse.ArgumentParser(prog="python deploy/prove_containers.py", description=__doc__)
    arguments.add_argument("--target", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--client", default=shutil.which("docker"), help="the docker program; it needs BuildKit")
    base = arguments.add_mutually_exclusive_group()
    base.add_argument("--base", default="python:3.11-slim-bookworm", help="the image to build on")
    base.add_argument("--bootstrap", metavar="SUITE", help="make the base of this suite of Debian, such as bookworm")
    arguments.add_argument(
        "--engine", type=Path, metavar="DIRECTORY", help="start an engine that keeps its images here"
    )
    return status_of(proof, arguments.parse_args())


def proof(arguments: argparse.Namespace) -> None:
    if arguments.engine:
        with engine(arguments.client, arguments.engine.resolve()) as docker:
            prove(
                docker,
                bootstrap(docker, arguments.bootstrap) if arguments.bootstrap else arguments.base,
                arguments.target,
            )
    else:
        docker = Docker(arguments.client)
        prove(
            docker, bootstrap(docker, arguments.bootstrap) if arguments.bootstrap else arguments.base, arguments.target
        )


def status_of(proof: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Run a proof with the arguments `client` and `engine`, and others of its own: 0, or 1 and a line that says why."""
    if not arguments.client or (arguments.engine and not shutil.which("dockerd")):
        print("error: docker and, for --engine, dockerd must be installed", file=sys.stderr)
        return 1
    try:
        proof(arguments)
    except (ProofError, OSError, subprocess.TimeoutExpired) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
