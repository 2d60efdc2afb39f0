"""Request formats: the same requests, a face for attributes and a seed, an edit of an aligned JPEG, and one of the
face in a photograph, for each server."""

from __future__ import annotations

import base64
import json
import urllib.parse
from dataclasses import dataclass
from typing import Protocol

from benchmarks.load import Request

Attributes = dict[str, float]
_PNG, _JPEG = {"Accept": "image/png"}, {"Accept": "image/jpeg"}


class RequestFormat(Protocol):
    """Requests in the format of one kind of server. `ready` is the path that returns 200 once it is ready."""

    ready: str

    def generate(self, attributes: Attributes, seed: int) -> Request: ...

    def edit(self, attributes: Attributes, picture: bytes) -> Request: ...

    def photograph(self, attributes: Attributes, picture: bytes) -> Request: ...


def _json(path: str, value: object, headers: dict[str, str] | None = None) -> Request:
    return Request.post(path, "application/json", json.dumps(value).encode(), headers)


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@dataclass(frozen=True)
class RawBody:
    """Pictures as the request's body, pictures back: Facet, and servers whose handlers get the whole request.

    `photographs` is the path that edits these."""

    ready: str = "/readyz"
    photographs: str = "/v1/photograph"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return _json("/v1/generate", {"attributes": attributes, "seed": seed}, _PNG)

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return self._picture("/v1/edit", picture, _PNG, attributes=json.dumps(attributes), output="face")

    def photograph(self, attributes: Attributes, picture: bytes) -> Request:
        return self._picture(self.photographs, picture, _JPEG, attributes=json.dumps(attributes))

    @staticmethod
    def _picture(path: str, picture: bytes, headers: dict[str, str], **query: str) -> Request:
        return Request.post(f"{path}?{urllib.parse.urlencode(query)}", "image/jpeg", picture, headers)


@dataclass(frozen=True)
class Json:
    """One JSON object, pictures in base64, pictures back."""

    ready: str = "/health"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return _json("/v1/generate", {"attributes": attributes, "seed": seed})

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return _json("/v1/edit", {"attributes": attributes, "image": _base64(picture)})

    def photograph(self, attributes: Attributes, picture: bytes) -> Request:
        return _json("/v1/photograph", {"attributes": attributes, "image": _base64(picture)})


@dataclass(frozen=True)
class JsonBatch:
    """A JSON list with one item, for endpoints that batch; base64 both ways."""

    ready: str = "/readyz"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return _json("/v1/generate", {"items": [{"attributes": attributes, "seed": seed}]})

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return _json("/v1/edit", {"items": [{"attributes": attributes, "image": _base64(picture)}]})

    def photograph(self, attributes: Attributes, picture: bytes) -> Request:
        return _json("/v1/photograph", {"items": [{"attributes": attributes, "image": _base64(picture)}]})


@dataclass(frozen=True)
class OpenInference:
    """The Open Inference Protocol, version 2, with BYTES tensors of length one; base64 both ways."""

    ready: str = "/v2/health/ready"

    def generate(self, attributes: Attributes, seed: int) -> Request:
        return self._infer("generate", attributes=json.dumps(attributes), seed=str(seed))

    def edit(self, attributes: Attributes, picture: bytes) -> Request:
        return self._infer("edit", attributes=json.dumps(attributes), image=_base64(picture))

    def photograph(self, attributes: Attributes, picture: bytes) -> Request:
        return self._infer("photograph", attributes=json.dumps(attributes), image=_base64(picture))

    @staticmethod
    def _infer(model: str, **columns: str) -> Request:
        inputs = [
            {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]} for name, value in columns.items()
        ]
        return _json(f"/v2/models/{model}/infer", {"inputs": inputs})


FACET = RawBody(photographs="/v1/edit")
