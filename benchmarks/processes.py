"""Servers in processes of their own: started, waited for until they answer, stopped with all that they started."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

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
    """Whether that path is answered with 200."""
    try:
        with _DIRECT.open(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


@dataclass
class Instance:
    """A server, by default Facet, which is ready when `with` begins and has ended when `with` ends.

    What it writes to stderr is its `log`, which is passed on at the end.
    """

    environment: Mapping[str, str]  # all of it, but for FACET_PORT
    command: Sequence[str] = FACET
    port: int = field(default_factory=free_port)
    path: str = "/readyz"  # answered with 200 once it can work
    cores: Collection[int] | None = None  # the only ones that it may run on
    before: Callable[[], None] | None = None  # called in its process first
    seconds: float = 120.0  # until it must answer
    process: psutil.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    @property
    def cpu_seconds(self) -> float:
        """Of it and what it started and still runs."""
        return sum(sum(each.cpu_times()[:2]) for each in self._family())

    @property
    def memory_megabytes(self) -> float:
        """Resident, of it and what it started."""
        return sum(each.memory_info().rss for each in self._family()) / 1e6

    def ready(self) -> bool:
        return answers(self.port, self.path)

    def start(self) -> None:
        """Start it, again if it was stopped, and wait until it is ready. Raises RuntimeError with its last lines."""
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
                fate = f"{self.url}{self.path} was not answered with 200 within {self.seconds:g} s"
                if self.process.poll() is not None:
                    fate = f"ended with status {self.process.returncode} before it answered"
                lines = self.log.splitlines()[-_QUOTED_LINES:]
                raise RuntimeError("\n".join([f"{' '.join(self.command)}: {fate}; its last lines:", *lines]))
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after that signal, at once if it has ended. What does not end is killed."""
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
