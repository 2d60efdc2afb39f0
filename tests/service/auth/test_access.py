"""Who comes with which key gets what; everybody else is told what is missing, before any work."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from service.app import create_app
from service.auth import keys
from service.auth.keys import KeysError
from service.settings import Settings
from service.telemetry import logs
from tests.service import fakes
from tests.service.fakes import TestClient, problem, sample

ADMIN_TOKEN = "correct horse"
SCOPED = [
    ("POST", "/v1/encode", "use"),
    ("POST", "/v1/generate", "use"),
    ("POST", "/v1/edit", "use"),
    ("POST", "/v1/sweep", "use"),
    ("POST", "/v1/verify", "use"),
    ("POST", "/v1/photos", "use"),
    ("GET", "/v1/models", "use"),
    ("GET", "/v1/models/tiny", "use"),
    ("POST", "/v1/models/tiny:reload", "admin"),
    ("GET", "/metrics", "metrics"),
]
OPEN = [
    "/",
    "/v2",
    "/v2/health/ready",
    "/studio/studio.js",
    "/docs",
    "/docs/start.js",
    "/openapi.json",
    "/healthz",
    "/readyz",
]


class Locked:
    """A file of keys with one for each scope, and settings that name it."""

    def __init__(self, settings: Settings, path: Path) -> None:
        self.path = path
        self.settings = settings.model_copy(update={"keys_file": str(path)})
        self.tokens = {scope: self.new(scope, scopes=[scope]) for scope in ("use", "admin", "metrics")}

    def new(self, name: str, **values: object) -> str:
        return keys.new(self.path, name=name, **{"scopes": ["use"], **values})


@pytest.fixture
def locked(settings: Settings, tmp_path: Path) -> Locked:
    return Locked(settings, tmp_path / "keys.json")


@pytest.fixture
def client(locked: Locked) -> Iterator[TestClient]:
    with fakes.serving(locked.settings) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def generate(client: TestClient, token: str, **params: object) -> httpx.Response:
    return client.post("/v1/generate", json={"seed": 1, **params}, headers=bearer(token))


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_each_call_takes_its_scope(client: TestClient, locked: Locked, method: str, path: str, scope: str):
    for offered in ({}, bearer("facet_wrong"), {"Authorization": "Basic abc"}, {"Authorization": "Bearer "}):
        answer = client.request(method, path, headers=offered)
        body = problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert fakes.fields(body) == ["Authorization"]
        assert "facet_wrong" not in answer.text
    for held, token in locked.tokens.items():
        answer = client.request(method, path, headers=bearer(token))
        if held == scope:
            assert answer.status_code not in (401, 403), answer.text
        else:
            assert repr(scope) in problem(answer, 403)["detail"]
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]
    assert sample(client, "facet_requests_rejected_total", reason="unauthorized") == 4
    assert sample(client, "facet_requests_rejected_total", reason="forbidden") == 2


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-Api-Key"])
def test_a_key_may_come_by_itself(client: TestClient, locked: Locked, name: str):
    for method, path, scope in SCOPED:
        for held, token in locked.tokens.items():
            answer = client.request(method, path, headers={name: f" {token} "})
            assert (answer.status_code in (401, 403)) == (held != scope), answer.text
        body = problem(client.request(method, path, headers={name: "facet_wrong"}), 401)
        assert "facet_wrong" not in json.dumps(body)
    assert "X-API-Key" in problem(client.get("/v1/models", headers={name: " "}), 401)["detail"]


def test_bearer_comes_first_and_another_scheme_is_a_proxys(client: TestClient, locked: Locked):
    right, wrong = locked.tokens["use"], locked.tokens["metrics"]
    for headers, status in [
        (bearer(right) | {"X-API-Key": wrong}, 200),
        (bearer(wrong) | {"X-API-Key": right}, 403),
        ({"Authorization": "Basic YTpi", "X-API-Key": right}, 200),
        (bearer("") | {"X-API-Key": right}, 401),
    ]:
        assert client.get("/v1/models", headers=headers).status_code == status


def test_every_route_asks_or_is_known_to_be_open(client: TestClient):
    """A route that somebody adds must decide."""
    params = {path.replace("/tiny", "/{name}") for _, path, _ in SCOPED}
    document = client.get("/openapi.json").json()
    params |= {path for path in document["paths"] if path.startswith("/v2/models/")}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = client.request(method.upper(), path.replace("{name}", "tiny"))
            assert (answer.status_code == 401) == (path in params) == ("security" in operation), path
            if path in params:
                assert operation["security"] == [{"key": []}, {"bare_key": []}]
                assert {"401", "403"} <= set(operation["responses"])
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"
    assert (schemes["bare_key"]["in"], schemes["bare_key"]["name"]) == ("header", "X-API-Key")
    assert params <= set(document["paths"])


@pytest.mark.parametrize("path", OPEN)
def test_pages_and_probes_take_no_key(client: TestClient, path: str):
    assert client.get(path).status_code == 200


def test_without_a_file_everything_is_open_but_administration(settings: Settings):
    with fakes.serving(settings) as client:
        assert generate(client, "whatever").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert "switched off" in problem(client.post("/v1/models/tiny:reload"), 403)["detail"]
        paths = client.get("/openapi.json").json()["paths"]
        secured = [path for path, each in paths.items() for operation in each.values() if "security" in operation]
        assert secured == []  # nobody has a key
    with fakes.serving(settings.model_copy(update={"admin_token": SecretStr(ADMIN_TOKEN)})) as client:
        paths = client.get("/openapi.json").json()["paths"]
        secured = [path for path, each in paths.items() for operation in each.values() if "security" in operation]
        assert secured == ["/v1/models/{name}:reload"]


def test_the_admin_token_is_one_more_key(locked: Locked):
    settings = Settings(**locked.settings.model_dump(exclude={"admin_token"}), admin_token=ADMIN_TOKEN)
    with fakes.serving(settings) as client:
        assert client.post("/v1/models/tiny:reload", headers=bearer(ADMIN_TOKEN)).status_code == 200
        assert client.post("/v1/models/tiny:reload", headers=bearer(locked.tokens["admin"])).status_code == 200
        problem(generate(client, ADMIN_TOKEN), 403)
        problem(client.get("/metrics", headers=bearer(ADMIN_TOKEN)), 403)


def test_the_scheme_is_read_as_http_says(client: TestClient, locked: Locked):
    for offered in (f"bearer {locked.tokens['use']}", f"BEARER  {locked.tokens['use']} "):
        assert client.get("/v1/models", headers={"Authorization": offered}).status_code == 200
    for offered in (locked.tokens["use"], f"Bearer{locked.tokens['use']}", "Bearer \u00fc"):
        problem(client.get("/v1/models", headers={"Authorization": offered.encode("latin-1")}), 401)


def test_a_file_that_cannot_be_used_stops_the_start(settings: Settings, tmp_path: Path):
    with pytest.raises(KeysError, match=r"none\.json: cannot be read"):
        fakes.application(settings.model_copy(update={"keys_file": str(tmp_path / "none.json")}))


def test_nothing_of_a_body_is_read_without_a_key(locked: Locked):
    app = fakes.application(locked.settings)
    sent = []

    async def story() -> None:
        async def receive():
            raise AssertionError("nobody may read")

        async def send(message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"image/png"), (b"content-length", b"100000")]
        scope = {"type": "http", "method": "POST", "path": "/v1/edit", "query_string": b"", "headers": headers}
        await app(scope, receive, send)

    asyncio.run(story())
    assert sent[0]["status"] == 401


# ---- limits


def test_a_key_has_its_rate_and_others_have_theirs(locked: Locked):
    slow, other = locked.new("slow", images_per_second=0.001, burst=4), locked.new("other")
    with fakes.serving(locked.settings) as client:
        assert generate(client, slow, count=3).status_code == 200
        answer = generate(client, slow, count=2)
        assert "images per second" in problem(answer, 429)["detail"]
        assert 900 < int(answer.headers["retry-after"]) <= 1000
        assert sample(client, "facet_requests_rejected_total", reason="rate_limited") == 1
        assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 0
        assert generate(client, other, count=6).status_code == 200
        assert generate(client, slow, count=1).status_code == 200
        problem(generate(client, slow, count=1), 429)
        problem(generate(client, slow, count=5), 429)  # the bucket is empty, whatever is asked


def test_every_operation_costs_its_images(locked: Locked):
    """What is left of a bucket of 6 after each."""
    picture = {"image": fakes.grey(40)}
    latent = {"latent": [10.0, -2.0, 0.5], "source_attributes": [0, 0, -1, -1, 0]}
    calls = {
        1: lambda c, h: c.post("/v1/encode", files=picture, headers=h),
        2: lambda c, h: c.post("/v1/sweep", json={"attribute": "Smiling", "steps": 2, **latent}, headers=h),
        3: lambda c, h: c.post("/v1/generate", json={"count": 3}, headers=h),
        4: lambda c, h: c.post("/v1/generate", json={"latents": [[0, 0, 0]] * 4}, headers=h),
    }
    tokens = {images: locked.new(f"k{images}", images_per_second=0.001, burst=6) for images in calls}
    with fakes.serving(locked.settings) as client:
        for images, call in calls.items():
            assert call(client, bearer(tokens[images])).status_code == 200
            problem(generate(client, tokens[images], count=6 - images + 1), 429)
            assert generate(client, tokens[images], count=6 - images).status_code == 200


def test_each_face_that_is_requested_costs_one(locked: Locked, monkeypatch):
    """In a picture of three; those of a picture that is known already too."""
    token = locked.new("k", images_per_second=0.001, burst=6)
    crowd = {"files": {"image": fakes.grey(40)}, "headers": bearer(token)}
    with fakes.serving(locked.settings) as client:
        service = client.app.state.service
        frame = service.faces.frame
        monkeypatch.setattr(service.faces, "frame", lambda *params: 3 * frame(*params))
        one = {"attributes": '{"Smiling": 1}', "face": "2"}
        assert client.post("/v1/edit", data=one, **crowd).status_code == 200
        assert len(client.post("/v1/encode", **crowd).json()["faces"]) == 3
        problem(client.post("/v1/edit", data=one | {"face": "all"}, **crowd), 429)
        assert client.post("/v1/edit", data=one, **crowd).status_code == 200
        monkeypatch.setattr(fakes.model_of(client), "encode", None)  # what is refused is not encoded
        problem(client.post("/v1/encode", files={"image": fakes.grey(41)}, headers=bearer(token)), 429)


def test_what_fails_costs_nothing(locked: Locked):
    token = locked.new("k", images_per_second=0.001, burst=4)
    runtimes: list[fakes.FailingRuntime] = []
    with fakes.serving(locked.settings, lambda m: runtimes.append(fakes.FailingRuntime(m)) or runtimes[0]) as client:
        for _ in range(3):
            problem(generate(client, token, attributes={"Smilng": 1}), 422)
            problem(client.post("/v1/encode", content=b"no picture", headers=bearer(token)), 415)
        runtimes[0].error = RuntimeError("broken")
        problem(generate(client, token, count=4), 500)
        runtimes[0].error = None
        assert generate(client, token, count=4).status_code == 200
        problem(generate(client, token), 429)


def test_images_under_way_are_bounded_and_a_client_that_leaves_frees_them(locked: Locked):
    token = locked.new("k", images_in_flight=4, images_per_second=0.001, burst=4)
    runtimes: list[fakes.HeldRuntime] = []

    async def story() -> None:
        app = create_app(
            locked.settings,
            runtime_factory=lambda bundle, _: runtimes.append(fakes.HeldRuntime(bundle.manifest)) or runtimes[0],
            registry=CollectorRegistry(),
        )
        async with (
            asyncio.timeout(fakes.PATIENCE),
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            runtimes[0].hold()

            def ask(count: int):
                return client.post("/v1/generate", json={"count": count}, headers=bearer(token))

            first = asyncio.create_task(ask(3))
            assert await asyncio.to_thread(runtimes[0].entered.wait, fakes.PATIENCE)
            answer = await ask(2)
            assert "4 images under way" in problem(answer, 429)["detail"]
            value = app.state.service.metrics.registry.get_sample_value
            assert value("facet_requests_rejected_total", {"reason": "images_in_flight"}) == 1
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            runtimes[0].release()
            assert (await ask(4)).status_code == 200  # neither places nor the bucket have lost anything
            problem(await ask(1), 429)

    asyncio.run(story())


def test_a_changed_limit_holds_without_a_restart(locked: Locked, monkeypatch):
    monkeypatch.setattr(keys, "_RELOAD_SECONDS", 0.0)
    token = locked.new("k", images_in_flight=1)
    with fakes.serving(locked.settings) as client:
        problem(generate(client, token, count=2), 413)
        content = json.loads(locked.path.read_text())
        content["keys"][-1]["images_in_flight"] = 2
        locked.path.write_text(json.dumps(content))
        assert generate(client, token, count=2).status_code == 200
        keys.revoke(locked.path, "k")
        problem(generate(client, token), 401)


# ---- what is told


def test_no_key_is_ever_logged_or_told(locked: Locked, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    wrong = "facet_" + "w" * 43
    settings = Settings(**locked.settings.model_dump(exclude={"admin_token"}), admin_token=ADMIN_TOKEN)
    tokens = [*locked.tokens.values(), wrong, ADMIN_TOKEN]
    answers = []
    with fakes.serving(settings, fakes.FailingRuntime) as client:
        fakes.model_of(client).runtime.error = RuntimeError("broken")
        for token in tokens:
            for method, path, _ in SCOPED:
                answers.append(client.request(method, path, headers=bearer(token)))
            answers.append(generate(client, token))
            answers.append(client.get("/v1/models", headers={"Authorization": token}))
        told = "".join(f"{answer.headers} {answer.text}" for answer in answers)
        repr_of_all = repr(client.app.state.service) + repr(vars(client.app.state.service.access))
    out, err = capfd.readouterr()
    written = "\n".join(map(logs.JsonFormatter().format, caplog.records)) + out + err
    assert "broken" in written
    assert '"key": "use"' in written  # names are
    for token in tokens:
        for secret in (token, base64.b64encode(token.encode()).decode()):
            assert secret not in written
            assert secret not in told
            assert secret not in repr_of_all


def test_a_request_logs_the_name_of_its_key(client: TestClient, locked: Locked, caplog):
    caplog.set_level(logging.INFO, logger="service.access")
    generate(client, locked.tokens["use"])
    client.get("/v1/models")
    told = [record.fields.get("key") for record in caplog.records if record.name == "service.access"]
    assert told == ["use", None]
