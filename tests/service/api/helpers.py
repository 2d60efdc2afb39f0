"""Requests to the operations on faces, and what tests read from the responses.

The fake encoder's latent is the picture's level of grey and its estimates are 0.25; the fake decoder paints the level
128 + 100 * Smiling + the first latent value.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
from PIL import Image

from service.faces.detector import FoundFace
from tests.service.fakes import ATTRIBUTES, LATENT_MEAN, TestClient, encoded, grey, pixels

PNG = {"Accept": "image/png"}
JSON = {"Accept": "application/json"}
WORK = ("/v1/encode", "/v1/generate", "/v1/edit")
MEAN_FACE = 128 + int(LATENT_MEAN[0])
LANDMARKS = [(69, 111), (108, 111), (89, 130), (73, 152), (105, 152)]  # of the tiny bundle
ALL_GIVEN = dict.fromkeys(ATTRIBUTES, -1) | {"Smiling": 0.5}


def generate(client: TestClient, headers: dict[str, str] = PNG, **params: Any) -> httpx.Response:
    return client.post("/v1/generate", json=params, headers=headers)


def edit(client: TestClient, level: int = 20, headers: dict[str, str] = PNG, **params: Any) -> httpx.Response:
    """A form with a grey photo; structured parameters as JSON text."""
    params = {"output": "face"} | params
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    return client.post("/v1/edit", files={"image": ("face.png", grey(level))}, data=data, headers=headers)


def edit_photo(client: TestClient, data: bytes, headers: dict[str, str] = PNG, **params: Any) -> httpx.Response:
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    return client.post("/v1/edit", files={"image": ("photo", data)}, data=form, headers=headers)


def level_of(response: httpx.Response) -> int:
    """The level of a picture that is one flat grey."""
    assert response.status_code == 200, response.text
    found = np.unique(pixels(response.content))
    assert len(found) == 1
    return int(found[0])


def facts(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def levels(response: httpx.Response) -> list[int]:
    """The level of each picture in a JSON response."""
    return [int(pixels(base64.b64decode(image["data"]))[0, 0, 0]) for image in facts(response)["images"]]


def stages(response: httpx.Response) -> list[str]:
    return [part.partition(";dur=")[0] for part in response.headers["server-timing"].split(", ")]


class Pair:
    """A detector that finds two faces: the left half of the picture, and the right."""

    def detect(self, image: Image.Image, largest: bool = False, reduction: float = 1.0) -> list[FoundFace]:
        template = (np.array(LANDMARKS) - [15, 40]) / 148  # in the crop, as shares
        side = image.height
        return [FoundFace(0.9, (x, 0, x + side, side), template * side + [x, 0]) for x in (image.width - side, 0)]


def two_faces(left: int, right: int) -> bytes:
    picture = Image.new("RGB", (400, 200), (left,) * 3)
    picture.paste((right,) * 3, (200, 0, 400, 200))
    return encoded(picture, "PNG")
