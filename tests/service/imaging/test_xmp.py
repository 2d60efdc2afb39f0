"""Packets survive every format, foreign ones are read, and hostile ones do no harm."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from service.imaging import codecs, contact_sheets, xmp
from service.imaging.xmp import Mark

MARK = Mark("http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia", 'A "<&> model', "1.2", "tool")
NAMESPACES = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
    'xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
)


def read(data: bytes) -> Mark | None:
    image = Image.open(io.BytesIO(data))
    image.load()
    return xmp.read(image, data)


def jpeg(packet: bytes) -> bytes:
    return codecs.encode(np.zeros((8, 8, 3), np.uint8), "jpeg", 90, packet)


def described(inner: str, attributes: str = "") -> bytes:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {NAMESPACES}>'
        f"<rdf:Description {attributes}>{inner}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_carries_its_packet(kind: codecs.OutputFormat):
    pixels = np.full((9, 7, 3), 128, np.uint8)
    assert read(codecs.encode(pixels, kind, 90, xmp.packet(MARK))) == MARK
    assert read(codecs.encode(pixels, kind, 90)) is None


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_film_carries_its_packet_and_still_plays(kind: str):
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (0, 100, 200)])
    data = contact_sheets.animation(frames, kind, 50, packet=xmp.packet(MARK))
    assert read(data) == MARK
    with Image.open(io.BytesIO(data)) as film:
        assert film.n_frames == 4
        film.seek(2)
        assert abs(int(np.asarray(film.convert("RGB")).mean()) - 200) <= 2
    assert read(contact_sheets.animation(frames, kind, 50)) is None


def test_what_is_unknown_is_left_out():
    assert read(jpeg(xmp.packet(Mark(system="S")))) == Mark(system="S")
    assert b"CreatorTool" not in xmp.packet(Mark(system="S"))


@pytest.mark.parametrize(
    "packet",
    [
        described("<e:AISystemUsed> S </e:AISystemUsed>"),
        described("", 'e:AISystemUsed="S"'),
        described('<e:AISystemUsed rdf:resource="S"/>'),
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        + described("", 'e:AISystemUsed="S"')
        + b" " * 99
        + b'<?xpacket end="w"?>\0',
        described("<e:AISystemUsed>S</e:AISystemUsed><e:AISystemUsed>T</e:AISystemUsed>"),
        described("<!-- what is this? --><e:AISystemUsed>S</e:AISystemUsed><e:Other>T</e:Other>"),
    ],
)
def test_packets_of_other_programs_are_read(packet: bytes):
    assert read(jpeg(packet)) == Mark(system="S")


def test_a_packet_about_other_things_tells_nothing():
    assert read(jpeg(described("<e:Event>a feast</e:Event>"))) == Mark()


@pytest.mark.parametrize(
    "packet",
    [
        b"not XML",
        described("")[:-5],
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + described("<e:AISystemUsed>&a;</e:AISystemUsed>"),
        described("<e:AISystemUsed>&undefined;</e:AISystemUsed>"),
        b"\xff\xfe\x00\x01",
    ],
)
def test_a_packet_that_is_broken_or_hostile_is_none(packet: bytes):
    assert read(jpeg(packet)) is None


def test_long_values_are_cut():
    (mark,) = [read(jpeg(described(f"<e:AISystemUsed>{'S' * 9000}</e:AISystemUsed>")))]
    assert len(mark.system) == 500


def test_a_gif_whose_packet_never_ends_has_none():
    data = contact_sheets.animation(np.zeros((1, 4, 4, 3), np.uint8), "gif", 50)
    assert read(data[:-1] + b"\x21\xff\x0bXMP DataXMP\x00;") is None
