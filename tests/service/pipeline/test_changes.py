"""What edits change: the same in all faces, in each face its own, or one face in several variants."""

from __future__ import annotations

import numpy as np
import pytest

from service.bundle.manifest import Manifest
from service.errors import Problem
from service.pipeline.changes import Change, ChangeOfEachFace, SameChange, Variants
from tests.service.fakes import ATTRIBUTES

CURRENT = np.zeros((2, len(ATTRIBUTES)), dtype=np.float32)


def change(manifest: Manifest, name: str, field: str = "attributes", strength: float = 1.0) -> Change:
    given = np.full(len(ATTRIBUTES), np.nan, dtype=np.float32)
    given[ATTRIBUTES.index(name)] = 1
    return Change(manifest, field, given, strength, experimental=False)


def changed(after: np.ndarray) -> list[dict[str, float]]:
    return [{ATTRIBUTES[column]: row[column] for column in np.flatnonzero(row)} for row in after]


def test_all_faces_change_alike(manifest: Manifest):
    same = SameChange(change(manifest, "Smiling", strength=0.5))
    assert changed(same.after(CURRENT)) == [{"Smiling": 0.5}] * 2
    assert same.count(2) == 2


def test_each_face_changes_in_its_own_way_and_the_others_stay(manifest: Manifest):
    of_each = ChangeOfEachFace([(1, change(manifest, "Smiling")), (0, change(manifest, "Black_Hair"))])
    after = of_each.after(np.zeros((3, len(ATTRIBUTES)), dtype=np.float32))
    assert changed(after) == [{"Black_Hair": 1, "Blond_Hair": -1}, {"Smiling": 1}, {}]
    assert of_each.count(3) == 2


@pytest.mark.parametrize(
    ("faces", "field"), [((2, 0), "face"), ((0, 2), "others.0.face")], ids=["the first", "a further one"]
)
def test_a_face_that_was_not_found_is_named_by_its_parameter(manifest: Manifest, faces: tuple[int, int], field: str):
    first, other = change(manifest, "Smiling"), change(manifest, "Eyeglasses", "others.0.attributes")
    with pytest.raises(Problem) as caught:
        ChangeOfEachFace([(faces[0], first), (faces[1], other)]).after(CURRENT)
    assert [(error["field"], error["value"]) for error in caught.value.errors] == [(field, 2)]


def test_variants_are_changes_of_one_face(manifest: Manifest):
    variants = Variants([change(manifest, "Smiling"), change(manifest, "Eyeglasses"), change(manifest, "Smiling")])
    assert changed(variants.after(CURRENT[:1])) == [{"Smiling": 1}, {"Eyeglasses": 1}, {"Smiling": 1}]
    assert variants.count(1) == 3
