"""The health check's command, at a port or a Unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import healthcheck
from service.settings import Settings
from tests.service import fakes


def test_a_healthy_service_at_a_port(monkeypatch: pytest.MonkeyPatch, settings: Settings):
    with fakes.listening(fakes.application(settings)) as address:
        monkeypatch.setenv("FACET_PORT", address.split(":")[1])
        assert healthcheck.main() == 0


def test_the_administration_port_comes_first(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path):
    with fakes.listening(fakes.application(settings)) as address:
        monkeypatch.setenv("FACET_ADMIN_PORT", address.split(":")[1])
        monkeypatch.setenv("FACET_PORT", "9")
        monkeypatch.setenv("FACET_UDS", str(tmp_path / "none.sock"))
        assert healthcheck.main() == 0


def test_a_healthy_service_at_a_unix_socket(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path):
    path = tmp_path / "facet.sock"
    monkeypatch.setenv("FACET_UDS", str(path))
    with fakes.listening(fakes.application(settings), uds=str(path)):
        assert healthcheck.main() == 0


def test_nobody_there_is_a_failure_with_the_reason(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path):
    monkeypatch.setenv("FACET_UDS", str(tmp_path / "none.sock"))
    assert healthcheck.main() == 1
    assert "No such file" in capsys.readouterr().err


def test_an_unhealthy_service_is_a_failure(monkeypatch: pytest.MonkeyPatch, settings: Settings, capsys):
    app = fakes.application(settings)
    monkeypatch.setattr(app.state.service.models, "dead", lambda: "tiny")
    with fakes.listening(app) as address:
        monkeypatch.setenv("FACET_PORT", address.split(":")[1])
        assert healthcheck.main() == 1
    assert "503" in capsys.readouterr().err
