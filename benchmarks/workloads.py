"""What servers are loaded with: drawn pictures, and requests made from them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.load import Request
from benchmarks.request_formats import RawBody, RequestFormat

SMILE = "/v1/edit?attributes=%7B%22Smiling%22%3A1%7D"  # the path of an edit that adds a smile
_JPEG = {"Accept": "image/jpeg"}


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


def photo_edit(picture: bytes) -> Request:
    """An edit of a JPEG that is pasted back; JPEG in and out."""
    return Request.post(SMILE, "image/jpeg", picture, _JPEG)


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
    return workloads(RawBody(), manifest_of(bundle), portraits(bundle, count))
