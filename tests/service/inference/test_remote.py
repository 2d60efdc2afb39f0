"""Graphs on another server: what it says is checked, its mistakes are one kind of error, and pictures are equal."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.processes import FACET, ROOT, Instance
from service.app import create_app
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError
from service.errors import RuntimeUnavailableError
from service.inference import backends, oip_codec, remote
from service.inference.oip_codec import HEADER_LENGTH, Graph
from service.inference.remote import V2Runtime
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.fakes import TestClient

URL = "http://triton.test:8000/below"


@pytest.fixture
def bundle(bundle_directory: Path) -> Bundle:
    return loader.load(bundle_directory)


class Server:
    """Answers as a server of the protocol would, with the fake runtime; each answer may be replaced."""

    def __init__(self, bundle: Bundle) -> None:
        self.graphs = {f"tiny-{kind}": Graph.of(bundle.manifest, kind) for kind in bundle.manifest.graph_kinds}
        self.runtime = FakeRuntime(bundle.manifest)
        self.binary = True
        self.infer: Callable[[httpx.Request], httpx.Response] = self.compute
        self.metadata: Callable[[Graph], httpx.Response] = lambda graph: httpx.Response(200, json=graph.metadata())
        self.requested: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert str(request.url).startswith(f"{URL}/v2/models/")
        self.requested.append(request)
        return self.infer(request) if request.method == "POST" else self.metadata(self._graph(request))

    def compute(self, request: httpx.Request) -> httpx.Response:
        graph = self._graph(request)
        text, binary = oip_codec.split(request.content, request.headers.get(HEADER_LENGTH))
        inputs = oip_codec.read(oip_codec.parse(text), "inputs", binary, graph.inputs)
        outputs = getattr(self.runtime, graph.kind)(inputs)
        body, length = oip_codec.write({}, "outputs", outputs, list(outputs) if self.binary else [])
        return httpx.Response(200, content=body, headers={HEADER_LENGTH: str(length)} if length else {})

    def _graph(self, request: httpx.Request) -> Graph:
        return self.graphs[request.url.path.split("/")[4]]


@pytest.fixture
def server(bundle: Bundle) -> Server:
    return Server(bundle)


def opened(bundle: Bundle, server: Callable[[httpx.Request], httpx.Response], seconds: float = 5) -> V2Runtime:
    settings = Settings(runtime=f"v2:{URL}/", request_timeout=seconds)
    return V2Runtime(bundle, settings, httpx.MockTransport(server))


def inputs(rows: int = 2) -> oip_codec.Arrays:
    latent = np.arange(rows * fakes.LATENT_SIZE, dtype=np.float32).reshape(rows, -1)
    return {"latent": latent, "attributes": np.zeros((rows, len(fakes.ATTRIBUTES)), np.float32)}


@pytest.mark.parametrize("binary", [True, False])
def test_it_computes_what_the_server_computes(bundle: Bundle, server: Server, binary: bool):
    server.binary = binary
    runtime = opened(bundle, server)
    drawn = runtime.decoder(inputs(3))
    np.testing.assert_array_equal(drawn["image"], server.runtime.decoder(inputs(3))["image"])
    size, unknown = fakes.IMAGE_SIZE, np.full((2, len(fakes.ATTRIBUTES)), np.nan, np.float32)
    faces = {"image": np.full((2, size, size, 3), 9, np.uint8), "attributes": unknown}
    found = runtime.encoder(faces)
    for name, expected in server.runtime.encoder(faces).items():
        np.testing.assert_array_equal(found[name], expected)


def test_an_editor_runs_elsewhere_too(tmp_path: Path):
    fakes.write_bundle(tmp_path / "tiny", schema=2, editor=True)
    server = Server(loader.load(tmp_path / "tiny"))
    size, change = fakes.EDITOR_SIZE, np.full((2, len(fakes.ATTRIBUTES)), 0.25, np.float32)
    faces = {"image": np.full((2, size, size, 3), 9, np.uint8), "change": change}
    found = opened(loader.load(tmp_path / "tiny"), server).editor(faces)
    for name, expected in server.runtime.editor(faces).items():
        np.testing.assert_array_equal(found[name], expected)


def test_a_learned_prior_runs_elsewhere_too(tmp_path: Path):
    fakes.write_bundle(tmp_path / "tiny", schema=2, prior=True)
    server = Server(loader.load(tmp_path / "tiny"))
    noise, known = np.ones((2, fakes.LATENT_SIZE), np.float32), np.ones((2, len(fakes.ATTRIBUTES)), np.float32)
    found = opened(loader.load(tmp_path / "tiny"), server).prior({"noise": noise, "attributes": known})
    assert found["latent"].tolist() == [[5, 5, 5]] * 2


def test_other_metadata_than_the_manifests_are_refused(bundle: Bundle, server: Server):
    def other(graph: Graph) -> httpx.Response:
        told = graph.metadata()
        told["outputs"][0]["shape"] = [-1, 9, 9, 3]
        return httpx.Response(200, json=told if graph.kind == "decoder" else graph.metadata())

    server.metadata = other
    with pytest.raises(BundleError, match=r"decoder\.onnx: .* the outputs of tiny-decoder are .*9, 9, 3.* manifest"):
        opened(bundle, server)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(404, json={"error": "no such\nmodel"}), "tiny-encoder: answered 404: no such model"),
        (httpx.Response(502, text="<html>bad gateway"), "answered 502: <html>bad gateway"),
        (httpx.Response(302, headers={"Location": "http://elsewhere.test"}), "answered 302: nothing"),
        (httpx.Response(200, text="hello"), "the metadata of tiny-encoder are not JSON"),
        (httpx.Response(200, content=b" " * 2_000_000), "more than 1000000 bytes"),
    ],
)
def test_a_server_without_the_model_is_named_at_the_start(bundle: Bundle, server: Server, answer, words: str):
    server.metadata = lambda _: answer
    with pytest.raises(RuntimeUnavailableError) as caught:
        opened(bundle, server)
    assert str(caught.value).startswith(URL)
    assert words in str(caught.value)


@pytest.mark.parametrize("metadata", [{}, {"inputs": 5}, {"inputs": ["x"], "outputs": [{}]}])
def test_metadata_without_tensors_are_refused(bundle: Bundle, server: Server, metadata: dict):
    server.metadata = lambda _: httpx.Response(200, json=metadata)
    with pytest.raises(BundleError, match="the inputs of tiny-encoder are"):
        opened(bundle, server)


def test_a_server_that_is_away_is_asked_once_for_a_while(bundle: Bundle, server: Server):
    runtime = opened(bundle, server)

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    server.infer = refuse
    with pytest.raises(RuntimeUnavailableError, match="connection refused"):
        runtime.decoder(inputs())
    requested = len(server.requested)
    with pytest.raises(RuntimeUnavailableError, match="not reachable a moment ago"):
        runtime.decoder(inputs())
    assert len(server.requested) == requested


def test_it_is_asked_again_afterwards(bundle: Bundle, server: Server, monkeypatch):
    monkeypatch.setattr(remote, "_UNREACHABLE_SECONDS", 0.0)
    runtime, answers = opened(bundle, server), iter([httpx.ReadTimeout("slow")])

    def once(request: httpx.Request) -> httpx.Response:
        for error in answers:
            raise error
        return server.compute(request)

    server.infer = once
    with pytest.raises(RuntimeUnavailableError, match="slow"):
        runtime.decoder(inputs())
    assert len(runtime.decoder(inputs())["image"]) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_until_the_time_is_up(bundle: Bundle, server: Server, status: int, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", pauses.append)
    busy = iter([httpx.Response(status, json={"error": "full"})] * 3)
    server.infer = lambda request: next(busy, None) or server.compute(request)
    assert len(opened(bundle, server).decoder(inputs())["image"]) == 2
    assert pauses == [0.05, 0.1, 0.2]
    server.infer = lambda _: httpx.Response(status, json={"error": "full"})
    with pytest.raises(RuntimeUnavailableError, match=f"answered {status}: full"):
        opened(bundle, server, seconds=0.04).decoder(inputs())


def test_an_answer_that_trickles_is_given_up(bundle: Bundle, server: Server):
    class Trickle(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(1000):
                time.sleep(0.01)
                yield b" "

    runtime = opened(bundle, server, seconds=0.1)
    server.infer = lambda _: httpx.Response(200, stream=Trickle())
    with pytest.raises(RuntimeUnavailableError, match=r"the answer took more than 0\.1 s"):
        runtime.decoder(inputs())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda server: httpx.Response(200, text="{"), "the answer of tiny-decoder is broken: body: must begin"),
        (lambda server: httpx.Response(200, json={"outputs": []}), "outputs: must be a list"),
        (lambda server: httpx.Response(200, content=b" " * 10**7), "the answer has more than"),
        (lambda server: _drawn(server, 3), "tiny-decoder answered 2 rows with 3"),
        (lambda server: httpx.Response(400, json={"error": "batch too large"}), "answered 400: batch too large"),
        (lambda server: httpx.Response(422, content=b"x" * 10**7), "answered 422: xxx"),
    ],
)
def test_a_broken_answer_is_one_kind_of_error(bundle: Bundle, server: Server, answer, words: str):
    runtime = opened(bundle, server)
    server.infer = lambda _: answer(server)
    with pytest.raises(RuntimeUnavailableError) as caught:
        runtime.decoder(inputs(2))
    assert words in str(caught.value)


def _drawn(server: Server, rows: int) -> httpx.Response:
    body, length = oip_codec.write({}, "outputs", server.runtime.decoder(inputs(rows)), ["image"])
    return httpx.Response(200, content=body, headers={HEADER_LENGTH: str(length)})


# One service behind another


@pytest.fixture
def behind(settings: Settings) -> Iterator[tuple[TestClient, TestClient]]:
    """A client of a service whose graphs run on another, and one of a service that runs them itself."""
    with fakes.listening(fakes.application(settings)) as address:
        remote = settings.model_copy(update={"runtime": f"v2:http://{address}"})
        with (
            TestClient(create_app(remote, registry=fakes.CollectorRegistry())) as front,
            fakes.serving(settings) as own,
        ):
            yield front, own


def test_a_service_behind_another_answers_the_same(behind: tuple[TestClient, TestClient]):
    front, own = behind
    requested = {"attributes": {"Smiling": 1}, "seed": 3, "count": 5}
    edited = {"content": fakes.grey(90), "params": {"attributes": '{"Smiling": 1}'}, "headers": {"Accept": "image/png"}}
    for path, given in (("/v1/generate", {"json": requested}), ("/v1/edit", edited)):
        first, second = front.post(path, **given), own.post(path, **given)
        assert first.status_code == 200, first.text
        np.testing.assert_array_equal(fakes.pixels(first.content), fakes.pixels(second.content))
    assert front.get("/v1/models/tiny").json()["device"] == "remote"


def test_a_server_that_draws_other_faces_is_refused(settings: Settings):
    class Changing(FakeRuntime):
        changed = False

        def decoder(self, inputs: oip_codec.Arrays) -> oip_codec.Arrays:
            drawn = super().decoder(inputs)
            return {"image": drawn["image"] // 2} if self.changed else drawn

    app = fakes.application(settings, Changing)
    with fakes.listening(app) as address:
        app.state.service.models.get("tiny").runtime.changed = True
        remote = settings.model_copy(update={"runtime": f"v2:http://{address}"})
        with pytest.raises(BundleError, match=r"samples\.png: the graphs draw other faces"):
            create_app(remote, registry=fakes.CollectorRegistry()).state.service.models.load_all()


def test_a_server_that_leaves_fails_requests_and_not_the_service(settings: Settings):
    with fakes.listening(fakes.application(settings)) as address:
        remote = settings.model_copy(update={"runtime": f"v2:http://{address}"})
        app = create_app(remote, registry=fakes.CollectorRegistry())
        app.state.service.models.load_all()
    with TestClient(app) as client:
        answer = client.post("/v1/generate", json={"attributes": {}})
        assert address not in str(fakes.problem(answer, 503))
        assert answer.headers["retry-after"] == "1"
        counted = "facet_inference_errors_total"
        assert fakes.sample(client, counted, kind="RuntimeUnavailableError") >= 1
        assert client.get("/healthz").status_code == 200


@pytest.mark.slow
def test_nobody_there_is_one_line_and_status_2():
    environment = fakes.environment(FACET_RUNTIME="v2:http://127.0.0.1:9", FACET_WEIGHTS="none")
    done = subprocess.run(
        FACET,
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: http://127.0.0.1:9: cannot be used as a runtime: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wrong", ["v2", "v2:", "v2:ftp://x", "v2:http://", "v2:http://x/?y=1", "triton"])
def test_a_wrong_runtime_is_refused(wrong: str):
    with pytest.raises(ValueError, match="runtime"):
        Settings(runtime=wrong)


@pytest.mark.slow
def test_the_shipped_bundle_runs_on_a_real_process_as_it_does_here(tmp_path: Path):
    """Golden samples, parity of both graphs and an edit, between two processes."""
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "celeba64").symlink_to(ROOT / "bundles" / "celeba64")
    settings = Settings(
        bundles=tmp_path / "bundles",
        weights=tmp_path,
        default_model="celeba64",
        max_batch=8,
        workers=1,
        codec_threads=2,
    )
    # Such a server must know of sensitive attributes.
    variables = {
        "BUNDLES": settings.bundles,
        "DEFAULT_MODEL": "celeba64",
        "WEIGHTS": tmp_path,
        "MAX_BATCH": 8,
        "SENSITIVE_ATTRIBUTES": True,
    }
    environment = fakes.environment(**{f"FACET_{name}": str(value) for name, value in variables.items()})
    with Instance(environment, path="/v2/health/ready") as server:
        remote = settings.model_copy(update={"runtime": f"v2:{server.url}"})
        with TestClient(create_app(remote, registry=fakes.CollectorRegistry())) as front:
            bundle = front.app.state.service.models.get("celeba64").bundle
            here = backends.open_runtime(bundle, settings)
            there = front.app.state.service.models.get("celeba64").runtime
            rng = np.random.default_rng(0)
            faces = rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
            unknown = np.full((5, len(bundle.manifest.attributes)), np.nan, np.float32)
            ours, theirs = (each.encoder({"image": faces, "attributes": unknown}) for each in (here, there))
            for name, array in ours.items():
                np.testing.assert_allclose(theirs[name], array, rtol=1e-4, atol=1e-4)
            told = {"latent": ours["mean"], "attributes": ours["attribute_estimates"]}
            drawn = [each.decoder(told)["image"].astype(int) for each in (here, there)]
            assert np.abs(drawn[0] - drawn[1]).max() <= 1
        _run_the_documented_call(f"127.0.0.1:{server.port}")
        assert server.stop() == 0


def _run_the_documented_call(address: str) -> None:
    """What docs/api.md prints works as printed."""
    pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page[page.index("/v2\n") :], re.DOTALL)
    names: dict[str, np.ndarray] = {}
    exec(example.replace("127.0.0.1:8000", address), names)
    assert names["face"].shape == (64, 64, 3)
