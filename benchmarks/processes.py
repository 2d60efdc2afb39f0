"""Servers in processes of their own: started, waited for until they are ready, stopped with all their children.

Benchmarks and tests start every server with it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

ROOT = Path(__file__).parents[1]
FACET = (sys.executable, "-m", "service")
_STOP_SECONDS = 20.0
_QUOTED_LINES = 20
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # by no proxy of the environment


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int, path: str) -> bool:
    """Whether a GET of that path returns 200."""
    try:
        with _DIRECT.open(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@dataclass
class Instance:
    """A server, by default Facet, which is ready when `with` begins and has ended when `with` ends.

    Its stderr is its `log`, which is copied to this process's stderr at the end.
    """

    environment: Mapping[str, str]  # the whole environment; FACET_PORT is added
    command: Sequence[str] = FACET
    port: int = field(default_factory=free_port)
    path: str = "/readyz"  # returns 200 once the server is ready
    cores: Collection[int] | None = None  # CPU affinity; None for all
    before: Callable[[], None] | None = None  # called in the new process before the command
    seconds: float = 120.0  # timeout of the start
    process: psutil.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> httpx.Client:
        """A new client of this server."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the server and its living children, user and system."""
        return sum(sum(each.cpu_times()[:2]) for each in self._family())

    @property
    def memory_megabytes(self) -> float:
        """Resident memory of the server and its children."""
        return sum(each.memory_info().rss for each in self._family()) / 1e6

    def ready(self) -> bool:
        return answers(self.port, self.path)

    def start(self) -> None:
        """Start the server, or start it again on the same port, and wait until it is ready.

        Raises RuntimeError with the last lines of its log if it ends or is not ready in time.
        """
        pin = [] if self.cores is None else ["taskset", "--cpu-list", ",".join(map(str, self.cores))]
        self.process = psutil.Popen(
            [*pin, *self.command],
            cwd=ROOT,
            env={**self.environment, "FACET_PORT": str(self.port)},
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            preexec_fn=self.before,
        )
        deadline = time.monotonic() + self.seconds
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                reason = f"{self.url}{self.path} did not return 200 within {self.seconds:g} s"
                if self.process.poll() is not None:
                    reason = f"ended with status {self.process.returncode} before it was ready"
                lines = self.log.splitlines()[-_QUOTED_LINES:]
                raise RuntimeError("\n".join([f"{' '.join(self.command)}: {reason}; its last lines:", *lines]))
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send that signal, wait, and return the exit status. Processes that do not end are killed."""
        if self.process.poll() is None:
            family = self._family()
            self.process.send_signal(number)
            for each in psutil.wait_procs(family, timeout=_STOP_SECONDS)[1]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        return int(self.process.wait())

    def _family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._log = stack.enter_context(tempfile.NamedTemporaryFile(prefix="facet-log-"))
            stack.callback(lambda: sys.stderr.write(self.log))
            stack.callback(lambda: self.process and self.stop())
            self.start()
            self._ending = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()


def facet(bundle: Path, cores: Collection[int] | None = None, **variables: str) -> Instance:
    """Facet with `bundle` as its default model, to be used in a `with`.

    It inherits this process's environment, then gets `variables`. It caches no latents and edits sensitive attributes
    too, as the peers that it is compared with.
    """
    defaults = {
        "FACET_BUNDLES": str(bundle.parent),
        "FACET_DEFAULT_MODEL": bundle.name,
        "FACET_LOG_LEVEL": "warning",
        "FACET_LATENT_CACHE_BYTES": "0",
        "FACET_SENSITIVE_ATTRIBUTES": "true",
    }
    return Instance(os.environ | defaults | variables, cores=cores)


@contextmanager
def on_last_core() -> Iterator[list[int] | None]:
    """Pin this process to the last core meanwhile; yields the others, for a server, or None where there is only one."""
    before = sorted(os.sched_getaffinity(0))
    if len(before) < 2:
        yield None
        return
    os.sched_setaffinity(0, before[-1:])
    try:
        yield before[:-1]
    finally:
        os.sched_setaffinity(0, before)
