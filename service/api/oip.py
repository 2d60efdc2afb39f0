"""The Open Inference Protocol (KServe's V2): each graph of a bundle as a model of its own.

Requests share batchers, deadlines and metrics with `/v1`. Errors have the protocol's own shape.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.openapi import PROTOCOL, protocol_errors
from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.api.service import Admitted, Current, Service, Shared
from service.api.uploads import MAX_JSON_BYTES, compression_of
from service.errors import Problem, printable
from service.inference import oip_codec
from service.inference.oip_codec import DISABLED_ATTRIBUTES, HEADER_LENGTH, Arrays, Graph, ProtocolError
from service.pipeline.pipeline import ModelLease
from service.system import VERSION

_OPERATIONS = {"encoder": "encode", "decoder": "decode", "editor": "edit_fields", "prior": "draw_latents"}
_LONGEST_ID = 256

router = APIRouter(prefix=PROTOCOL, tags=["Open Inference Protocol"])


_NAME = Path(description="`<bundle>-encoder`, `<bundle>-decoder`, and of bundles that have them `-editor`, `-prior`")
_VERSION = Path(description="the bundle's version")


async def _graph(request: Request, service: Shared, context: Current, name: Annotated[str, _NAME]) -> Graph:
    """The graph of that name in the bundle's loaded version. Raises Problem 401, 403 or 404."""
    service.access.check(request.headers, context, "use")
    for model in service.models.all():
        for kind in model.manifest.graph_kinds:
            if name == f"{model.manifest.name}-{kind}":
                return Graph.of(model.manifest, kind)
    names = [f"{model.manifest.name}-{kind}" for model in service.models.all() for kind in model.manifest.graph_kinds]
    raise Problem(404, f"model {name[:80]!r}: no such model; there are {', '.join(names)}")


async def _graph_version(graph: Annotated[Graph, Depends(_graph)], version: Annotated[str, _VERSION]) -> Graph:
    """The graph of that name, if it has that version. Raises a 404 Problem."""
    if version != graph.version:
        raise Problem(404, f"model {graph.name!r}: has no version {version[:80]!r}; there is {graph.version}")
    return graph


Requested = Annotated[Graph, Depends(_graph)]
RequestedVersion = Annotated[Graph, Depends(_graph_version)]


@router.get("", summary="Server metadata")
async def server_metadata() -> dict[str, Any]:
    return {"name": "facet", "version": VERSION, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", responses=protocol_errors(503), summary="Liveness")
async def live(service: Shared) -> dict[str, bool]:
    if dead := service.models.dead():
        raise Problem(503, f"the worker of {dead} died")
    return {"live": True}


@router.get("/health/ready", responses=protocol_errors(503), summary="Readiness")
async def ready(service: Shared) -> dict[str, bool]:
    if not await service.is_ready():
        raise Problem(503, "not ready")
    return {"ready": True}


@router.get("/models/{name}", responses=protocol_errors(401, 403, 404), summary="Model metadata")
async def metadata(graph: Requested, service: Shared) -> dict[str, Any]:
    return _metadata(graph, service)


@router.get(
    "/models/{name}/versions/{version}", responses=protocol_errors(401, 403, 404), summary="Metadata of a version"
)
async def version_metadata(graph: RequestedVersion, service: Shared) -> dict[str, Any]:
    return _metadata(graph, service)


def _metadata(graph: Graph, service: Service) -> dict[str, Any]:
    """The metadata of the protocol, with the disabled sensitive attributes, if there are any."""
    disabled = ",".join(service.models.get(graph.bundle).disabled.columns)
    return graph.metadata() | ({"parameters": {DISABLED_ATTRIBUTES: disabled}} if disabled else {})


@router.get("/models/{name}/ready", responses=protocol_errors(401, 403, 404, 503), summary="Readiness of a model")
async def model_ready(graph: Requested, service: Shared) -> dict[str, Any]:
    if not service.ready or not service.models.get(graph.bundle).ready:
        raise Problem(503, f"model {graph.name!r} is not ready")
    return {"name": graph.name, "ready": True}


@router.get(
    "/models/{name}/versions/{version}/ready",
    responses=protocol_errors(401, 403, 404, 503),
    summary="Readiness of a version",
)
async def version_ready(graph: RequestedVersion, service: Shared) -> dict[str, Any]:
    return await model_ready(graph, service)


_TENSORS = {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}}
_INFER: dict[str, Any] = {
    "response_class": Response,
    "responses": {200: {"content": _TENSORS}} | protocol_errors(400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504),
    "openapi_extra": {"requestBody": {"required": True, "content": _TENSORS}},
}


