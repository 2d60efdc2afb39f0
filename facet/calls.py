"""Every call as data: what is sent, and how the answer is read. Nothing here sends anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from facet import answers, sources
from facet.results import Encoding, Face, Model, Origin, Pictures
from facet.sources import ImageSource

T = TypeVar("T")
Attributes: TypeAlias = Mapping[str, float | None] | Sequence[float | None]
Source: TypeAlias = "ImageSource | Face"
PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Output: TypeAlias = Literal["photo", "face"]

JSON = "application/json"


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, not yet sent. Parameters that are None are left out, so that the service's own defaults hold."""

    method: str
    path: str
    parse: Callable[[dict[str, Any]], T] | None  # of a JSON body; None where the answer is a picture
    accept: str = JSON
    image: bytes | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request as `http` will send it: a form where there is a picture, else JSON."""
        given, headers = self._given, {"Accept": self.accept}
        if self.method == "GET":
            return http.build_request("GET", self.path, headers=headers)
        if self.image is None:
            headers["Content-Type"] = JSON
            return http.build_request(self.method, self.path, headers=headers, content=_json(given))
        files = {"image": ("image", self.image, "application/octet-stream")}
        form = {name: value if isinstance(value, str) else _json(value) for name, value in given.items()}
        return http.build_request(self.method, self.path, headers=headers, data=form, files=files)

    def values(self) -> dict[str, Any]:
        """The parameters as a JSON body holds them."""
        return json.loads(_json(self._given))

    def read(self, response: httpx.Response) -> T:
        """The result. Raises ServiceError or UnexpectedAnswer."""
        return answers.read(response, self.parse)

    @property
    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in self.parameters.items() if value is not None}


def encode(
    image: ImageSource,
    *,
    attributes: Attributes | None = None,
    face: int | Literal["all"] | None = None,
    framed: bool | None = None,
    model: str | None = None,
) -> Call[Encoding]:
    """What the faces of a picture show: box, landmarks, latent and attributes.

    `image` is a path, bytes, an open binary file, a Pillow image or a `Picture`. `attributes` (-1 absent to 1 present,
    by name or all in the model's order) are those that are known; the rest is estimated. `face` is 0 for the largest,
    or `all`, the default. `framed` says whether the picture is a face in the model's frame already; None lets the
    service tell by its size.

    Raises FacetError, and OSError for a file that cannot be read.
    """
    parameters = {"attributes": attributes, "face": face, "framed": framed, "model": model}
    return Call("POST", "/v1/encode", answers.encoding, image=sources.read(image), parameters=parameters)


def generate(
    attributes: Attributes | None = None,
    *,
    count: int | None = None,
    seed: int | None = None,
    temperature: float | None = None,
    latents: Sequence[Sequence[float]] | None = None,
    size: int | None = None,
    format: PictureFormat = "png",
    quality: int | None = None,
    grid: bool = False,
    model: str | None = None,
) -> Call[Pictures]:
    """Draw `count` faces (1 by default) with these attributes; those not named are drawn so that they go with them.

    The same `seed` gives the same faces; left out, one is drawn and told. `temperature` runs from 0, the mean latent,
    to 2. `latents` are decoded instead of drawn ones. `size` is the side of each picture in pixels, the model's own if
    left out. `grid` gives all faces as one picture. `quality`, 1 to 100, is for JPEG and WebP.

    Raises FacetError.
    """
    parameters = {
        "attributes": attributes,
        "count": count,
        "seed": seed,
        "temperature": temperature,
        "latents": latents,
        "size": size,
        "quality": quality,
        "model": model,
    }
    return _pictures("/v1/generate", None, parameters, format, listed=not grid)


def edit(
    image: Source | None,
    attributes: Attributes,
    *,
    strength: float | None = None,
    face: int | Literal["all"] | None = None,
    framed: bool | None = None,
    output: Output | None = None,
    others: Sequence[Mapping[str, Any]] | None = None,
    variants: Sequence[Attributes] | None = None,
    region: Sequence[float] | None = None,
    size: int | None = None,
    latent: Sequence[float] | None = None,
    source_attributes: Attributes | None = None,
    format: PictureFormat | None = None,
    quality: int | None = None,
    grid: bool = False,
    experimental: bool | None = None,
    keep_metadata: bool | None = None,
    model: str | None = None,
) -> Call[Pictures]:
    """Change the attributes of a face; what is not named stays as it is.

    `image` is a path, bytes, an open binary file, a Pillow image or a `Picture`; or a `Face` that was encoded before;
    or None, with its `latent` and `source_attributes`. `strength` t, 0 to 2, goes that part of the way. `face` is 0 for
    the largest, the default, or `all`. `output` is `photo`, the default with a picture: that picture, edited, in its
    own format unless `format` names another; or `face`: the bare face as the model draws it, one for each face, or
    with `grid` all of them as one picture. `source_attributes` say what the face shows, if known better than estimated.
    `experimental` lets a photograph be edited in directions that the model lists as experimental; else those are an
    error that says why. An edited photograph drops its EXIF data, which tell of places and devices, unless
    `keep_metadata`. `framed` is as in `encode`; `quality` as in `generate`, but that an edited JPEG keeps its own.

    `others` are further faces of the photograph to edit: mappings of `face`, `attributes` and, if wanted, `strength`.
    `variants` gives one picture for each of these attributes, which are added to `attributes`. `region` is the part of
    the photograph to return: left, top, right and bottom in shares of its width and height. `size` is the longest side
    of a photograph in pixels at most.

    Raises FacetError, and OSError for a file that cannot be read.
    """
    picture, current = _source(image, latent, source_attributes)
    parameters = current | {
        "attributes": attributes,
        "strength": strength,
        "experimental": experimental,
        "keep_metadata": keep_metadata,
        "face": face,
        "framed": framed,
        "output": output,
        "others": others,
        "variants": variants,
        "region": region,
        "size": size,
        "quality": quality,
        "model": model,
    }
    drawn = picture is None or output == "face" or bool(variants)
    return _pictures("/v1/edit", picture, parameters, format or ("png" if drawn else None), listed=drawn and not grid)


def sweep(
    image: Source | None,
    attribute: str | Sequence[str],
    *,
    target: float | None = None,
    start: float | None = None,
    stop: float | None = None,
    steps: int | None = None,
    layout: Literal["strip", "frames", "animation"] = "strip",
    size: int | None = None,
    region: Sequence[float] | None = None,
    milliseconds: int | None = None,
    face: int | None = None,
    framed: bool | None = None,
    output: Output | None = None,
    latent: Sequence[float] | None = None,
    source_attributes: Attributes | None = None,
    seed: int | None = None,
    attributes: Attributes | None = None,
    format: Literal["png", "jpeg", "webp", "gif"] | None = None,
    quality: int | None = None,
    experimental: bool | None = None,
    model: str | None = None,
) -> Call[Pictures]:
    """Change one attribute gradually, from t = `start` (0: as it is) to `stop` (1: at `target`) in `steps`.

    Two attributes make a grid, the first across and the second down. The face is that of `image`, as in `edit`; with
    None it is drawn from `seed` and `attributes`. `layout` is `strip`, one labelled picture; `frames`, one picture for
    each step, row by row; or `animation`, WebP or GIF with `milliseconds` for each frame. `size` is the longest side of
    each picture in pixels. `region` and the rest is as in `edit`.

    Raises FacetError, and OSError for a file that cannot be read.
    """
    picture, current = _source(image, latent, source_attributes)
    parameters = current | {
        "attribute": attribute,
        "target": target,
        "start": start,
        "stop": stop,
        "steps": steps,
        "layout": layout,
        "size": size,
        "region": region,
        "milliseconds": milliseconds,
        "face": face,
        "framed": framed,
        "output": output,
        "seed": seed,
        "attributes": attributes,
        "quality": quality,
        "experimental": experimental,
        "model": model,
    }
    usual = "webp" if layout == "animation" else "png"
    return _pictures("/v1/sweep", picture, parameters, format or usual, listed=layout == "frames")


def verify(image: ImageSource) -> Call[Origin]:
    """What a picture, as in `encode`, says about its origin.

    Raises FacetError, and OSError for a file that cannot be read.
    """
    return Call("POST", "/v1/verify", answers.origin, image=sources.read(image))


def models() -> Call[tuple[Model, ...]]:
    """Every loaded model, by name. Raises FacetError."""
    return Call("GET", "/v1/models", answers.models)


def model(name: str) -> Call[Model]:
    """One loaded model. Raises FacetError: ModelNotFound where there is none of that name."""
    return Call("GET", f"/v1/models/{quote(name, safe='')}", answers.model)


def _source(
    image: Source | None, latent: Sequence[float] | None, source_attributes: Attributes | None
) -> tuple[bytes | None, dict[str, Any]]:
    """The picture to send, if any, and the parameters that describe the face as it is."""
    if isinstance(image, Face):
        latent = image.latent if latent is None else latent
        source_attributes = image.attributes if source_attributes is None else source_attributes
        image = None
    current = {"latent": latent, "source_attributes": source_attributes}
    return None if image is None else sources.read(image), current


def _pictures(
    path: str, image: bytes | None, parameters: dict[str, Any], kind: str | None, listed: bool
) -> Call[Pictures]:
    """Asks for JSON where several pictures or their attributes come back, else for the picture itself; as what it was
    if `kind` is None. Base64 would make a photo a third larger."""
    if listed:
        return Call("POST", path, answers.listed_pictures, image=image, parameters=parameters | {"format": kind})
    accept = f"image/{kind or '*'}"
    return Call("POST", path, None, accept, image, parameters)


def _json(value: Any) -> str:
    # NaN is let through: the service refuses it and names the field.
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, and mappings that are no dict."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{value!r} is of the type {type(value).__name__}, which a request cannot carry")
