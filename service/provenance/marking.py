"""Provenance marks: every picture in a response is marked, and the marks of any picture can be read.

Article 50 of the EU's AI Act requires machine-readable marks in synthetic pictures. The terms are IPTC's digital source
types.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

import numpy as np

from service.imaging import codecs, contact_sheets, xmp
from service.imaging.codecs import OutputFormat, Photo
from service.provenance import c2pa, watermark
from service.provenance.c2pa import Agent, C2paManifest, Credentials
from service.system import VERSION

_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_SYSTEM = "Facet"


class SourceType(StrEnum):
    """Whether a model generated the whole picture, or edited a photograph."""

    GENERATED = f"{_TERMS}trainedAlgorithmicMedia"
    EDITED = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"


# With further terms for synthetic pictures.
_SYNTHETIC = {
    *(term.rpartition("/")[2] for term in SourceType),
    "algorithmicMedia",
    "compositeSynthetic",
    "trainedAlgorithmicData",
}


@dataclass(frozen=True)
class Origin:
    """Encodes the pictures of one response with marks of their `source_type` and `agent`.

    With `credentials`, they are signed as well, with the edited photograph `original` as ingredient. If `watermarked`,
    generated pictures that are large enough get a watermark. Edited photographs do not: their unedited pixels stay.
    """

    source_type: SourceType
    agent: Agent
    credentials: Credentials | None = None
    original: bytes | None = None
    watermarked: bool = False

    @property
    def packet(self) -> bytes:
        """The XMP packet of the pictures."""
        return _packet(self.source_type, self.agent)

    def encode(self, pixels: np.ndarray, kind: OutputFormat, quality: int | None) -> bytes:
        """As service.imaging.codecs.encode. Raises a 503 Problem if signing fails."""
        if self._gets_watermark:
            pixels = watermark.embed(pixels)
        return self._signed(codecs.encode(pixels, kind, quality, self.packet), kind)

    def encode_photo(
        self,
        photo: Photo,
        kind: OutputFormat,
        quality: int | None = None,
        keep_metadata: bool = False,
        changed: bool = True,
    ) -> bytes:
        """As service.imaging.codecs.encode_photo. Raises a 503 Problem if signing fails.

        Where nothing `changed`, it is the file `original` with the mark, unless another format or quality is requested.
        """
        data = None
        if not changed and self.original is not None and (quality is None or kind == "png"):
            data = codecs.marked(self.original, kind, self.packet, keep_metadata)
        data = data or codecs.encode_photo(photo, kind, quality, self.packet, keep_metadata)
        return self._signed(data, kind)

    def animation(
        self, frames: np.ndarray, kind: Literal["webp", "gif"], milliseconds: int, quality: int | None
    ) -> bytes:
        """As service.imaging.contact_sheets.animation. Raises a 503 Problem if signing fails."""
        if self._gets_watermark:
            frames = np.stack([watermark.embed(frame) for frame in frames])
        return self._signed(contact_sheets.animation(frames, kind, milliseconds, quality, self.packet), kind)

    @property
    def _gets_watermark(self) -> bool:
        return self.watermarked and self.source_type is SourceType.GENERATED

    def _signed(self, data: bytes, kind: str) -> bytes:
        if self.credentials is None:
            return data
        return self.credentials.sign(data, f"image/{kind}", self.source_type, self.agent, self.original)


@lru_cache
def _packet(source_type: SourceType, agent: Agent) -> bytes:
    return xmp.packet(xmp.Mark(source_type, agent.name, agent.version, f"{_SYSTEM} {VERSION}"))


@dataclass(frozen=True)
class ProvenanceReport:
    """The provenance marks of a picture of `width` x `height` pixels.

    `mark` is from its XMP and `c2pa_manifest` its C2PA manifest, None if missing. `score` is that of the watermark
    (service.provenance.watermark), None for a picture that is too small. `checked` names the kinds of marks that were
    looked for.
    """

    width: int
    height: int
    mark: xmp.Mark | None
    c2pa_manifest: C2paManifest | None
    score: float | None
    checked: list[str]

    @property
    def watermarked(self) -> bool:
        return self.score is not None and self.score >= watermark.THRESHOLD

    @property
    def synthetic(self) -> Literal[True] | None:
        """True if a mark says that it is synthetic, or a part of it; else None, since no mark proves the contrary."""
        terms = [self.mark.digital_source_type] if self.mark else []
        terms += self.c2pa_manifest.digital_source_types if self._is_valid else []
        named = self.watermarked or (self.mark is not None and bool(self.mark.system))
        return named or any(_is_synthetic(term) for term in terms) or None

    @property
    def facet(self) -> bool:
        """Whether a mark names Facet."""
        names = [self.mark.system if self.mark else None, self.c2pa_manifest.generator if self._is_valid else None]
        return self.watermarked or any((name or "").partition(" ")[0] == _SYSTEM for name in names)

    @property
    def _is_valid(self) -> bool:
        return self.c2pa_manifest is not None and self.c2pa_manifest.state != "Invalid"


def _is_synthetic(term: str | None) -> bool:
    return term is not None and term.rpartition("/")[2] in _SYNTHETIC


def examine(data: bytes, max_pixels: int, own: Credentials | None = None) -> ProvenanceReport:
    """Read the marks of an encoded picture; manifests that `own` signed are trusted. Raises ImageErrors."""
    image, mark = codecs.decode_marked(data, max_pixels)
    readable = c2pa.installed()
    c2pa_manifest = c2pa.read(data, own) if readable else None
    score = watermark.score(image)
    kinds = {"xmp": True, "c2pa": readable, "watermark": score is not None}
    checked = [name for name, done in kinds.items() if done]
    return ProvenanceReport(image.width, image.height, mark, c2pa_manifest, score, checked)
