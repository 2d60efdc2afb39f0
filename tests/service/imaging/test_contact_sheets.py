import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from service.imaging import contact_sheets


def flat(*levels: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.stack([np.full((height, width, 3), level, dtype=np.uint8) for level in levels])


def test_a_labelled_grid_holds_every_picture_where_its_labels_say():
    pictures = flat(10, 20, 30, 40, 50, 60).reshape(2, 3, 20, 30, 3)
    figure = np.asarray(contact_sheets.labelled(pictures, ["a", "b", "c"], ["first", "second"])).astype(int)
    grid = figure[-40:, -90:]
    assert [grid[10, 15, 0], grid[10, 45, 0], grid[30, 75, 0]] == [10, 20, 60]
    assert (figure[:-40, -90:] < 100).any()  # headings
    assert (figure[-40:, :-90] < 100).any()  # names
    assert (figure[0] == 255).all()


def test_a_heading_never_runs_into_the_next():
    pictures = flat(200, 200).reshape(1, 2, 20, 30, 3)
    long = np.asarray(contact_sheets.labelled(pictures, ["Mouth_Slightly_Open", ""]))
    assert (long[:-20, :30] < 100).any()
    assert (long[:-20, 30:] == 255).all()


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_goes_there_and_back(kind):
    data = contact_sheets.animation(flat(0, 80, 160, 240), kind, milliseconds=90)
    with Image.open(io.BytesIO(data)) as film:
        assert film.format == kind.upper()
        assert film.info["loop"] == 0
        shown = []
        for number in range(film.n_frames):
            film.seek(number)
            film.load()
            shown.append(film.convert("RGB").getpixel((15, 10))[0])
            assert film.info["duration"] == 90
    assert shown == pytest.approx([0, 80, 160, 240, 160, 80], abs=4)


def test_one_frame_is_a_film_too():
    with Image.open(io.BytesIO(contact_sheets.animation(flat(7), "gif", 50))) as film:
        assert film.n_frames == 1


def test_an_archive_is_the_same_every_time():
    files = {"00.png": b"one", "01.png": b"two"}
    data = contact_sheets.archive(files)
    assert data == contact_sheets.archive(files)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert {name: found.read(name) for name in found.namelist()} == files
