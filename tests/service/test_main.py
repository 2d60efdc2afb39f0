"""A mistake in settings, bundles or installation is one line on stderr and status 2, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from service import __main__ as command
from tests.service import fakes

ROOT = Path(__file__).parents[2]


def serve(path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m service` in its own process; `path` comes before installed packages."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")} | variables
    if path:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def one_line(text: str) -> str:
    """The only line of `text`, which is an error and no traceback."""
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line


def test_a_wrong_setting_ends_the_process_with_status_2():
    done = serve(FACET_PORT="http")
    assert done.returncode == 2
    assert "FACET_PORT='http'" in one_line(done.stderr)
    assert done.stdout == ""


def test_without_onnxruntime_both_extras_are_named(tmp_path: Path, bundle_directory: Path):
    stub = tmp_path / "stub"
    stub.mkdir()
    (stub / "onnxruntime.py").write_text("raise ImportError('not installed')\n")
    done = serve(stub, FACET_BUNDLES=str(bundle_directory.parent), FACET_DEFAULT_MODEL="tiny")
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert ".[cpu]" in line
    assert ".[gpu]" in line


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
        ("FACET_MAX_BATCH", "0"),
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
    monkeypatch.setattr(command.runtimes, "require", lambda settings: None)


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
def test_when_all_is_well_the_models_are_loaded_before_the_server_starts(monkeypatch, bundle_directory: Path):
    served = []

    def run(app, **options) -> None:
        served.append(SimpleNamespace(models=app.state.service.models.all(), **options))

    monkeypatch.setenv("FACET_BUNDLES", str(bundle_directory.parent))
    monkeypatch.setenv("FACET_DEFAULT_MODEL", "tiny")
    monkeypatch.setenv("FACET_PORT", "8123")
    monkeypatch.setattr(command, "create_app", fakes.application)
    monkeypatch.setattr(command.uvicorn, "run", run)
    assert command.main() == 0
    (call,) = served
    assert [model.identity for model in call.models] == ["tiny@1.2.3"]
    assert (call.host, call.port) == ("127.0.0.1", 8123)