@router.post("/models/{name}/infer", summary="Run a graph", **_INFER)
async def infer(request: Request, graph: Requested, service: Shared, context: Admitted) -> Response:
    lease = service.lease(context, graph.bundle, graph.kind)
    try:
        header, binary = await _read(request)
        inputs = oip_codec.read(header, "inputs", binary, graph.inputs)
        _check_values(graph, inputs)
        params = oip_codec.requested(header, graph.outputs)
        context.timeout = min(context.timeout, oip_codec.seconds(header))
        answer = {"model_name": graph.name, "model_version": graph.version} | _id(header)
    except ProtocolError as exc:
        raise Problem(400, str(exc), [{"field": exc.field, "value": printable(exc.value), "rule": exc.rule}]) from exc
    rows = len(next(iter(inputs.values())))
    context.charge(rows)
    outputs = await _run(lease, graph, inputs)
    context.count(_OPERATIONS[graph.kind], rows)
    return await _respond(service, answer, {name: outputs[name] for name in params}, params)


@router.post("/models/{name}/versions/{version}/infer", summary="Run a version of a graph", **_INFER)
async def version_infer(request: Request, graph: RequestedVersion, service: Shared, context: Admitted) -> Response:
    return await infer(request, graph, service, context)


async def _read(request: Request) -> tuple[dict[str, Any], memoryview]:
    """The JSON of a request and the bytes after it. Raises ProtocolError, and Problem 413 and 415."""
    if compressed := compression_of(request.headers):
        name, coding = compressed
        raise Problem(415, f"{name} {coding[:80]!r}: bodies must not be compressed")
    text, binary = oip_codec.split(await request.body(), request.headers.get(HEADER_LENGTH))
    if len(text) > MAX_JSON_BYTES:
        rule = f"at most {MAX_JSON_BYTES} bytes of JSON are accepted; send tensors as bytes ({HEADER_LENGTH})"
        raise Problem(413, f"body: has {len(text)} bytes of JSON; {rule}")
    return oip_codec.parse(text), binary


def _check_values(graph: Graph, inputs: Arrays) -> None:
    """Raises ProtocolError for values that are not finite, but for NaN: attributes that the encoder should estimate."""
    for name, array in inputs.items():
        unknown = graph.kind == "encoder" and name == "attributes"
        if array.dtype.kind == "f" and not (np.isfinite(array) | (unknown & np.isnan(array))).all():
            rule = "must be finite, or NaN where unknown" if unknown else "must be finite"
            raise ProtocolError(f"inputs.{name}", None, rule)


def _id(header: dict[str, Any]) -> dict[str, str]:
    value = header.get("id")
    if value is None:
        return {}
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        raise ProtocolError("id", value, f"must be a string of at most {_LONGEST_ID} characters")
    return {"id": value}


async def _run(lease: ModelLease, graph: Graph, inputs: Arrays) -> Arrays:
    """Run a graph. The values of disabled sensitive attributes are ignored, as the tensors cannot leave them out.

    For these attributes, the encoder returns 0, decoder and prior get their expectation given the others, and the
    editor gets no change.
    """
    disabled = list(lease.model.disabled.columns.values())
    if graph.kind == "editor":
        change = inputs["change"].copy()
        change[:, disabled] = 0.0
        return await lease.model.edit(inputs["image"], change, lease.context)
    attributes = inputs["attributes"]
    if disabled:
        attributes = attributes.copy()
        attributes[:, disabled] = np.nan
    if graph.kind == "encoder":
        outputs = await lease.model.encode(inputs["image"], attributes, lease.context)
        if disabled:
            outputs = outputs | {"attribute_estimates": outputs["attribute_estimates"].copy()}
            outputs["attribute_estimates"][:, disabled] = 0.0
        return outputs
    if disabled:
        attributes = np.stack([lease.model.sampler.expected(row) for row in attributes])
    if graph.kind == "prior":
        return {"latent": await lease.model.run_prior(inputs["noise"], attributes, lease.context)}
    return {"image": await lease.model.decode(inputs["latent"], attributes, lease.context)}


async def _respond(service: Service, answer: dict[str, Any], outputs: Arrays, params: dict[str, bool]) -> Response:
    binary = [name for name, as_bytes in params.items() if as_bytes]
    if len(binary) == len(params):
        body, length = oip_codec.write(answer, "outputs", outputs, binary)
    else:  # converting numbers to text takes long
        body, length = await service.codecs.run(oip_codec.write, answer, "outputs", outputs, binary)
    if length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={HEADER_LENGTH: str(length)}, media_type="application/octet-stream")


class ErrorShape:
    """Middleware that converts every problem on the protocol's paths to the protocol's shape, `{"error": "..."}`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and (scope["path"] == PROTOCOL or scope["path"].startswith(f"{PROTOCOL}/"))
        await self._app(scope, receive, _Reshaped(send) if ours else send)


class _Reshaped:
    """The `send` of a response. A problem is buffered until it is complete."""

    def __init__(self, send: Send) -> None:
        self._send, self._start, self._body = send, None, b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._answer()

    async def _answer(self) -> None:
        body = JSONResponse({"error": json.loads(self._body)["detail"]}).body
        headers = MutableHeaders(scope=self._start)
        headers["Content-Type"], headers["Content-Length"] = "application/json", str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _is_problem(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type") == PROBLEM_TYPE
