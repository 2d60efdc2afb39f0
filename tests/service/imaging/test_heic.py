"""HEIC, where pillow-heif is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from service.errors import BrokenImageError, UnsupportedImageError
from service.imaging import codecs
from service.imaging.codecs import decoding, isobmff
from tests.service.fakes import encoded
from tests.service.imaging.samples import LIMIT, SMOOTH, box, decoded, grid, translucent

HEIC = pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="pillow-heif is not installed")


@pytest.fixture
def heic() -> Callable[..., bytes]:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return lambda image=SMOOTH, **options: encoded(image, "HEIF", **options)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_names_the_extra_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch, brand: bytes):
    monkeypatch.setattr(decoding, "_reads_heic", lambda: False)
    data = box(b"ftyp", brand + b"\0\0\0\0mif1heic") + bytes(99)
    with pytest.raises(UnsupportedImageError, match=r"extra `heic` .*facet\[heic\]"):
        codecs.decode(data, LIMIT)
    with pytest.raises(UnsupportedImageError, match="AVIF\\)"):
        codecs.decode(b"nothing", LIMIT)


@HEIC
def test_heic_is_read(heic: Callable[..., bytes]):
    assert abs(decoded(heic(quality=95)).astype(int) - np.asarray(SMOOTH)).mean() < 4
    photo = codecs.decode_photo(heic(translucent(SMOOTH), quality=95), LIMIT)
    assert abs(np.asarray(photo.alpha).astype(int) - np.asarray(translucent(SMOOTH))[:, :, 3]).mean() < 3
    with pytest.raises(UnsupportedImageError, match="AVIF, HEIC"):
        codecs.decode(b"nothing", LIMIT)


@HEIC
def test_a_turned_heic_comes_upright(heic: Callable[..., bytes]):
    told = Image.Exif()
    told[0x0112], told[0x010F] = 6, "a camera"
    data = heic(exif=told.tobytes(), quality=95)
    photo = codecs.decode_photo(data, LIMIT)
    assert photo.image.size == (80, 60)
    assert b"a camera" in photo.exif


@HEIC
@pytest.mark.usefixtures("undecoded")
def test_more_than_one_picture_in_an_item_of_heic_is_refused(heic: Callable[..., bytes]):
    data = heic(Image.new("RGB", (64, 64)))
    meta = isobmff._meta(data)
    ((start, length),) = next(item.extents for item in meta.items.values() if item.kind == b"hvc1")
    place = data.rindex(length.to_bytes(8, "big"), 0, start)
    grown = data[:place] + (2 * length).to_bytes(8, "big") + data[place + 8 :] + data[start : start + length]
    with pytest.raises(BrokenImageError, match="more to decode"):
        codecs.decode(grown, LIMIT)


@HEIC
def test_the_subsampling_of_heic(heic: Callable[..., bytes]):
    for chroma, written in ((444, 0), (422, 1), (420, 2)):
        assert codecs.decode_photo(heic(chroma=chroma), LIMIT).coding.subsampling == written
    assert codecs.format_of(heic(quality=-1, chroma=444, matrix_coefficients=0)) == "png"


@HEIC
def test_a_grid_of_tiles_is_one_picture(heic: Callable[..., bytes]):
    tile = heic(Image.new("RGB", (256, 256), "olive"))
    data = grid(tile, 256, 2, 3, (700, 300), items=6)  # less than all of the tiles
    assert codecs.decode(data, LIMIT).size == (700, 300)


@HEIC
@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(("items", "parents"), [(1, 0), (225, 0), (1, 3)], ids=["one tile", "tiles", "nested grids"])
def test_a_grid_of_more_tiles_than_its_size_has_room_for_is_refused(
    heic: Callable[..., bytes], items: int, parents: int
):
    """Two kilobytes of it would be decoded for minutes."""
    tile = heic(Image.new("RGB", (256, 256)))
    with pytest.raises(BrokenImageError, match="more to decode"):
        codecs.decode(grid(tile, 256, 15, 15, (512, 512), items, parents), LIMIT)


@HEIC
@pytest.mark.usefixtures("undecoded")
def test_a_picture_derived_through_many_others_is_refused(heic: Callable[..., bytes]):
    data = grid(heic(Image.new("RGB", (256, 256))), 256, 1, 1, (256, 256), parents=20)
    with pytest.raises(BrokenImageError, match="derived from too many"):
        codecs.decode(data, LIMIT)


@HEIC
@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("kind", [b"pitm", b"iref"])
def test_metadata_that_are_twice_there_are_refused(heic: Callable[..., bytes], kind: bytes):
    data = grid(heic(Image.new("RGB", (256, 256))), 256, 1, 1, (256, 256))
    with pytest.raises(BrokenImageError, match="twice"):
        codecs.decode(data.replace(b"idat", kind), LIMIT)


@HEIC
@pytest.mark.usefixtures("undecoded")
def test_a_second_box_of_metadata_is_refused(heic: Callable[..., bytes]):
    """libheif would take the last one."""
    data = heic(Image.new("RGB", (64, 64)))
    place = data.index(b"meta") - 4
    with pytest.raises(BrokenImageError, match="twice"):
        codecs.decode(data + data[place : place + int.from_bytes(data[place : place + 4], "big")], LIMIT)


@HEIC
def test_what_is_no_box_behind_a_heic_is_skipped(heic: Callable[..., bytes]):
    assert codecs.decode(heic() + b"nonsense of a camera", LIMIT).size == SMOOTH.size
