"""What goes wrong around the service: it is killed, the disk is full, its bundles cannot be written, clocks jump."""

from __future__ import annotations

import resource
import shutil
import socket
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import Instance, free_port
from tests.faults.conftest import BUNDLES, NAME, serving
from tests.service import fakes
from tests.service.fakes import PATIENCE

pytestmark = pytest.mark.slow
LARGE = fakes.encoded(fakes.Image.effect_noise((1300, 1300), 80), "PNG")  # forms above 1 MB go through a file
until = partial(fakes.until, seconds=6 * PATIENCE)  # a machine that is busy takes its time
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Load:
    """Clients that ask one request after the other, and what each got; an error ends its client."""

    def __init__(self, service: Instance, clients: int = 4) -> None:
        self.service, self.statuses, self.errors, self.stop = service, [], [], threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def _ask(self, number: int) -> None:
        with self.service.client as client:
            while not self.stop.is_set():
                try:
                    answer = client.post("/v1/generate", json={"seed": number, "count": 4})
                    answer.read()
                except httpx.HTTPError as exc:
                    self.errors.append(exc)
                    return
                self.statuses.append(answer.status_code)

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"


def test_killed_under_load_nobody_hangs_and_a_restart_serves():
    port = free_port()
    with serving(port) as service:
        load = Load(service)
        until(lambda: len(load.statuses) > 20)
        service.process.kill()
        for thread in load.threads:
            thread.join(PATIENCE)
        load.end()
    assert set(load.statuses) == {200}
    assert len(load.errors) == len(load.threads)
    assert all(isinstance(exc, httpx.TransportError) for exc in load.errors)
    with serving(port) as service, service.client as client:
        assert client.post("/v1/generate", json={"seed": 1}).status_code == 200


def small_files() -> None:
    """No file of this process may grow beyond 100 kB, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_refuses_large_forms_and_nothing_else():
    assert len(LARGE) > 1_000_000
    requested = {"data": {"attributes": '{"Smiling": 1}', "framed": "true"}}
    with serving(before=small_files) as service, service.client as client:
        refused = client.post("/v1/edit", files={"image": LARGE}, **requested)
        assert "room" in fakes.problem(refused, 503)["detail"]
        assert refused.headers["retry-after"]
        assert client.post("/v1/edit", files={"image": fakes.grey(90)}, **requested).status_code == 200
        whole = client.post("/v1/edit", params=requested["data"], content=LARGE, headers={"Content-Type": "image/png"})
        assert whole.status_code == 200
        assert client.get("/readyz").status_code == 200
        # What the failed ones began is gone.
        assert not [each.path for each in service.process.open_files() if "/tmp/tmp" in each.path]


def files(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(directory.rglob("*"))}


def test_bundles_are_never_written_and_a_damaged_one_changes_nothing(tmp_path: Path):
    bundles = tmp_path / "bundles"
    shutil.copytree(BUNDLES / NAME, bundles / NAME)
    directory = bundles / NAME
    for path in (*directory.iterdir(), directory, bundles):
        path.chmod(0o555 if path.is_dir() else 0o444)  # root may write all the same, so that is looked at below
    before = files(bundles)
    admin = {"Authorization": "Bearer secret"}
    with serving(bundles=bundles, FACET_ADMIN_TOKEN="secret") as service, service.client as client:
        face = client.post("/v1/generate", json={"seed": 3}).content
        assert client.post(f"/v1/models/{NAME}:reload", headers=admin).status_code == 200
        assert files(bundles) == before
        directory.chmod(0o755)
        for name in ("decoder.onnx", "manifest.json", "samples.png"):
            path = directory / name
            whole = path.read_bytes()
            for damaged in (whole[: len(whole) // 2], b"", bytes(len(whole))):
                path.chmod(0o644)
                path.write_bytes(damaged)
                refused = client.post(f"/v1/models/{NAME}:reload", headers=admin)
                assert name in fakes.problem(refused, 409)["detail"]
            path.write_bytes(whole)
        (directory / "encoder.onnx").rename(directory / "kept")
        (directory / "encoder.onnx").mkdir()
        assert client.post(f"/v1/models/{NAME}:reload", headers=admin).status_code == 409
        (directory / "encoder.onnx").rmdir()
        (directory / "kept").rename(directory / "encoder.onnx")
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/generate", json={"seed": 3}).content == face
        assert client.post(f"/v1/models/{NAME}:reload", headers=admin).status_code == 200


@pytest.mark.skipif(not FAKETIME.exists(), reason="needs libfaketime (Debian: faketime)")
def test_clocks_that_jump_change_nothing(tmp_path: Path):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # that clock never jumps
    }
    with serving(**faked, FACET_REQUEST_TIMEOUT="20", FACET_WATCH_SECONDS="0.2") as service:
        load = Load(service, clients=2)
        for jump in ("+400d", "-400d", "+20y", "+0"):
            done = len(load.statuses)
            moved = clock.with_suffix(".next")
            moved.write_text(jump)
            moved.replace(clock)
            until(lambda done=done: len(load.statuses) > done + 6)
        load.end()
        assert load.errors == []
        assert set(load.statuses) == {200}
        with service.client as client:
            text = client.get("/metrics").text
        waits = [line for line in text.splitlines() if line.startswith("facet_request_duration_seconds_sum")]
        assert all(0 <= float(line.rpartition(" ")[2]) < 10_000 for line in waits)
        assert "Traceback" not in service.log
        dates = {line.split('"time": "')[1][:4] for line in service.log.splitlines() if '"time"' in line}
        assert len(dates) > 1  # it did jump


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def idle_clients(service: Instance, stack: ExitStack, count: int) -> list[socket.socket]:
    """Connections with the beginning of a request."""
    clients = [socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE) for _ in range(count)]
    for client in map(stack.enter_context, clients):
        client.sendall(b"GET / HTTP/1.1\r\n")
    return clients


def rejected(url: str, reason: str) -> float:
    (line,) = (
        line for line in httpx.get(f"{url}/metrics").text.splitlines() if f'rejected_total{{reason="{reason}"}}' in line
    )
    return float(line.split()[-1])


def test_more_idle_clients_than_descriptors_are_outlasted():
    settings = {"FACET_CLIENT_TIMEOUT": "2", "FACET_MAX_CONNECTIONS": "99"}
    with serving(before=few_descriptors, **settings) as service, ExitStack() as idle:
        idle_clients(service, idle, 150)  # those that find no descriptor wait in the kernel's queue
        until(service.ready)
        with service.client as client:
            assert client.post("/v1/generate", json={"seed": 1}).status_code == 200
        assert rejected(service.url, "slow_client") > 50


def test_idle_clients_leave_descriptors_and_the_port_for_administration():
    port = free_port()
    settings = {"FACET_ADMIN_PORT": str(port), "FACET_MAX_CONNECTIONS": "50"}
    with serving(before=few_descriptors, **settings) as service, ExitStack() as idle:
        admin = f"http://127.0.0.1:{port}"
        first, *_ = idle_clients(service, idle, 80)
        until(lambda: httpx.get(f"{service.url}/readyz").status_code == 503)
        problem = fakes.problem(httpx.get(f"{service.url}/readyz"), 503)
        assert "too many connections" in problem["detail"]
        assert httpx.get(f"{admin}/readyz").status_code == 200
        assert rejected(admin, "connections_full") >= 30
        assert service.process.num_fds() < 80
        first.close()
        until(service.ready)
