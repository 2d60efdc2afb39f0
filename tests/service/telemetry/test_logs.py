"""The log is one JSON object a line, tells of each request, and tells nothing that a client sent."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.settings import Settings
from service.telemetry import logs
from tests.service import fakes
from tests.service.fakes import TestClient

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "observability.md"
RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


class Log:
    """What the service has written."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["logger"] != "httpx"]  # the client of these tests

    @property
    def access(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"] == "service.access"]


@pytest.fixture
def log() -> Iterator[Log]:
    """What goes to the root logger from `info` on, as JSON."""
    log, root = Log(), logging.getLogger()
    handler = logging.StreamHandler(log.stream)
    handler.setFormatter(logs.JsonFormatter())
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield log
    root.setLevel(level)
    root.removeHandler(handler)


def formatted(formatter: logging.Formatter, message: str, *arguments: Any, exc: Exception | None = None, **fields: Any):
    exc_info = (type(exc), exc, exc.__traceback__) if exc else None
    record = logging.LogRecord("service.some", logging.WARNING, "file.py", 7, message, arguments, exc_info)
    record.created = 1_700_000_000.25
    record.fields = fields
    return formatter.format(record)


def raised(message: str) -> Exception:
    try:
        raise KeyError(message)
    except KeyError as exc:
        return exc


def test_a_line_is_one_json_object():
    line = formatted(logs.JsonFormatter(), "took %d s", 3, graph="decoder")
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "service.some",
        "message": "took 3 s",
        "graph": "decoder",
    }


def test_nothing_in_a_message_makes_a_second_line():
    line = formatted(logs.JsonFormatter(), "one\ntwo\r\x85\u2028three \x1b[31m")
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == "one\ntwo\r\x85\u2028three \x1b[31m"


def test_an_exception_is_a_field_with_its_stack():
    line = formatted(logs.JsonFormatter(), "failed", exc=raised("swordfish"))
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert found["exception"] == "KeyError"
    assert found["stack"].startswith("Traceback (most recent call last):\n")
    assert found["stack"].endswith("KeyError: 'swordfish'")


def test_what_json_cannot_hold_is_written_as_text():
    assert json.loads(formatted(logs.JsonFormatter(), "x", path=Path("/srv")))["path"] == "/srv"


def test_text_has_the_fields_behind_the_message_and_the_stack_below():
    line, *stack = formatted(logs.TextFormatter(), "failed", exc=raised("x"), images=2, model="tiny@1").splitlines()
    assert line == '2023-11-14T22:13:20.250Z WARNING service.some failed images=2 model="tiny@1"'
    assert stack[0] == "Traceback (most recent call last):"


def test_each_request_has_a_line(client: TestClient, log: Log):
    form = {"attributes": '{"Smiling": 1}'}
    headers = {"X-Request-ID": "id-7"}
    answer = client.post("/v1/edit", files={"image": fakes.grey(40)}, data=form, headers=headers)
    assert answer.status_code == 200
    (line,) = log.access
    assert re.fullmatch(RFC_3339, line.pop("time"))
    assert line.pop("duration_ms") > 0
    stages = line.pop("stages")
    assert list(stages) == re.findall(r"(\w+);dur", answer.headers["server-timing"])
    assert all(milliseconds >= 0 for milliseconds in stages.values())
    assert line == {
        "level": "info",
        "logger": "service.access",
        "message": "POST /v1/edit 200",
        "request_id": "id-7",
        "method": "POST",
        "path": "/v1/edit",
        "status": 200,
        "model": "tiny@1.2.3",
        "images": 1,
    }


def test_nothing_that_a_client_sends_is_in_the_log(client: TestClient, log: Log):
    latent = {"latent": [31.41, 59.26, 53.58], "attributes": {"Smiling": 0.8979}}
    client.post("/v1/edit?swordfish=1", json=latent, headers={"Authorization": "Bearer swordfish"})
    client.post("/v1/generate", json={"attributes": {"swordfish": 0.8979}, "model": "swordfish"})
    client.post("/v1/edit", files={"swordfish": fakes.grey(40)}, data={"attributes": "swordfish"})
    client.post("/v1/models/swordfish:reload", headers={"Authorization": "Bearer swordfish"})
    client.get("/swordfish?swordfish=1")
    assert [line["path"] for line in log.access] == [
        "/v1/edit", "/v1/generate", "/v1/edit", "/v1/models/{name}:reload", "other",
    ]  # fmt: skip
    written = json.dumps(log.lines)
    for secret in ("swordfish", "31.41", "0.8979"):
        assert secret not in written


