"""XMP packets with the provenance of a picture, written to and read from image files.

The properties are those of the IPTC Photo Metadata Standard 2025.1. XMP is not signed, so anyone can change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from PIL import Image

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_PROPERTIES = {
    "digital_source_type": (_IPTC, "Iptc4xmpExt:DigitalSourceType"),
    "system": (_IPTC, "Iptc4xmpExt:AISystemUsed"),
    "version": (_IPTC, "Iptc4xmpExt:AISystemVersionUsed"),
    "tool": (_XMP, "xmp:CreatorTool"),
}
_FIELDS = {f"{space} {name.partition(':')[2]}": field for field, (space, name) in _PROPERTIES.items()}

# XMP Specification Part 3, 1.1.2: a GIF has the packet without sub-blocks. A decoder that reads its bytes as lengths of
# sub-blocks reaches the "magic trailer" of 257 bytes, each of which leads to the last one.
_GIF_BLOCK = b"\x21\xff\x0bXMP DataXMP"
_GIF_TRAILER = bytes([1, *range(255, -1, -1), 0])
_LARGEST = 1_000_000  # bytes; larger packets of uploads are not parsed


@dataclass(frozen=True)
class Mark:
    """The provenance in a packet; None for missing properties.

    `digital_source_type` is a term of IPTC's vocabulary, a URI; `system` and `version` are the AI system that was used;
    `tool` is the program that wrote the file.
    """

    digital_source_type: str | None = None
    system: str | None = None
    version: str | None = None
    tool: str | None = None


@lru_cache
def packet(mark: Mark) -> bytes:
    """The packet with the properties of `mark`, UTF-8."""
    values = {name: getattr(mark, field) for field, (_, name) in _PROPERTIES.items()}
    properties = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items() if value is not None)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="{_XMP}" {properties}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def into_gif(gif: bytes, data: bytes) -> bytes:
    """The GIF with a packet before its trailer, which Pillow cannot write."""
    return gif[:-1] + _GIF_BLOCK + data + _GIF_TRAILER + gif[-1:] if data else gif


def read(image: Image.Image, data: bytes) -> Mark | None:
    """The provenance in the packet of a loaded picture, whose file is `data`; None without a valid packet."""
    found = image.info.get("xmp") or _from_gif(data)
    if isinstance(found, str):
        found = found.encode()
    if not found or len(found) > _LARGEST:
        return None
    reader = _Reader()
    try:
        reader.parse(found)
    except (expat.ExpatError, _DoctypeError, ValueError):
        return None
    return Mark(**reader.found)


def _from_gif(data: bytes) -> bytes:
    if not data.startswith(b"GIF8") or (start := data.find(_GIF_BLOCK)) < 0:
        return b""
    start += len(_GIF_BLOCK)
    end = data.find(_GIF_TRAILER[:16], start, start + _LARGEST)
    return data[start:end] if end >= 0 else b""


class _DoctypeError(ValueError):
    """A document type, which XMP does not have, and which allows entity expansion attacks."""


class _Reader:
    """Parses the properties of `Mark`, given as attributes or elements; the first value of each counts."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._field: str | None = None
        self._text: list[str] = []

    def parse(self, data: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        # Padding and NUL bytes may follow a packet.
        parser.Parse(data.strip(b"\0 \r\n\t"), True)

    def _doctype(self, *_: object) -> None:
        raise _DoctypeError("XMP has no document type")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            if field := _FIELDS.get(key):
                self._keep(field, value)
        if field := _FIELDS.get(name):
            self._field, self._text = field, [attributes.get(f"{_RDF} resource", "")]

    def _characters(self, text: str) -> None:
        if self._field:
            self._text.append(text)

    def _end(self, name: str) -> None:
        if self._field and _FIELDS.get(name) == self._field:
            self._keep(self._field, "".join(self._text))
            self._field = None

    def _keep(self, field: str, value: str) -> None:
        self.found.setdefault(field, value.strip()[:500])
