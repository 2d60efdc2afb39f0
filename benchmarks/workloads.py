"""What servers are loaded with: drawn pictures, and requests made from them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.load import Request
from benchmarks.processes import Instance
from benchmarks.request_formats import FACET, RequestFormat

# Width and height of a photograph of a megapixel, and of what the page shows of one.
WHOLE, PREVIEW = (1152, 864), (896, 672)
_PREVIEW_QUALITY = 90  # as the page asks for
_STEPS = 97  # values of a slider


def manifest_of(bundle: Path) -> dict:
    """The manifest of a bundle, unchecked."""
    return json.loads((bundle / "manifest.json").read_text())


def portrait(seed: int, width: int, height: int) -> bytes:
    """A JPEG with about as much detail as a portrait, some 10 kB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(picture, dtype=np.int16) + rng.integers(-6, 7, (height, width, 3))
    return _jpeg(noisy)


def portraits(bundle: Path, count: int) -> list[bytes]:
    """`count` different portraits in the size of the aligned pictures of a bundle."""
    return [portrait(seed, *manifest_of(bundle)["frame"]["aligned_size"]) for seed in range(count)]


def photograph(face: Image.Image, width: int = 4000, height: int = 3000) -> bytes:
    """A JPEG with the size and the grain of a camera's, and `face` in it, half as wide as the picture is high."""
    sheet = Image.new("RGB", (width, height), "grey")
    size = (height // 2, height * face.height // (2 * face.width))
    sheet.paste(face.convert("RGB").resize(size, Image.Resampling.BICUBIC), (width // 4, height // 6))
    # Without grain the file would be far smaller than a camera's.
    return _jpeg(np.asarray(sheet) + np.random.default_rng(0).normal(0, 6, (height, width, 1)).astype(np.float32))


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def photo_edit(picture: bytes, request_format: RequestFormat = FACET) -> Request:
    """An edit of a JPEG that is pasted back; JPEG in and out."""
    return request_format.photograph({"Smiling": 1.0}, picture)


def never_seen(picture: bytes, count: int) -> list[bytes]:
    """JPEG files with the same picture whose bytes differ in a comment, so that no cache knows them."""
    return [picture[:2] + b"\xff\xfe\x00\x08" + b"%06d" % number + picture[2:] for number in range(count)]


def slider_values(steps: int = _STEPS) -> list[float]:
    """What a slider is at while it goes from end to end and back, each value once."""
    there, back = np.linspace(-1, 1, steps // 2 + 1), np.linspace(0.97, -0.97, steps // 2)
    return [round(float(value), 3) for value in np.concatenate([there, back])]


def kept_slider(handle: str, steps: int = _STEPS) -> list[Request]:
    """The edits of a photograph that Facet keeps while a slider moves."""
    bodies = [
        {"photo": handle, "attributes": {"Smiling": v}, "quality": _PREVIEW_QUALITY} for v in slider_values(steps)
    ]
    headers = {"Accept": "image/jpeg"}
    return [Request.post("/v1/edit", "application/json", json.dumps(body).encode(), headers) for body in bodies]


def keep(server: Instance, picture: bytes) -> str:
    """The handle of a photograph that Facet keeps."""
    with server.client as client:
        answer = client.post("/v1/photos", content=picture, headers={"Content-Type": "image/jpeg"})
        return answer.raise_for_status().json()["photo"]


def in_turn(sliders: list[list[Request]]) -> list[Request]:
    """The steps of several visitors, whose sliders move at the same time."""
    return [step for steps in zip(*sliders, strict=True) for step in steps]


def workloads(request_format: RequestFormat, manifest: dict, pictures: list[bytes]) -> dict[str, list[Request]]:
    """Requests by workload: a generated PNG, an edited JPEG, and both in turn."""
    # Adding an experimental attribute would be refused.
    names = [each["name"] for each in manifest["attributes"] if "added" not in each.get("experimental", {})]
    generate, edit = [], []
    for number, picture in enumerate(pictures):
        attributes = {names[number % len(names)]: 1.0}
        generate.append(request_format.generate(attributes, number))
        edit.append(request_format.edit(attributes, picture))
    mixed = [request for pair in zip(generate, edit, strict=True) for request in pair]
    return {"generate": generate, "edit": edit, "mixed": mixed}


def facet_workloads(bundle: Path, count: int = 16) -> dict[str, list[Request]]:
    """The same for Facet, from `count` pictures."""
    return workloads(FACET, manifest_of(bundle), portraits(bundle, count))
