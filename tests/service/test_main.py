"""A mistake in settings, bundles or installation is one line on stderr and status 2, without a traceback."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from benchmarks.processes import FACET, ROOT, Instance, free_port
from service import __main__ as command
from service.request import RequestContext
from service.server import connection, middleware
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import PATIENCE


@pytest.fixture(autouse=True)
def _usual_collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def serve(path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m service` in its own process; `path` comes before installed packages."""
    environment = fakes.environment(**variables)
    if path:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        FACET,
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def one_line(text: str) -> str:
    """The only line of `text`, which is an error and no traceback."""
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line


@pytest.mark.slow
def test_a_wrong_setting_ends_the_process_with_status_2():
    done = serve(FACET_PORT="http")
    assert done.returncode == 2
    assert "FACET_PORT='http'" in one_line(done.stderr)
    assert done.stdout == ""


@pytest.mark.slow
def test_without_onnxruntime_both_extras_are_named(tmp_path: Path, bundle_directory: Path):
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "onnxruntime.py").write_text("raise ImportError('not installed')\n")
    done = serve(stub, FACET_BUNDLES=str(bundle_directory.parent), FACET_DEFAULT_MODEL="tiny")
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert ".[cpu]" in line
    assert ".[gpu]" in line


@pytest.mark.slow
def test_a_refused_bundle_ends_the_process_with_status_2(bundle_directory: Path):
    (bundle_directory / "decoder.onnx").write_bytes(b"not really a DECODER")
    done = serve(FACET_BUNDLES=str(bundle_directory.parent), FACET_DEFAULT_MODEL="tiny")
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert "decoder.onnx" in line
    assert "sha256" in line


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("FACET_PORT", "70000"),
        ("FACET_DEVICE", "tpu"),
        ("FACET_MAX_BATCH", "-1"),
        ("FACET_LOG_LEVEL", "loud"),
        ("FACET_REQUEST_TIMEOUT", "soon"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name_and_value(monkeypatch, capsys, variable: str, text: str):
    monkeypatch.setenv(variable, text)
    assert command.main() == 2
    assert f"{variable}={text!r}: " in one_line(capsys.readouterr().err)


def test_each_wrong_setting_has_a_line(monkeypatch, capsys):
    monkeypatch.setenv("FACET_PORT", "70000")
    monkeypatch.setenv("FACET_WORKERS", "-1")
    assert command.main() == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("=")[0] for line in lines] == ["error: FACET_PORT", "error: FACET_WORKERS"]


@pytest.fixture
def installed(monkeypatch) -> None:
    """As if onnxruntime were there, whether it is or not."""
    monkeypatch.setattr(command.backends, "require", lambda settings: None)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda d: (d / "encoder.onnx").unlink(), ["encoder.onnx", "missing"]),
        (lambda d: (d / "manifest.json").write_text("{"), ["manifest.json", "JSON"]),
        (lambda d: (d / "manifest.json").unlink(), ["FACET_BUNDLES"]),
        (lambda d: fakes.rewrite_manifest(d, lambda m: m.update(schema_version=99)), ["manifest.json", "newer"]),
        (lambda d: d.rename(d.parent / "renamed"), ["renamed", "'tiny'"]),
    ],
)
def test_a_refused_bundle_is_one_line_with_the_file_and_the_rule(
    monkeypatch, capsys, bundle_directory: Path, break_it, words: list[str]
):
    monkeypatch.setenv("FACET_BUNDLES", str(bundle_directory.parent))
    monkeypatch.setenv("FACET_DEFAULT_MODEL", "tiny")
    break_it(bundle_directory)
    assert command.main() == 2
    line = one_line(capsys.readouterr().err)
    for word in words:
        assert word in line


