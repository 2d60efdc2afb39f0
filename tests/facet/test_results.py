"""What can be done with pictures that came back."""

from __future__ import annotations

import pytest

from facet import Picture, Pictures

PICTURE = Picture(b"data", "image/png", {"Smiling": 1.0})
OTHER = Picture(b"other", "image/png")


def test_a_single_picture_is_saved_right_away(tmp_path):
    Pictures((PICTURE,), "m@1").save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"data"


def test_of_several_one_has_to_be_taken(tmp_path):
    several = Pictures((PICTURE, OTHER), "m@1", seed=3)
    assert [several[1], len(several), list(several)] == [OTHER, 2, [PICTURE, OTHER]]
    assert PICTURE in several
    assert list(several[:1]) == [PICTURE]
    with pytest.raises(ValueError, match="there are 2 pictures"):
        several.save(tmp_path / "a.png")


def test_a_suffix_of_another_format_is_refused_and_none_is_taken(tmp_path):
    with pytest.raises(ValueError, match="call with format='jpeg'"):
        PICTURE.save(tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
    PICTURE.save(str(tmp_path / "a"))
    PICTURE.save(tmp_path / "b.PNG")


def test_a_representation_is_short():
    assert "data" not in repr(PICTURE)
