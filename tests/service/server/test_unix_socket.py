"""A Unix socket: its mode, what is left of a server that has gone, and the command that listens there."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import FACET, ROOT, Instance
from facet import AsyncClient, Client, ConnectError, Retries
from facet.results import Model
from service.healthcheck import UnixConnection
from service.server import unix_socket
from service.server.unix_socket import SocketError
from service.settings import Settings
from tests.service import fakes


def abandoned(path: Path) -> None:
    """The socket file of a server that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
        gone.bind(str(path))


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_file_has_the_mode_and_goes_with_the_server(tmp_path: Path, mode: int):
    path = tmp_path / "facet.sock"
    mask = os.umask(0o022)
    try:
        with unix_socket.bound(path, mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
    assert not path.exists()


def test_what_a_killed_server_left_is_replaced(tmp_path: Path):
    path = tmp_path / "facet.sock"
    abandoned(path)
    with unix_socket.bound(path, 0o600) as listener:
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))


def test_a_socket_in_use_is_left_alone(tmp_path: Path):
    path = tmp_path / "facet.sock"
    with unix_socket.bound(path, 0o600) as listener:
        listener.listen()
        with pytest.raises(SocketError, match="another process listens there"), unix_socket.bound(path, 0o600):
            pass
        assert path.exists()


def test_a_socket_whose_server_accepts_nothing_any_more_is_in_use(tmp_path: Path):
    path = tmp_path / "facet.sock"
    with ExitStack() as stack:
        stack.enter_context(unix_socket.bound(path, 0o600)).listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        waiting.connect(str(path))  # which fills the queue: another connection would block
        with pytest.raises(SocketError, match="another process listens there"), unix_socket.bound(path, 0o600):
            pass


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, kind: str):
    path, other = tmp_path / "facet.sock", tmp_path / "other"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        abandoned(other)
        path.symlink_to(other)
    with pytest.raises(SocketError, match="is not a socket"), unix_socket.bound(path, 0o600):
        pass
    assert os.path.lexists(path)


@pytest.mark.parametrize("name", ["none/facet.sock", "x" * 200])
def test_a_path_that_cannot_be_is_named(tmp_path: Path, name: str):
    with pytest.raises(SocketError, match=name[:20]), unix_socket.bound(tmp_path / name, 0o600):
        pass


def test_the_file_of_a_successor_is_not_removed(tmp_path: Path):
    path = tmp_path / "facet.sock"
    with unix_socket.bound(path, 0o600):
        path.unlink()
        path.with_suffix(".other").touch()  # so that the number of the removed file is not taken again
        abandoned(path)
    assert path.exists()


@pytest.mark.parametrize("url", ["unix:{}", "unix://{}"])
def test_both_clients_call_through_it(settings: Settings, tmp_path: Path, url: str):
    path = tmp_path / "facet.sock"
    with fakes.listening(fakes.application(settings), uds=str(path)):
        with Client(url.format(path)) as facet:
            assert facet.models()[0].name == "tiny"
        assert asyncio.run(_awaited_models(url.format(path)))[0].name == "tiny"


async def _awaited_models(url: str) -> tuple[Model, ...]:
    async with AsyncClient(url) as facet:
        return await facet.models()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore leaves the socket open
def test_errors_of_a_client_name_the_socket(tmp_path: Path):
    path = tmp_path / "none.sock"
    with Client(f"unix:{path}", retries=Retries(tries=1)) as facet, pytest.raises(ConnectError, match=f"unix:{path}: "):
        facet.models()
    gc.collect()  # here, not in another test


@pytest.mark.parametrize("url", ["unix:", "unix:relative.sock", "unix:///"])
def test_an_address_without_an_absolute_path_is_refused(url: str):
    with pytest.raises(ValueError, match=url):
        Client(url)


@dataclass
class UnixInstance(Instance):
    """A server that listens on the Unix socket of its environment."""

    @property
    def client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self.environment["FACET_UDS"])
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=60)

    def ready(self) -> bool:
        with closing(UnixConnection(self.environment["FACET_UDS"], timeout=fakes.PATIENCE)) as connection:
            try:
                connection.request("GET", self.path)
                return connection.getresponse().status == 200
            except OSError:
                return False


def healthcheck(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", str(ROOT / "service" / "healthcheck.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_the_command_serves_checks_and_drains_there(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "facet.sock"
    abandoned(path)
    environment = fakes.environment(FACET_UDS=str(path), FACET_UDS_MODE="600", FACET_MAX_BATCH="1")
    with UnixInstance(environment) as service:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert healthcheck(environment).returncode == 0
        with Client(f"unix:{path}") as facet:
            assert facet.generate(seed=1)[0].data
        second = subprocess.run(FACET, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        assert second.returncode == 2
        assert second.stderr.splitlines()[-1] == f"error: FACET_UDS={path}: another process listens there"
        # What has begun is answered, and nothing else any more.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as begun:
            begun.settimeout(fakes.PATIENCE)
            begun.connect(str(path))
            begun.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            begun.sendall(b"Content-Length: 11\r\n\r\n")
            with service.client as client:
                fakes.until(lambda: "facet_requests_in_flight 2.0" in client.get("/metrics").text)
            service.process.send_signal(signal.SIGTERM)
            fakes.until(lambda: not service.ready())
            begun.sendall(b'{"seed": 1}')
            assert begun.recv(15) == b"HTTP/1.1 200 OK"
        assert service.stop() == 0
    assert not path.exists()
    failed = healthcheck(environment)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
