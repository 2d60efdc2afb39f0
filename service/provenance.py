"""Where pictures come from: every one that leaves says so, and any one can be asked.

The EU's AI Act, article 50, asks that synthetic pictures be marked for machines. The words are IPTC's, from its
vocabulary of digital source types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

import numpy as np

from service import credentials, images, sheets, watermark, xmp
from service.credentials import Agent, Credentials, Statement
from service.images import OutputFormat, Photo
from service.version import VERSION

_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SYSTEM = "Facet"


class SourceType(StrEnum):
    """What of a picture a model drew: all of it, or a part of a photograph."""

    GENERATED = f"{_TERMS}trainedAlgorithmicMedia"
    EDITED = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"


# Further terms for pictures that no camera took and no hand drew.
_SYNTHETIC = {
    *(term.rpartition("/")[2] for term in SourceType),
    "algorithmicMedia",
    "compositeSynthetic",
    "trainedAlgorithmicData",
}


@dataclass(frozen=True)
class Origin:
    """Encodes the pictures of one answer so that each says what it is: `source_type`, made by `agent`.

    With `credentials` they are signed as well; `original` is the photograph that they are edits of. What a model drew
    whole gets a watermark too, if it is large enough; a photograph keeps its pixels wherever it was not edited.
    """

    source_type: SourceType
    agent: Agent
    credentials: Credentials | None = None
    original: bytes | None = None
    watermarked: bool = False

    @property
    def packet(self) -> bytes:
        """The XMP that the pictures carry."""
        return _packet(self.source_type, self.agent)

    def encode(self, pixels: np.ndarray, kind: OutputFormat, quality: int) -> bytes:
        """As `images.encode`. Raises a 503 Problem where no signature can be had."""
        if self._drawn_whole:
            pixels = watermark.embed(pixels)
        return self._signed(images.encode(pixels, kind, quality, self.packet), kind)

    def encode_photo(self, photo: Photo, kind: OutputFormat, quality: int) -> bytes:
        """As `images.encode_photo`. Raises a 503 Problem where no signature can be had."""
        return self._signed(images.encode_photo(photo, kind, quality, self.packet), kind)

    def animation(self, frames: np.ndarray, kind: Literal["webp", "gif"], milliseconds: int, quality: int) -> bytes:
        """As `sheets.animation`. Raises a 503 Problem where no signature can be had."""
        if self._drawn_whole:
            frames = np.stack([watermark.embed(frame) for frame in frames])
        return self._signed(sheets.animation(frames, kind, milliseconds, quality, self.packet), kind)

    @property
    def _drawn_whole(self) -> bool:
        return self.watermarked and self.source_type is SourceType.GENERATED

    def _signed(self, data: bytes, kind: str) -> bytes:
        if self.credentials is None:
            return data
        return self.credentials.sign(data, f"image/{kind}", self.source_type, self.agent, self.original)


@lru_cache
def _packet(source_type: SourceType, agent: Agent) -> bytes:
    return xmp.packet(xmp.Mark(source_type, agent.name, agent.version, f"{_SYSTEM} {VERSION}"))


@dataclass(frozen=True)
class Findings:
    """What a picture of `width` x `height` pixels says about its origin.

    `mark` is what its XMP tells, and `statement` its manifest, each None where there is none; `score` that of
    `service.watermark`, None where the picture is too small. `checked` names what was looked for.
    """

    width: int
    height: int
    mark: xmp.Mark | None
    statement: Statement | None
    score: float | None
    checked: list[str]

    @property
    def watermarked(self) -> bool:
        return self.score is not None and self.score >= watermark.THRESHOLD

    @property
    def synthetic(self) -> Literal[True] | None:
        """Whether something says that a program drew it, or a part of it. Never False: nothing proves the contrary."""
        terms = [self.mark.digital_source_type] if self.mark else []
        terms += self.statement.digital_source_types if self._sound else []
        named = self.watermarked or (self.mark is not None and bool(self.mark.system))
        return named or any(_is_synthetic(term) for term in terms) or None

    @property
    def facet(self) -> bool:
        """Whether something names Facet."""
        names = [self.mark.system if self.mark else None, self.statement.generator if self._sound else None]
        return self.watermarked or any((name or "").partition(" ")[0] == _SYSTEM for name in names)

    @property
    def _sound(self) -> bool:
        return self.statement is not None and self.statement.state != "Invalid"


def _is_synthetic(term: str | None) -> bool:
    return term is not None and term.rpartition("/")[2] in _SYNTHETIC


def examine(data: bytes, max_pixels: int, own: Credentials | None = None) -> Findings:
    """What an encoded picture says about its origin; what `own` signed is trusted. Raises ImageErrors."""
    image, mark = images.decode_marked(data, max_pixels)
    readable = credentials.installed()
    statement = credentials.read(data, own) if readable else None
    score = watermark.score(image)
    looked = {"xmp": True, "c2pa": readable, "watermark": score is not None}
    checked = [name for name, done in looked.items() if done]
    return Findings(image.width, image.height, mark, statement, score, checked)
