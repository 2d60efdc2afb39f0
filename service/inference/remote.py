"""A runtime on another server, by the Open Inference Protocol: Triton, or another Facet."""

from __future__ import annotations

import math
import time
import weakref
from typing import Any

from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError, GraphKind
from service.errors import RuntimeUnavailableError
from service.inference import oip_codec
from service.inference.oip_codec import DISABLED_ATTRIBUTES, HEADER_LENGTH, Arrays, Graph, ProtocolError
from service.settings import REMOTE, Settings

_CONNECT_SECONDS = 5.0
_WORKERS = 4  # batches in flight, so that one is sent while another is computed
_RETRIED = (429, 503)  # statuses of a busy or starting server
_BACKOFF = (0.05, 2.0)  # seconds before the first retry, doubled each time, and the maximum
_UNREACHABLE_SECONDS = 1.0
_METADATA_BYTES = 1_000_000


def _require_httpx():
    try:
        import httpx
    except ImportError as exc:
        raise RuntimeUnavailableError(
            "FACET_RUNTIME=v2:... takes the package httpx: install Facet with the extra `v2` (pip install '.[v2]')"
        ) from exc
    return httpx


class V2Runtime:
    """The graphs of one bundle as models of a server: `<bundle>-encoder`, `<bundle>-decoder` and so on.

    The server's metadata must agree with the manifest. Every call ends within the request timeout of the settings. The
    constructor raises BundleError for metadata that differ; all other errors are RuntimeUnavailableErrors.
    """

    device = wanted_device = "remote"
    padding = computes_here = False  # the server has its own batcher
    max_batch = 64  # the default of `python -m export triton`

    def __init__(self, bundle: Bundle, settings: Settings, transport: Any = None) -> None:
        """`transport` is an httpx transport, a seam for tests."""
        self._httpx = _require_httpx()
        self._url = settings.runtime.removeprefix(REMOTE).rstrip("/")
        self._seconds = settings.request_timeout
        self.workers = settings.workers or _WORKERS
        limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=2 * self.workers)
        self._client = self._httpx.Client(transport=transport, limits=limits, trust_env=False)
        weakref.finalize(self, self._client.close)
        self._unreachable_until = 0.0
        self._graphs: dict[GraphKind, Graph] = {}
        for kind in bundle.manifest.graph_kinds:
            graph = self._graphs[kind] = Graph.of(bundle.manifest, kind)
            self._check(bundle, graph)

    def encoder(self, inputs: Arrays) -> Arrays:
        return self._infer(self._graphs["encoder"], inputs)

    def decoder(self, inputs: Arrays) -> Arrays:
        return self._infer(self._graphs["decoder"], inputs)

    def editor(self, inputs: Arrays) -> Arrays:
        return self._infer(self._graphs["editor"], inputs)

    def prior(self, inputs: Arrays) -> Arrays:
        return self._infer(self._graphs["prior"], inputs)

    def _check(self, bundle: Bundle, graph: Graph) -> None:
        """Raises BundleError if the server's model has other inputs or outputs than the manifest, in whatever order."""
        body, _ = self._call("GET", f"/v2/models/{graph.name}", _METADATA_BYTES)
        try:
            metadata = oip_codec.parse(body)
        except ProtocolError as exc:
            raise RuntimeUnavailableError(f"{self._url}: the metadata of {graph.name} are not JSON") from exc
        parameters = metadata.get("parameters")
        if disabled := parameters.get(DISABLED_ATTRIBUTES) if isinstance(parameters, dict) else None:
            rule = f"has disabled {disabled}; a server that runs graphs for others must enable them"
            raise RuntimeUnavailableError(f"{self._url}: {rule} (FACET_SENSITIVE_ATTRIBUTES)")
        for key, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            found, listed = _interface(metadata.get(key)), _interface(oip_codec.interface(tensors))
            if found != listed:
                rule = f"{self._url} says that the {key} of {graph.name} are {found}; the manifest says {listed}"
                raise BundleError(bundle.path(f"{graph.kind}.onnx"), rule)

    def _infer(self, graph: Graph, inputs: Arrays) -> Arrays:
        header = {"parameters": {"binary_data_output": True}}
        body, length = oip_codec.write(header, "inputs", inputs, list(inputs))
        rows = len(next(iter(inputs.values())))
        headers = {HEADER_LENGTH: str(length), "Content-Type": "application/octet-stream"}
        # A number as text takes at most about 25 bytes.
        largest = 100_000 + 25 * rows * sum(math.prod(tensor.shape[1:]) for tensor in graph.outputs)
        answer, began = self._call("POST", f"/v2/models/{graph.name}/infer", largest, body, headers)
        try:
            text, binary = oip_codec.split(answer, began)
            outputs = oip_codec.read(oip_codec.parse(text), "outputs", binary, graph.outputs)
        except ProtocolError as exc:
            raise RuntimeUnavailableError(f"{self._url}: the answer of {graph.name} is broken: {exc}") from exc
        if (found := len(next(iter(outputs.values())))) != rows:
            raise RuntimeUnavailableError(f"{self._url}: {graph.name} answered {rows} rows with {found}")
        return outputs

    def _call(
        self, method: str, path: str, largest: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[bytes, str | None]:
        """A response's body, of at most `largest` bytes, and its HEADER_LENGTH. Retries while the server is busy.

        Translates all network errors. Raises RuntimeUnavailableError.
        """
        if time.monotonic() < self._unreachable_until:
            # The requests of a failed batch are run again one by one; each would wait for the network again.
            raise RuntimeUnavailableError(f"{self._url}: was not reachable a moment ago")
        deadline, pause = time.monotonic() + self._seconds, _BACKOFF[0]
        while True:
            try:
                status, answer, began = self._exchange(method, path, largest, body, headers or {}, deadline)
            except (self._httpx.HTTPError, self._httpx.InvalidURL, OSError) as exc:
                self._unreachable_until = time.monotonic() + _UNREACHABLE_SECONDS
                what = str(exc) or type(exc).__name__
                raise RuntimeUnavailableError(f"{self._url}: cannot be used as a runtime: {what}") from exc
            if status == 200:
                return answer, began
            if status not in _RETRIED or time.monotonic() + pause >= deadline:
                raise RuntimeUnavailableError(f"{self._url}{path}: answered {status}: {_message(answer)}")
            time.sleep(pause)
            pause = min(2 * pause, _BACKOFF[1])

    def _exchange(
        self, method: str, path: str, largest: int, body: bytes, headers: dict[str, str], deadline: float
    ) -> tuple[int, bytes, str | None]:
        """One request: status, body and HEADER_LENGTH. Raises httpx's errors, also at the deadline."""
        left = max(deadline - time.monotonic(), 0.001)
        # The timeout applies to each read; the loop below limits their sum.
        timeout = self._httpx.Timeout(left, connect=min(left, _CONNECT_SECONDS))
        with self._client.stream(method, self._url + path, content=body, headers=headers, timeout=timeout) as response:
            received = bytearray()
            for part in response.iter_bytes():
                received += part
                if len(received) > largest:
                    if response.status_code != 200:  # the beginning is enough for the message
                        break
                    raise self._httpx.ReadError(f"the answer has more than {largest} bytes")
                if time.monotonic() > deadline:
                    raise self._httpx.ReadTimeout(f"the answer took more than {self._seconds:g} s")
            return response.status_code, bytes(received), response.headers.get(HEADER_LENGTH)


def _interface(tensors: Any) -> dict[str, list[Any]]:
    """Datatype and shape of each tensor by name, from metadata that may be malformed."""
    listed = tensors if isinstance(tensors, list) else []
    return {
        str(each.get("name")): [each.get("datatype"), each.get("shape")] for each in listed if isinstance(each, dict)
    }


def _message(body: bytes) -> str:
    """The message of an error response, on one line."""
    try:
        text = str(oip_codec.parse(body)["error"])
    except (ProtocolError, KeyError):
        text = body.decode(errors="replace")
    return " ".join(text.split())[:300] or "nothing"
