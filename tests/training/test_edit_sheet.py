from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training import config, edit_sheet
from training.data import dataset
from training.evaluation.editing import EditingError

NAMES = ["Bald", "Smiling", "Young"]


class Tinting:
    """An editor that says of every face what it is told to, and paints the whole picture by the edit."""

    def estimates(self, picture: bytes):
        return {"Bald": -0.9, "Smiling": 0.4, "Young": 0.0}, (60.0, 80.0, 120.0, 150.0)

    def edit(self, picture: bytes, attributes: dict[str, float]) -> np.ndarray:
        ((_, value),) = attributes.items()
        return np.full((218, 178, 3), 100 + 50 * int(value), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        painter.paint(dict.fromkeys(painter.ATTRIBUTES, False), np.random.default_rng(seed)).save(
            tmp_path / f"{seed}.png"
        )
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_attributes_are_turned_over_unless_a_value_is_given(folder):
    columns = edit_sheet.parse_columns(["Bald", "Smiling", "Young", "Smiling=1"], NAMES)
    drawn = np.asarray(edit_sheet.draw(Tinting(), edit_sheet.pictures_in(folder, 2), columns, 40))
    heading = drawn.shape[0] - 2 * 40
    cells = drawn[heading:, -5 * 40 :].reshape(2, 40, 5, 40, 3)
    assert cells[:, 5, :, 20, 0].tolist() == [[*cells[row, 5, :1, 20, 0].tolist(), 150, 50, 150, 150] for row in (0, 1)]


def test_the_default_columns_are_those_that_the_model_has():
    assert edit_sheet.parse_columns(None, NAMES) == [("Smiling", None), ("Bald", None), ("Young", None)]


@pytest.mark.parametrize(("word", "rule"), [("Bold", "no attribute 'Bold'"), ("Bald=yes", "'yes' must be a number")])
def test_a_column_that_makes_no_sense_is_refused_by_name(word, rule):
    with pytest.raises(config.ConfigError, match=rule):
        edit_sheet.parse_columns([word], NAMES)


def test_a_folder_without_pictures_and_a_broken_picture_are_named(tmp_path):
    with pytest.raises(dataset.DatasetError, match="holds no picture"):
        edit_sheet.pictures_in(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(EditingError, match=r"broken\.jpg: "):
        edit_sheet.draw(Tinting(), edit_sheet.pictures_in(tmp_path), [("Bald", 1.0)], 40)


def test_the_surroundings_stay_within_the_picture():
    assert edit_sheet.surroundings((0, 0, 20, 30), (100, 80)) == (0, 0, 54, 54)
    assert edit_sheet.surroundings((80, 40, 100, 80), (100, 80)) == (28, 8, 100, 80)
    left, top, right, bottom = edit_sheet.surroundings((10, 10, 90, 190), (100, 200))
    assert right - left == bottom - top == 100


def test_the_sheet_is_a_picture(folder):
    drawn = edit_sheet.draw(Tinting(), edit_sheet.pictures_in(folder), [("Bald", None)], 24)
    assert isinstance(drawn, Image.Image)
    assert drawn.width == 2 * 24
