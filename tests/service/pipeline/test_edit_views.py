"""Edits of several faces at once, variants of one, and parts of the photograph; with the fake editor."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import Problem, UnsupportedImageError
from service.pipeline.edit import edit_picture
from service.pipeline.files import FileOptions
from service.pipeline.keep import keep_photo
from service.pipeline.parameters import EditParameters, SweepParameters
from service.pipeline.pictures import Pictures
from service.pipeline.pipeline import Pipeline
from service.pipeline.sweep import sweep_face
from service.request import RequestContext
from tests.service.fakes import encoded, grey, pixels
from tests.service.pipeline.conftest import run

PHOTO = grey(100)  # framed, 178 x 218 pixels


def edits(pipeline: Pipeline, *calls: dict[str, Any], picture: bytes = PHOTO) -> list[Pictures]:
    """The results of several calls; `files` among the parameters of one are its options."""

    async def work(pipeline: Pipeline, context: RequestContext) -> list[Pictures]:
        found = []
        for call in calls:
            given = {"attributes": {"Smiling": 1}} | call
            files = given.pop("files", None)
            found.append(await edit_picture(pipeline, context, EditParameters(**given), picture, files))
        return found

    return run(pipeline, work)


def edit(pipeline: Pipeline, picture: bytes = PHOTO, **params: Any) -> Pictures:
    return edits(pipeline, params, picture=picture)[0]


def test_a_region_is_that_part_of_the_edited_photograph(editing: Pipeline):
    found = edits(editing, {}, {"region": [0.25, 0.25, 0.75, 0.75]})
    (whole,), (part,) = (each.pictures for each in found)
    box = (44, 54, 134, 164)
    assert (part.width, part.height) == (box[2] - box[0], box[3] - box[1])
    expected = pixels(whole.data)[box[1] : box[3], box[0] : box[2]]
    # Edit fields are sampled at nodes, which lie elsewhere in the view; the edit changes up to 48 levels.
    difference = np.abs(pixels(part.data).astype(int) - expected)
    assert difference.max() < 8
    assert difference.mean() < 1


def test_a_view_is_at_most_as_large_as_requested(editing: Pipeline):
    (small,) = edit(editing, size=109).pictures
    assert (small.width, small.height) == (89, 109)
    assert pixels(small.data)[54, 44].tolist() == [148] * 3  # as in the middle of the whole


def test_variants_are_one_picture_each_or_one_grid(editing: Pipeline):
    variants = [{}, {"Eyeglasses": 1}, {"Smiling": -1}]
    requested = {"variants": variants, "size": 100}
    found, sheet = edits(editing, requested, requested | {"files": FileOptions(("png",), 90, as_one=True)})
    assert [(picture.width, picture.height) for picture in found.pictures] == [(82, 100)] * 3
    assert [picture.attributes["Smiling"] for picture in found.pictures] == [1, 1, -1]
    assert [picture.attributes["Eyeglasses"] for picture in found.pictures] == [0.25, 1, 0.25]
    drawn = [pixels(picture.data) for picture in found.pictures]
    assert drawn[0][50, 41].tolist() != drawn[2][50, 41].tolist()
    (grid,) = sheet.pictures
    assert np.array_equal(pixels(grid.data)[:100, 82:164], drawn[1])


def test_a_variant_replaces_what_was_given_of_its_group(editing: Pipeline):
    (picture,) = edit(editing, attributes={"Black_Hair": 1}, variants=[{"Blond_Hair": 1}]).pictures
    assert (picture.attributes["Black_Hair"], picture.attributes["Blond_Hair"]) == (-1, 1)


def test_variants_of_the_bare_face(editing: Pipeline):
    found = edit(editing, variants=[{"Smiling": -1}, {"Smiling": 1}], output="face")
    assert [picture.width for picture in found.pictures] == [12, 12]


class TwoFaces:
    """Finds two faces in any picture, one beside the other, each framed as the whole picture would be."""

    def __init__(self, finder) -> None:
        self._finder = finder

    def frame(self, picture, frame, framed, size, largest):
        (face,) = self._finder.frame(picture, frame, True, size, largest)
        return [face, face]


def test_several_faces_are_edited_at_once_each_in_its_own_way(editing: Pipeline):
    editing.faces = TwoFaces(editing.faces)
    other = {"face": 1, "attributes": {"Smiling": 1}, "strength": 0.5}
    one, both = (found.pictures[0] for found in edits(editing, {}, {"others": [other]}))
    assert (pixels(both.data)[109, 89] > pixels(one.data)[109, 89]).all()
    assert both.attributes["Smiling"] == 1


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"others": [{"face": 1, "attributes": {}}]}, "others.0.face"),
        ({"others": [{"face": 0, "attributes": {}}]}, "others.0.face"),
        ({"others": [{"face": 1, "attributes": {"Smilng": 1}}]}, "others.0.attributes.Smilng"),
        ({"others": [{"face": 1, "attributes": {}}], "face": "all"}, "face"),
        ({"others": [{"face": 1, "attributes": {}}], "output": "face"}, "others"),
        ({"others": [{"face": 1, "attributes": {}}], "variants": [{}]}, "others"),
        ({"variants": [{}], "face": "all"}, "face"),
        ({"variants": [{}, {"Smilng": 1}]}, "variants.1.Smilng"),
        ({"variants": [{}] * 65}, "variants"),
        ({"variants": [{}] * 2, "size": 4096}, "size"),
        ({"region": [0, 0, 1, 1], "output": "face"}, "region"),
        ({"size": 100, "output": "face"}, "size"),
    ],
)
def test_what_does_not_go_together_is_a_problem_of_that_field(editing: Pipeline, params: dict, field: str):
    with pytest.raises(Problem) as caught:
        edit(editing, **params)
    assert (caught.value.status, [error["field"] for error in caught.value.errors]) == (422, [field])


@pytest.mark.parametrize("region", [[0, 0, 1], [0.5, 0, 0.5, 1], [0, 0, 1, 1.1], ["0", 0, 1, 1]])
def test_a_region_is_four_shares_in_order(region: list):
    with pytest.raises(ValueError, match="region"):
        EditParameters(attributes={}, region=region)


def test_a_sweep_of_a_region(editing: Pipeline):
    params = SweepParameters(attribute="Smiling", steps=3, layout="frames", region=[0.25, 0.25, 0.75, 0.75], size=50)
    found = run(editing, lambda pipeline, context: sweep_face(pipeline, context, params, PHOTO))
    assert [(picture.width, picture.height) for picture in found.pictures] == [(41, 50)] * 3


def test_a_kept_photograph_is_edited_by_its_handle(editing: Pipeline):
    def work(pipeline, context):
        handle = keep_photo(pipeline, PHOTO)
        params = EditParameters(attributes={"Smiling": 1}, photo=handle)
        return edit_picture(pipeline, context, params)

    (picture,) = run(editing, work).pictures
    assert pixels(picture.data)[109, 89].tolist() == [148] * 3


def test_only_pictures_are_kept(editing: Pipeline):
    with pytest.raises(UnsupportedImageError):
        keep_photo(editing, b"no picture at all")


def test_a_transparent_photograph_keeps_its_transparency_in_a_view(editing: Pipeline):
    image = Image.new("RGBA", (178, 218), (100, 100, 100, 255))
    image.paste((100, 100, 100, 0), (0, 0, 89, 218))
    (part,) = edit(editing, picture=encoded(image, "PNG"), size=109).pictures
    alpha = np.asarray(Image.open(io.BytesIO(part.data)))[:, :, 3]
    assert (alpha[50, 10], alpha[50, 80]) == (0, 255)