def test_a_graph_that_onnxruntime_cannot_load_is_one_line(monkeypatch, capsys, bundle_directory: Path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("FACET_BUNDLES", str(bundle_directory.parent))
    monkeypatch.setenv("FACET_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("FACET_DEVICE", "cpu")
    assert command.main() == 2
    assert "encoder.onnx" in one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("installed")
def test_traces_without_their_packages_are_one_line(monkeypatch, capsys):
    monkeypatch.setenv("FACET_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert command.main() == 2
    assert ".[cpu,otel]" in one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("installed")
def test_a_file_of_keys_that_cannot_be_used_is_one_line(monkeypatch, capsys, tmp_path: Path):
    path = tmp_path / "keys.json"
    path.write_text('{"keys": [{"name": "a", "sha256": "facet_a-token", "scopes": ["use"]}]}')
    monkeypatch.setenv("FACET_KEYS_FILE", str(path))
    assert command.main() == 2
    line = one_line(capsys.readouterr().err)
    assert str(path) in line
    assert "keys.0.sha256" in line
    assert "facet_a-token" not in line


def served_at_once(calls: list[SimpleNamespace]):
    """In place of the server's `serve`: it notes the models that are loaded by then and where it would listen."""

    async def serve(server: command.MainServer, sockets: list[socket.socket] | None = None) -> None:
        server.started = True
        models = server.config.app.state.service.models.all()
        calls.append(SimpleNamespace(models=models, host=server.config.host, port=server.config.port, sockets=sockets))

    return serve


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_an_open_service_on_other_addresses_says_so(
    monkeypatch, bundle_directory: Path, caplog, host: str, warned: bool
):
    monkeypatch.setenv("FACET_BUNDLES", str(bundle_directory.parent))
    monkeypatch.setenv("FACET_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("FACET_HOST", host)
    monkeypatch.setattr(command, "create_app", fakes.application)
    monkeypatch.setattr(command.MainServer, "serve", served_at_once([]))
    assert command.main() == 0
    assert ("whoever reaches this port may use it" in caplog.text) is warned


@pytest.mark.usefixtures("installed")
def test_when_all_is_well_the_models_are_loaded_before_the_server_starts(monkeypatch, bundle_directory: Path):
    served = []
    monkeypatch.setenv("FACET_BUNDLES", str(bundle_directory.parent))
    monkeypatch.setenv("FACET_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("FACET_PORT", "8123")
    monkeypatch.setattr(command, "create_app", fakes.application)
    monkeypatch.setattr(command.MainServer, "serve", served_at_once(served))
    assert command.main() == 0
    (call,) = served
    assert [model.identity for model in call.models] == ["tiny@1.2.3"]
    assert (call.host, call.port) == ("127.0.0.1", 8123)
    assert gc.get_threshold()[0] == command._NEW_OBJECTS


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collector_off")
def test_requests_and_connections_leave_no_reference_cycles(monkeypatch, settings: Settings):
    """The garbage collector runs rarely, so the uploads that cycles hold would fill the memory."""
    contexts, connections, created = weakref.WeakSet(), weakref.WeakSet(), []

    def context(*arguments: Any) -> RequestContext:
        contexts.add(made := RequestContext(*arguments))
        created.append("request")
        return made

    def limited(*arguments: Any, **options: Any) -> connection.LimitedProtocol:
        connections.add(made := make(*arguments, **options))
        created.append("connection")
        return made

    make = connection.limited(PATIENCE, 100, lambda _: None)
    monkeypatch.setattr(middleware, "RequestContext", context)
    picture = fakes.grey(100)
    with fakes.listening(fakes.application(settings), http=limited) as address:
        with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE) as client:

            def edit(content: bytes, kind: str = "image/png") -> int:
                path, headers = '/v1/edit?attributes={"Smiling": 1}', {"Content-Type": kind}
                return client.post(path, content=content, headers=headers).status_code

            assert client.post("/v1/generate", json={}).status_code == 200
            assert [edit(picture), edit(picture[:100]), edit(picture, "text/plain")] == [200, 400, 415]
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(b"POST /v1/edit HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nx")
            fakes.until(lambda: created.count("request") == 5)
        fakes.until(lambda: not contexts and not connections)
    assert created.count("connection") == 2


@pytest.mark.slow
def test_a_stop_while_models_load_is_a_clean_exit(tmp_path: Path, bundle_directory: Path):
    pytest.importorskip("onnxruntime")
    manifest = bundle_directory / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    variables = {
        "FACET_BUNDLES": str(bundle_directory.parent),
        "FACET_DEFAULT_MODEL": "tiny",
        "FACET_WEIGHTS": str(tmp_path / "none"),
    }
    process = subprocess.Popen(FACET, cwd=ROOT, env=os.environ | variables)
    try:
        writer = open_when_read(manifest, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        os.close(writer)
    finally:
        process.kill()


def open_when_read(pipe: Path, process: subprocess.Popen) -> int:
    """Wait until the process reads the named pipe, and keep it waiting there for what will never be written."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nobody reads {pipe}; exit status {process.poll()}")


@pytest.mark.slow
def test_administration_has_a_port_of_its_own_and_sigterm_ends_both():
    """The command itself, with the bundle of the repository."""
    pytest.importorskip("onnxruntime")
    admin = free_port()
    environment = fakes.environment(FACET_ADMIN_PORT=str(admin), FACET_MAX_BATCH="1")
    with Instance(environment) as service, httpx.Client(timeout=fakes.PATIENCE) as client:
        ports = (service.port, admin)
        assert [client.get(f"http://127.0.0.1:{port}/metrics").status_code for port in ports] == [404, 200]
        ready = f"http://127.0.0.1:{admin}/readyz"
        assert client.get(ready).status_code == 200
        # While it drains the other port says so, and what has begun is answered.
        with socket.create_connection(("127.0.0.1", service.port), timeout=fakes.PATIENCE) as begun:
            begun.sendall(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            begun.sendall(b"Content-Length: 11\r\n\r\n")
            fakes.until(lambda: "facet_requests_in_flight 2.0" in client.get(f"http://127.0.0.1:{admin}/metrics").text)
            service.process.send_signal(signal.SIGTERM)
            fakes.until(lambda: client.get(ready).status_code == 503)
            begun.sendall(b'{"seed": 1}')
            assert begun.recv(15) == b"HTTP/1.1 200 OK"
        assert service.stop() == 0