def test_no_upload_is_stored_or_logged(settings: Settings, log: Log, tmp_path: Path, monkeypatch):
    """Large enough to pass through a temporary file, by every way that a picture takes, kept latents included."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (872, 712, 3), dtype=np.uint8)
    picture = fakes.encoded(Image.fromarray(noise), "PNG")
    assert len(picture) > 1_500_000
    files = {"image": ("swordfish.png", picture, "image/png")}
    large = settings.model_copy(update={"max_body_bytes": 5_000_000, "max_image_pixels": 1_000_000})
    before = set(tmp_path.rglob("*"))
    logging.getLogger().setLevel(logging.DEBUG)
    with fakes.serving(large) as client:
        for _ in range(2):
            assert client.post("/v1/encode", files=files).status_code == 200
            assert client.post("/v1/edit", files=files, data={"attributes": '{"Smiling": 1}'}).status_code == 200
            assert client.post("/v1/verify", content=picture, headers={"Content-Type": "image/png"}).status_code == 200
        assert client.post("/v1/encode", files={"image": ("swordfish.png", picture[:1_400_000])}).status_code == 400
        kept = [value for entry in client.app.state.service.latents._entries.values() for value in vars(entry).values()]
    assert set(tmp_path.rglob("*")) == before
    assert sum(getattr(value, "nbytes", 0) for value in kept) < 1000  # of one face of this tiny model
    written = json.dumps(log.lines)
    part = picture[1000:1030]
    for secret in ("swordfish", part.hex(), base64.b64encode(part[:30]).decode(), repr(part)[2:40]):
        assert secret not in written
    assert len(written) < 50_000


def test_a_refused_request_has_a_line_too(client: TestClient, log: Log):
    fakes.problem(client.post("/v1/generate", json={"attributes": {"Smilng": 1}}), 422)
    (line,) = log.access
    assert (line["status"], line["level"], line["stages"]) == (422, "info", {})
    assert line["model"] == "tiny@1.2.3"
    assert "images" not in line


def test_a_request_that_finds_the_queue_full_has_a_line(client: TestClient, log: Log, monkeypatch):
    monkeypatch.setattr(fakes.model_of(client).decoder, "refusal", lambda: 1.0)
    answer = client.post("/v1/generate", json={"attributes": {}})
    (line,) = log.access
    assert (line["path"], line["status"]) == ("/v1/generate", 429)
    assert line["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_are_no_news(client: TestClient, log: Log, path: str):
    assert client.get(path).status_code == 200
    assert log.access == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_that_fail_are(client: TestClient, log: Log, path: str):
    fakes.model_of(client).decoder.failure = RuntimeError("dead")
    assert client.get(path).status_code == 503
    (line,) = log.access
    assert (line["path"], line["status"], line["level"]) == (path, 503, "error")


def test_a_failed_batch_is_found_by_the_request_that_was_in_it(settings: Settings, log: Log):
    runtimes: list[fakes.FailingRuntime] = []
    with fakes.serving(settings, lambda m: runtimes.append(fakes.FailingRuntime(m)) or runtimes[0]) as client:
        runtimes[0].error = RuntimeError("out of memory")
        answer = client.post("/v1/generate", json={"attributes": {}})
    body = fakes.problem(answer, 500)
    (batch,) = [line for line in log.lines if line["logger"] == "service.inference.batcher"]
    (request,) = [line for line in log.lines if line["logger"] == "service.api.problems"]
    assert batch["exception"] == "RuntimeError"
    assert batch["stack"].endswith("out of memory")
    assert "request_id" not in batch  # it may have carried several
    assert request["request_id"] == log.access[0]["request_id"] == body["request_id"]
    assert "decoder graph failed in batch 1" in request["message"]
    assert "batch 1 " in batch["message"]


def test_the_log_of_a_picture_thread_carries_the_request(client: TestClient, log: Log, monkeypatch):
    frame = client.app.state.service.faces.frame

    def talkative(*arguments):
        logging.getLogger("service.faces.finder").warning("looking")
        return frame(*arguments)

    monkeypatch.setattr(client.app.state.service.faces, "frame", talkative)
    client.post("/v1/encode", files={"image": fakes.grey(40)}, headers={"X-Request-ID": "id-8"})
    (line,) = [line for line in log.lines if line["logger"] == "service.faces.finder"]
    assert line["request_id"] == "id-8"


def test_the_level_silences_requests(client: TestClient, log: Log):
    logging.getLogger().setLevel(logging.WARNING)
    client.get("/v1/models")
    assert log.lines == []


_CONFIGURE = """
import logging, warnings
from service.telemetry import logs
logs.configure("info", {layout!r})
logging.getLogger("uvicorn.error").info("Started")
logging.getLogger("uvicorn.error").debug("not this")
warnings.warn("careful")
warnings.warn_explicit("Corrupt EXIF data. Skipping tag 7", UserWarning, "x.py", 1, module="PIL.TiffImagePlugin")
"""


def configured(layout: str) -> list[str]:
    """What a process writes that logs in this layout."""
    done = subprocess.run(
        [sys.executable, "-c", _CONFIGURE.format(layout=layout)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_the_server_and_warnings_of_python_write_the_same_lines_and_broken_pictures_none():
    started, warned = (json.loads(line) for line in configured("json"))
    assert (started["logger"], started["message"]) == ("uvicorn.error", "Started")
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
    assert "careful" in warned["message"]


def test_the_layout_may_be_text():
    assert re.fullmatch(f"{RFC_3339} INFO uvicorn.error Started", configured("text")[0])


@pytest.mark.parametrize(("terminal", "layout"), [(True, "text"), (False, "json")])
def test_people_get_text_and_collectors_json(monkeypatch, terminal: bool, layout: str):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert Settings().log_format == layout


def test_the_operators_manual_has_a_row_for_each_field(client: TestClient, log: Log):
    client.post("/v1/edit", files={"image": fakes.grey(40)}, data={"attributes": '{"Smiling": 1}'})
    logging.getLogger("service.some").error("failed", exc_info=raised("x"))
    fields = {name for line in log.lines for name in line} | {"trace_id", "ended_in", "key"}
    section = PAGE.read_text(encoding="utf-8").partition("\n## Logs\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)) == fields
