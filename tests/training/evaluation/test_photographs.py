"""The protocol for photographs: the whole against an editor that paints."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training.evaluation import offering, photographs_tables, selection
from training.evaluation.locality import Ellipse
from training.evaluation.photographs import Judges, Photographs, evaluate
from training.evaluation.realism import Real

NAMES = painter.ATTRIBUTES


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

    def predict(self, pixels):
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
    requested = selection.choose(faces.labels, each=EACH)
    return evaluate(editor, judges, NAMES, faces, requested, Ellipse()) | {"pictures": COUNT}


def test_an_editor_that_draws_what_is_requested_scores_perfectly(obedient):
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
