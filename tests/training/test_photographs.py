"""The protocol for photographs: each formula by itself, and the whole against an editor that paints."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training import metrics
from training.evaluation import locality, masks, offering, photographs_tables, realism, selection, tally
from training.evaluation.identity import Identity, IdentityUnavailableError, same_person
from training.evaluation.locality import Ellipse
from training.evaluation.photographs import Judges, Photographs, evaluate
from training.evaluation.realism import Ratio, Real

NAMES = painter.ATTRIBUTES


# Which pictures


def test_every_value_of_every_attribute_gets_its_pictures():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((400, 4)) < [0.5, 0.3, 0.05, 0.9], 1, -1)
    chosen = selection.choose(labels, each=15)
    for column in range(4):
        for value in (-1, 1):
            there = (labels[:, column] == value).sum()
            assert (chosen[:, column] & (labels[:, column] == value)).sum() == min(15, there)
    # Those of common values are shared: half of the pictures have the first attribute, most the last.
    assert chosen.any(1).sum() < chosen.sum() * 0.7
    assert np.array_equal(chosen, selection.choose(labels, each=15))


def test_nobody_is_chosen_for_showing_something_rare():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((4000, 2)) < [0.5, 0.02], 1, -1)
    chosen = selection.choose(labels, each=200)
    rare = labels[chosen[:, 0], 1] > 0
    assert rare.mean() < 0.05


# Side effects


def test_what_adding_ends_by_necessity_is_no_side_effect():
    names = ["Black_Hair", "Blond_Hair", "Mustache", "No_Beard", "Smiling"]
    excused = tally.excused(names)
    assert excused[tally.ADDED, names.index("Mustache")].tolist() == [False, False, False, True, False]
    assert excused[tally.ADDED, names.index("Black_Hair")].tolist() == [False, True, False, False, False]
    assert not excused[tally.ADDED, names.index("No_Beard")].any()
    assert not excused[tally.REMOVED].any()


def test_side_effects_are_the_errors_beyond_those_before_by_direction():
    names = ["Mustache", "No_Beard", "Smiling"]
    labels = np.array([[-1, 1, 1], [-1, 1, 1], [1, -1, -1]], dtype=np.int8)
    plain = np.array([[-1.0, 1, 1], [-1, 1, -1], [1, -1, -1]])  # the second smile is missed already
    edits = tally.EditTally(names, labels, plain, np.zeros(3), tally.excused(names))
    edits.add(0, np.array([[1.0, -1, -1], [1, -1, -1], [-1, 1, -1]]))
    removed, added = edits.by_direction(edits.extra)
    assert added[0] == 0.5  # one smile of two is lost; the beards' absence that ended is excused
    assert removed[0] == 0.5  # a beard that vanished with its moustache is not
    assert edits.matrix[tally.ADDED, 0].tolist() == pytest.approx([np.nan, np.nan, 0.5], nan_ok=True)
    assert edits.matrix[tally.REMOVED, 0].tolist() == pytest.approx([np.nan, 1, 0], nan_ok=True)
    assert edits.done[:, 0].tolist() == [1, 1, 1]


def test_thresholds_decide_what_is_seen():
    labels = np.array([[-1], [-1]], dtype=np.int8)
    edits = tally.EditTally(["Bald"], labels, np.array([[-4.0], [-4.0]]), np.array([-2.0]))
    edits.add(0, np.array([[-1.0]]), rows=np.array([1]))
    assert edits.done[:, 0].tolist() == pytest.approx([np.nan, 1], nan_ok=True)


# Where things change


def test_the_ellipse_has_the_axes_it_says():
    outside = Ellipse(centre=(50, 60), semi_axes=(20, 30)).outside(120, 100)
    columns, rows = np.flatnonzero(~outside[60]), np.flatnonzero(~outside[:, 50])
    assert (columns[0], columns[-1]) == (30, 69)
    assert (rows[0], rows[-1]) == (30, 89)
    assert (~outside).sum() == pytest.approx(np.pi * 20 * 30, rel=0.01)


def test_changes_count_outside_only():
    ellipse = Ellipse(centre=(10, 10), semi_axes=(5, 5))
    before = np.full((2, 20, 20, 3), 100, dtype=np.uint8)
    after = before.copy()
    after[0, 8:12, 8:12] = 255
    after[1, 0, 0] = [97, 100, 106]
    count = ellipse.outside(20, 20).sum()
    assert locality.change_outside(before, after, ellipse) == pytest.approx([0, 9 / 3 / count])


def test_detail_is_told_where_nothing_was_edited():
    rng = np.random.default_rng(0)
    before = rng.integers(60, 200, (1, 32, 32, 3), dtype=np.uint8)
    after = before.copy()
    after[:, :16] = 128  # edited: the texture there does not count ...
    assert locality.detail_kept(before, after)[0] == pytest.approx(1, abs=0.15)
    unmasked = np.zeros((1, 32, 32), dtype=bool)
    unmasked[:, :14] = True  # ... unless the mask says that it should have stayed
    assert locality.detail_kept(before, after, unmasked)[0] == pytest.approx(0)
    assert np.isnan(locality.detail_kept(np.full_like(before, 9), np.full_like(before, 9))[0])


def test_a_mask_is_spread_over_its_box_and_is_nothing_elsewhere():
    mask = np.zeros((4, 4), dtype=np.float32)
    mask[:, 2:] = 1
    found = masks.spread(mask, (10, 20, 18, 28), height=40, width=30)
    assert found.shape == (40, 30)
    assert np.flatnonzero(found.any(1)).tolist() == list(range(20, 28))
    assert found[24].nonzero()[0][0] == 13
    assert found[24, 14:18].tolist() == [0.75, 1, 1, 1]
    assert found[24, 18:].max() == found[24, :13].max() == 0


# Realism


def world(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of pictures, and what they show: men are far from women, and glasses move both."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((count, 2)) < 0.5, 1, -1)
    features = rng.standard_normal((count, 6)) + labels @ np.array([[0, 0.8, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]])
    return features, labels


def test_the_ratio_is_taken_within_a_perceived_gender():
    names = ["Eyeglasses", "Male"]
    features, labels = world(600, 0)
    real = Real(features, labels, names)
    untouched, shown = world(160, 1)
    without = shown[:, 0] < 0
    untouched, shown = untouched[without], shown[without]
    edited = untouched + np.array([0, 1.2, 0, 0, 0, 0])  # three quarters of the way
    found = realism.ratio(real, 0, tally.ADDED, edited, untouched, shown)
    men = shown[:, 1] > 0
    distances = {}
    for gender in (True, False):
        target = features[(labels[:, 0] > 0) & ((labels[:, 1] > 0) == gender)][: realism.REFERENCES]
        rows = men == gender
        distances[gender] = [metrics.kernel_distance(x[rows], target) for x in (edited, untouched)]
    expected = [np.average([distances[g][i] for g in (True, False)], weights=[men.sum(), (~men).sum()]) for i in (0, 1)]
    assert (found.edited, found.untouched) == pytest.approx(tuple(expected))
    assert found.value < 0.5
    assert not found.spoils
    assert found.pictures == len(shown)


def test_an_edit_that_leads_away_spoils_beyond_the_noise():
    names = ["Eyeglasses", "Male"]
    real = Real(*world(600, 0), names)
    untouched, shown = world(160, 1)
    rows = shown[:, 0] < 0
    moved = untouched[rows] - np.array([0, 2, 0, 0, 0, 0])
    away = realism.ratio(real, 0, tally.ADDED, moved, untouched[rows], shown[rows])
    assert away.value > 2
    assert away.spoils
    still = realism.ratio(real, 0, tally.ADDED, untouched[rows], untouched[rows], shown[rows])
    assert still.value == 1
    assert not still.spoils


def test_a_gender_without_enough_pictures_is_left_out_and_nothing_is_said_of_too_few():
    names = ["Mustache", "Male"]
    features, labels = world(600, 0)
    labels[labels[:, 1] < 0, 0] = -1  # no woman has one
    real = Real(features, labels, names)
    untouched, shown = world(200, 1)
    shown[:, 0] = -1
    found = realism.ratio(real, 0, tally.ADDED, untouched, untouched, shown)
    assert found.pictures == (shown[:, 1] > 0).sum()
    few = realism.ratio(real, 0, tally.ADDED, untouched[:5], untouched[:5], shown[:5])
    assert few is None


def test_splits_of_real_pictures_tell_the_noise():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 8))
    noise = realism.split_noise(features, 60)
    drawn = [metrics.kernel_distance(rng.standard_normal((60, 8)), rng.standard_normal((340, 8))) for _ in range(60)]
    assert noise == pytest.approx(np.std(drawn), rel=0.35)
    assert realism.split_noise(features, 20) > noise


def test_sums_weigh_attributes_by_their_distances():
    ratios = [Ratio(1, 10, 0.3, 20, 100), Ratio(3, 2, 0.4, 20, 100)]
    assert realism.ratio_of_sums(ratios) == (pytest.approx(4 / 12), pytest.approx(0.5 / 12))
    assert np.isnan(realism.ratio_of_sums([])[0])


# What is not offered


def entry(spoils: bool) -> dict:
    return {"ratio": 1.5, "noise": 0.1, "spoils": spoils, "kid_edited": 3.0, "kid_untouched": 2.0, "kid_noise": 0.2}


def test_an_edit_is_not_offered_for_either_reason():
    report = {
        "faces": {"added": {"Bald": 40, "Bangs": 40, "Young": 4}, "removed": {"Bald": 40, "Bangs": 40, "Young": 40}},
        "edits": {
            "added": {"attributes": {"Bald": 0.3, "Bangs": 0.9, "Young": 0.0}},
            "removed": {"attributes": {"Bald": 0.5, "Bangs": 0.2, "Young": None}},
        },
        "realism": {
            "added": {"attributes": {"Bald": entry(True), "Bangs": entry(False)}},
            "removed": {"attributes": {"Bangs": entry(True)}},
        },
    }
    found = offering.experimental(report)
    assert {name: set(ways) for name, ways in found.items()} == {"Bald": {"added"}, "Bangs": {"removed"}}
    assert "sees it on 30% of 40 faces; " in found["Bald"]["added"]
    assert "3.0 instead of 2.0, noise 0.2" in found["Bald"]["added"]
    assert offering.experimental(report | {"realism": {"skipped": "no network"}})["Bangs"]["removed"].endswith(
        "40 faces"
    )


# The whole


class Painting:
    """An editor that draws the face anew as asked; with `blind`, one that returns the picture."""

    def __init__(self, faces: list[dict[str, bool]], files: list[bytes], blind: bool) -> None:
        self.shown = dict(zip(files, faces, strict=True))
        self.seeds = {data: seed for seed, data in enumerate(files)}
        self.blind = blind

    def edit(self, picture: bytes, attributes: dict[str, float]) -> np.ndarray:
        wanted = self.shown[picture] | ({} if self.blind else {name: value > 0 for name, value in attributes.items()})
        for name, other in (("Black_Hair", "Blond_Hair"), ("Blond_Hair", "Black_Hair")):
            if attributes.get(name, 0) > 0 and not self.blind:
                wanted[other] = False
        return np.asarray(painter.paint(wanted, np.random.default_rng(self.seeds[picture])))

    def sweep(self, picture: bytes, attribute: str, target: float, steps: int, side: int) -> np.ndarray:
        first, last = self.edit(picture, {}), self.edit(picture, {attribute: target})
        shares = np.linspace(0, 1, steps)[:, None, None, None]
        return (first + shares * (last.astype(float) - first)).round().astype(np.uint8)


class Ruler:
    """A judge that reads painted pixels, and of how far a picture is from its first in a sweep, the mean."""

    image_size = 64
    thresholds = np.zeros(len(NAMES), dtype=np.float32)

    def look(self, pixels):
        return np.array([[1.0 if v else -1.0 for v in painter.read(face).values()] for face in pixels]), None


COUNT, EACH = 12, 3


def painted(count: int, blind: bool) -> tuple[Painting, Photographs]:
    rng = np.random.default_rng(3)
    faces = [painter.random_attributes(rng) for _ in range(count)]
    files, pixels = [], []
    for seed, present in enumerate(faces):
        picture, buffer = painter.paint(present, np.random.default_rng(seed)), io.BytesIO()
        picture.save(buffer, "PNG")
        files.append(buffer.getvalue())
        pixels.append(np.asarray(picture))
    labels = np.array([[1 if present[name] else -1 for name in NAMES] for present in faces], dtype=np.int8)
    return Painting(faces, files, blind), Photographs(files, np.stack(pixels), labels)


@pytest.fixture(scope="module")
def obedient() -> dict:
    return evaluated(blind=False)


def evaluated(blind: bool, features="no network", identity="no package", real=None) -> dict:
    editor, faces = painted(COUNT, blind)
    judges = Judges(Ruler(), painter.CROP, features, real, identity)
    asked = selection.choose(faces.labels, each=EACH)
    return evaluate(editor, judges, NAMES, faces, asked, Ellipse()) | {"pictures": COUNT}


def test_an_editor_that_draws_what_is_asked_scores_perfectly(obedient):
    found = obedient
    assert found["edits"]["balanced"]["mean"] == found["edits"]["added"]["mean"] == 1
    assert found["side_effects"]["both"]["mean"] == 0
    assert found["side_effects"]["matrix"]["added"]["Smiling"] == dict.fromkeys(set(NAMES) - {"Smiling"}, 0)
    assert "Blond_Hair" not in found["side_effects"]["matrix"]["added"]["Black_Hair"]
    assert found["locality"]["both"]["attributes"]["Eyeglasses"] == 0
    assert found["locality"]["added"]["attributes"]["Smiling"] == 0
    assert found["gradual"]["both"]["mean"] > 0.5  # of a judge that only says yes or no
    assert found["experimental"] == {}
    assert found["faces"]["added"]["Smiling"] == EACH


def test_what_is_missing_is_skipped_and_says_why(obedient):
    found = obedient
    assert found["realism"] == {"skipped": "no network"}
    assert found["identity"] == {"skipped": "no package"}
    text = photographs_tables.markdown(found)
    assert "skipped, no network" in text
    assert "skipped, no package" in text
    assert "| edits that show | 100.0% | 100.0% | 100.0% |" in text


def test_an_editor_that_does_nothing_is_not_offered():
    def colours(pixels):
        return np.stack([np.asarray(Image.fromarray(face).resize((6, 6))).reshape(-1) / 255.0 for face in pixels])

    _, faces = painted(COUNT, True)
    real = Real(colours(faces.pixels), faces.labels, NAMES)
    found = evaluated(blind=True, features=colours, identity=lambda pixels: colours(pixels), real=real)
    assert found["edits"]["balanced"]["mean"] == 0
    assert found["side_effects"]["both"]["mean"] == 0
    assert found["locality"]["both"]["mean"] == 0
    assert found["detail"]["both"]["mean"] == 1
    assert found["identity"]["both"]["mean"] == 1
    assert found["realism"]["added"] == {"ratio_of_sums": None, "noise": None, "attributes": {}}  # of so few
    assert "an independent judge sees it on 0% of" in str(offering.experimental(found | {"faces": {
        way: dict.fromkeys(NAMES, 50) for way in ("added", "removed")
    }}))  # fmt: skip


def test_a_face_is_its_own_by_dlib():
    try:
        identity = Identity()
    except IdentityUnavailableError as exc:
        pytest.skip(str(exc))
    _, faces = painted(2, True)
    described = identity(faces.pixels)
    assert described.shape == (2, 128)
    assert same_person(described, identity(faces.pixels)).all()
