"""Hooks that give schemathesis what the OpenAPI document leaves to the model: names, lengths and pictures.

Requests that are meant to be accepted are completed with it, so that all of them have to be; those meant to be refused
stay as they are. Loaded by `benchmarks.faults.schema`, which passes the service's address.
"""

from __future__ import annotations

import base64
import io
import os
from typing import Any

import httpx
import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

from benchmarks.faults.schema import ADDRESS_VARIABLE

_KINDS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
_STRUCTURED = ("attributes", "source_attributes")


def _model() -> dict[str, Any]:
    models = httpx.get(f"{os.environ[ADDRESS_VARIABLE]}/v1/models").json()["models"]
    return next(model for model in models if model["default"])


MODEL = _model()
_NAMES = [attribute["name"] for attribute in MODEL["attributes"]]
_GROUPS = {attribute["name"]: attribute["group"] for attribute in MODEL["attributes"]}


def picture(seed: int, kind: str) -> bytes:
    """Noise in the size of a framed face."""
    width, height = MODEL["aligned_size"]
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(buffer, kind)
    return buffer.getvalue()


def _pictures(*kinds: str) -> st.SearchStrategy[bytes]:
    return st.builds(picture, st.integers(0, 9), st.sampled_from(kinds))


schemathesis.openapi.format("binary", _pictures(*_KINDS.values()))
for media_type, kind in _KINDS.items():
    schemathesis.openapi.media_type(media_type, _pictures(kind))
schemathesis.openapi.media_type("application/octet-stream", _pictures(*_KINDS.values()))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Leave the deadline out: those that schemathesis chooses are mostly over before anything could be done."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            operation["parameters"] = [each for each in operation["parameters"] if each["in"] != "header"]


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, **_: Any) -> None:
    """Complete a request that is meant to be accepted."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.path_parameters and "name" in case.path_parameters:
        case.path_parameters["name"] = MODEL["name"]
    if case.method == "POST" and case.query:
        case.query = {}  # they are what the body says, once more, and each may be said once
    if isinstance(case.body, dict):
        case.body = _sensible(case.operation.path, case.body, case.media_type)
    elif case.operation.path == "/v1/edit":
        case.query = {"attributes": '{"Smiling": 1}'}
    elif case.operation.path == "/v1/sweep":
        case.query = {"attribute": "Smiling"}
    # Else schemathesis would look again whether it is valid, and it takes nothing that holds bytes for valid.
    case._record_starting_state()


def _sensible(path: str, body: dict[str, Any], media_type: str | None) -> dict[str, Any]:
    named = "photo" in body  # what is kept, no schema can say
    body = {name: value for name, value in body.items() if name not in ("model", "framed", "face", "photo")}
    body.pop("others", None)  # further faces, of which the picture has none
    if media_type == "multipart/form-data":
        body.setdefault("image", picture(0, "PNG"))
        for name in ("latent", "seed"):
            body.pop(name, None)
    elif body.get("latent") is not None:
        # The latent's face stands for itself: there is no photograph to put it into.
        body["latent"] = _resized(body["latent"])
        body["source_attributes"] = dict.fromkeys(_NAMES, 0.5)
        body.pop("image", None)
        body.pop("seed", None)
    elif "image" in body or (named and body.get("seed") is None):
        body["image"] = base64.b64encode(picture(0, "PNG")).decode()
        body.pop("seed", None)
    if body.get("latent") is not None or body.get("seed") is not None:
        body.pop("output", None)
    if body.get("region") is not None:
        body["region"] = [0.0, 0.25, 0.5, 1.0]
    if path == "/v1/edit" and (body.get("output") == "face" or body.get("latent") is not None):
        for name in ("region", "size"):  # of photographs
            body.pop(name, None)
    for name in _STRUCTURED:
        if body.get(name) is not None:
            body[name] = _attributes(body[name], exclusive=name == "attributes")
    if isinstance(body.get("variants"), list):
        body["variants"] = [_attributes(each, exclusive=True) for each in body["variants"][:3]]
    if isinstance(body.get("latents"), list):
        body["latents"] = [_resized(latent) for latent in body["latents"][:3]]
    if "count" in body:
        body["count"] = min(body["count"], 3)
    if path == "/v1/sweep":
        body["attribute"] = _NAMES[: len(body["attribute"])] if isinstance(body.get("attribute"), list) else _NAMES[0]
        body["steps"] = min(body.get("steps", 2), 3)
        body["size"] = min(body.get("size", 32), 64)
    return body


def _resized(latent: list[float]) -> list[float]:
    return np.resize(np.asarray(latent or [0.0], dtype=float), MODEL["latent_size"]).tolist()


def _attributes(given: dict[str, Any] | list[Any], exclusive: bool) -> dict[str, Any] | list[Any]:
    """The same values for attributes of the model, of each group at most one present."""
    values = list(given.values()) if isinstance(given, dict) else given
    values = (values + [None] * len(_NAMES))[: len(_NAMES)]
    taken = set()
    for index, name in enumerate(_NAMES):
        if exclusive and _GROUPS[name] and values[index] is not None and values[index] > 0:
            if _GROUPS[name] in taken:
                values[index] = -1
            taken.add(_GROUPS[name])
    return dict(zip(_NAMES, values, strict=True)) if isinstance(given, dict) else values
