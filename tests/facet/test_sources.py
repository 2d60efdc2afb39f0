"""Whatever holds a picture can be given."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from facet import Picture, sources


def test_paths_bytes_files_and_results(framed, tmp_path):
    data = framed.read_bytes()
    assert sources.read(framed) == sources.read(str(framed)) == data
    assert sources.read(data) == sources.read(bytearray(data)) == sources.read(memoryview(data)) == data
    with framed.open("rb") as file:
        assert sources.read(file) == data
    assert sources.read(Picture(data, "image/png")) == data


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "F", "1", "HSV"])
def test_pillow_images_of_any_mode_arrive_without_loss(face, mode):
    image = face.convert(mode)
    arrived = Image.open(io.BytesIO(sources.read(image)))
    assert arrived.format == "PNG"
    assert (np.asarray(arrived.convert("RGB")) == np.asarray(image.convert("RGB"))).all()


def test_a_pillow_image_is_sent_upright(face):
    image = face.copy()
    image.getexif()[0x0112] = 6
    assert Image.open(io.BytesIO(sources.read(image))).size == face.size[::-1]
    assert image.size == face.size


def test_anything_else_is_refused_by_name():
    with pytest.raises(TypeError, match="image: int is no picture"):
        sources.read(5)
    with pytest.raises(TypeError, match="a file opened as text"):
        sources.read(io.StringIO("text"))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        sources.read("nowhere.jpg")
