"""Servers in processes of their own: waited for, told apart from those that die, and stopped with their children."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.processes import Instance, answers, facet, on_last_core
from tests.service.fakes import until

SERVES = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("child", child.pid, file=sys.stderr, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["FACET_PORT"])), Handler).serve_forever()
"""


def instance(code: str, **options) -> Instance:
    return Instance(os.environ, [sys.executable, "-c", code], path="/ready", **options)


@pytest.fixture(autouse=True)
def impatience(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.processes._STOP_SECONDS", 0.5)  # the child never ends by itself


@pytest.mark.slow
def test_one_that_answers_is_stopped_with_its_children(capsys):
    with instance(SERVES) as server:
        child = psutil.Process(int(server.log.split()[1]))
        assert answers(server.port, "/ready")
        assert not answers(server.port, "/other")
        assert server.memory_megabytes > child.memory_info().rss / 1e6
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert not answers(server.port, "/ready")
    assert server.stop() == -signal.SIGTERM
    assert capsys.readouterr().err == f"child {child.pid}\n"


@pytest.mark.slow
def test_one_that_was_stopped_starts_again_where_it_was():
    with instance(SERVES) as server:
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        assert not server.ready()
        server.start()
        assert server.ready()
        assert server.log.count("child") == 2


def test_one_that_dies_is_quoted():
    code = "import sys; print('no such bundle', file=sys.stderr); sys.exit(2)"
    with pytest.raises(RuntimeError, match=r"ended with status 2 .*\nno such bundle$"), instance(code):
        pass


@pytest.mark.slow
def test_one_that_does_not_answer_is_quoted_and_ended():
    code = "import signal, sys; print('waiting', file=sys.stderr, flush=True); signal.pause()"
    server = instance(code, seconds=1.0)
    with pytest.raises(RuntimeError, match=r"/ready did not return 200 within 1 s.*\nwaiting$"), server:
        pass
    assert server.process.returncode == -signal.SIGTERM


def test_facet_serves_the_bundle_and_keeps_the_settings_of_this_process(monkeypatch):
    for name in [name for name in os.environ if name.startswith("FACET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FACET_DEVICE", "cpu")
    monkeypatch.setenv("FACET_LOG_LEVEL", "debug")
    server = facet(Path("/bundles/mine"), [1], FACET_LATENT_CACHE_BYTES="7")
    assert server.command[1:] == ("-m", "service")
    assert server.cores == [1]
    settings = {name: value for name, value in server.environment.items() if name.startswith("FACET_")}
    assert settings == {
        "FACET_BUNDLES": "/bundles",
        "FACET_DEFAULT_MODEL": "mine",
        "FACET_DEVICE": "cpu",
        "FACET_LATENT_CACHE_BYTES": "7",
        "FACET_LOG_LEVEL": "warning",
        "FACET_SENSITIVE_ATTRIBUTES": "true",
    }


@pytest.mark.parametrize(("cores", "own", "others"), [({0, 1, 2}, {2}, [0, 1]), ({3}, {3}, None)])
def test_the_last_core_is_kept_for_this_process_meanwhile(monkeypatch, cores, own, others):
    pinned = [cores]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: pinned[-1])
    monkeypatch.setattr("os.sched_setaffinity", lambda _, chosen: pinned.append(set(chosen)))
    with on_last_core() as given:
        assert given == others
        assert pinned[-1] == own
    assert pinned[-1] == cores
