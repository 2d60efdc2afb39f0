"""Results as a terminal shows them."""

from __future__ import annotations

from facet import Attribute, Encoding, Face, Model, tables


def test_faces_stand_side_by_side():
    faces = [Face((10.4, 20, 30, 60), None, [], [], {"Smiling": s, "Male": -1.0}) for s in (0.987, -0.5)]
    assert tables.encoding("a.jpg", Encoding("m@1", 100, 80, tuple(faces))).splitlines() == [
        "a.jpg: 100 x 80 pixels, 2 faces, m@1",
        "  face 0: 20 x 40 pixels at (10, 20)",
        "  face 1: 20 x 40 pixels at (10, 20)",
        "            face 0   face 1",
        "  Smiling    +0.99    -0.50",
        "  Male       -1.00    -1.00",
    ]


def test_a_model_tells_its_attributes():
    attributes = (Attribute("Black_Hair", "black hair", "hair", False), Attribute("Male", "a man", None, True, False))
    model = Model("tiny", "1", "for tests", True, "cpu", 8, (178, 218), 3, attributes, "CC0-1.0", {})
    lines = tables.model(model).splitlines()
    assert lines[0] == "tiny@1 (default): for tests"
    assert "  Black_Hair  black hair (one of hair)" in lines
    assert "  Male        a man (sensitive, not enabled)" in lines


def test_a_model_tells_what_is_experimental():
    bald = Attribute("Bald", "no hair", None, False, True, {"added": "seen on 14%", "removed": "never"})
    model = Model("tiny", "1", "for tests", True, "cpu", 8, (178, 218), 3, (bald,), "CC0-1.0", {}, 128)
    assert "  Bald  no hair (added: experimental, removed: experimental)" in tables.model(model).splitlines()
