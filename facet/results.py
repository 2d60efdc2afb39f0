"""What calls give back."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from facet import files

if TYPE_CHECKING:
    from PIL.Image import Image

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """A face of a picture that was encoded. Given to `edit` or `sweep`, it stands for its latent and attributes.

    `box` is left, top, right, bottom in pixels of the upright picture; `landmarks` are the left eye, the right eye, the
    nose, the left and the right corner of the mouth, None for a face that was framed already. `latent` and
    `log_variance` have one number for each of the model's latent dimensions; `attributes` run from -1 to 1. `score`, 0
    to 1, is the detector's, None for a face that was framed already.
    """

    box: Box
    landmarks: tuple[Point, ...] | None
    latent: list[float] = field(repr=False)
    log_variance: list[float] = field(repr=False)
    attributes: dict[str, float]
    score: float | None = None


@dataclass(frozen=True)
class Encoding:
    """A picture's faces, the largest first; `width` and `height` in pixels; `model` is name@version."""

    model: str
    width: int
    height: int
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class Picture:
    """An encoded picture. `attributes` tells what its one face shows; None for a photo, a grid, a strip or a film."""

    data: bytes = field(repr=False)
    media_type: str
    attributes: dict[str, float] | None = None

    def image(self) -> Image:
        """The picture for Pillow."""
        from PIL import Image

        return Image.open(io.BytesIO(self.data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file that appears whole or not at all.

        Raises OSError, and ValueError where the suffix is that of another format: nothing is encoded a second time.
        """
        path = Path(path)
        kind = self.media_type.partition("/")[2]
        expected = files.FORMATS.get(path.suffix.lower(), kind)
        if expected != kind:
            raise ValueError(f"{path}: the picture is {self.media_type}; call with format={expected!r} for that suffix")
        files.write(path, self.data)


@dataclass(frozen=True)
class Pictures(Sequence[Picture]):
    """What one call drew, a sequence; a single picture can be saved or opened right here.

    `model` is name@version; `seed` draws the same faces again, None where nothing was drawn by chance.
    """

    pictures: tuple[Picture, ...]
    model: str
    seed: int | None = None

    @property
    def one(self) -> Picture:
        """The only picture. Raises ValueError where there are several."""
        if len(self.pictures) != 1:
            raise ValueError(f"there are {len(self.pictures)} pictures: take one of them, or call with grid=True")
        return self.pictures[0]

    def image(self) -> Image:
        """The only picture, as `Picture.image`."""
        return self.one.image()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the only picture, as `Picture.save`."""
        self.one.save(path)

    def __len__(self) -> int:
        return len(self.pictures)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    @overload
    def __getitem__(self, place: int) -> Picture: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Picture]: ...
    def __getitem__(self, place: int | slice) -> Picture | Sequence[Picture]:
        return self.pictures[place]


@dataclass(frozen=True)
class Attribute:
    """An attribute that a model knows. Those of one `group` exclude each other.

    Sensitive ones that are not `enabled` the service neither takes nor tells. `experimental` tells the directions,
    `added` and `removed`, in which photographs are edited only with `experimental=True`, and why.
    """

    name: str
    description: str
    group: str | None
    sensitive: bool
    enabled: bool = True
    experimental: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Model:
    """A loaded model. Sizes in pixels: of the square face that it draws, and of an aligned picture.

    `editor_size` is that of the square picture that its editor sees; None for a model without one.
    """

    name: str
    version: str
    description: str
    default: bool
    device: str
    image_size: int
    aligned_size: tuple[int, int]
    latent_size: int
    attributes: tuple[Attribute, ...]
    weights_licence: str
    evaluation: dict[str, Any] = field(repr=False)
    editor_size: int | None = None


@dataclass(frozen=True)
class Origin:
    """What a picture says about its origin; the fields of `POST /v1/verify` (docs/api.md).

    `synthetic` is True or None, never False: that nothing is found proves nothing. `xmp`, `c2pa` and `watermark` are
    None where there is no such mark, or where it was not looked for; `checked` says which were.
    """

    width: int
    height: int
    synthetic: bool | None
    facet: bool
    checked: list[str]
    xmp: dict[str, Any] | None
    c2pa: dict[str, Any] | None
    watermark: dict[str, Any] | None
    note: str
