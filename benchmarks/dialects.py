"""How to ask each kind of server for the same thing: a face for attributes and a seed, an edit of a JPEG."""

from __future__ import annotations

import base64
import json
import urllib.parse
from dataclasses import dataclass
from typing import Protocol

from benchmarks.load import Request

Attributes = dict[str, float]
_PNG = {"Accept": "image/png"}


class Dialect(Protocol):
    """Requests as one kind of server wants them. `ready` is the path that answers 200 once it can work."""

    ready: str

    def generate(self, attributes: Attributes, seed: int) -> Request: ...

    def edit(self, attributes: Attributes, picture: bytes) -> Request: ...


def _json(path: str, value: object, headers: dict[str, str] | None = None) -> Request:
    return Request.post(path, "application/json", json.dumps(value).encode(), headers)


def _text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@dataclass(frozen=True)
class Bytes:
    """Pictures as the body itself, PNG back: Facet, and whatever gives its handlers the whole request."""

    ready: str = "/readyz"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return _json("/v1/generate", {"attributes": attributes, "seed": seed}, _PNG)

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        query = urllib.parse.urlencode({"attributes": json.dumps(attributes), "output": "face"})
        return Request.post(f"/v1/edit?{query}", "image/jpeg", picture, _PNG)


@dataclass(frozen=True)
class Json:
    """One JSON object, pictures in base64, PNG back."""

    ready: str = "/health"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return _json("/v1/generate", {"attributes": attributes, "seed": seed})

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return _json("/v1/edit", {"attributes": attributes, "image": _text(picture)})


@dataclass(frozen=True)
class JsonBatch:
    """A JSON list of one, as an endpoint that batches declares it; base64 both ways."""

    ready: str = "/readyz"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return _json("/v1/generate", {"asked": [{"attributes": attributes, "seed": seed}]})

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return _json("/v1/edit", {"asked": [{"attributes": attributes, "image": _text(picture)}]})


@dataclass(frozen=True)
class OpenInference:
    """The Open Inference Protocol, version 2, with BYTES tensors of length one; base64 both ways."""

    ready: str = "/v2/health/ready"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return self._infer("generate", attributes=json.dumps(attributes), seed=str(seed))

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return self._infer("edit", attributes=json.dumps(attributes), image=_text(picture))

    @staticmethod
    def _infer(model: str, **columns: str) -> Request:
        inputs = [
            {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]} for name, value in columns.items()
        ]
        return _json(f"/v2/models/{model}/infer", {"inputs": inputs})
