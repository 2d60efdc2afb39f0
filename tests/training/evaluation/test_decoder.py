"""The protocol against models whose quality is known, because they are drawn and not learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.imaging import codecs
from tests import painter
from training import evaluation
from training.data import dataset
from training.evaluation import decoder, tally
from training.vae import prior

NAMES = painter.ATTRIBUTES
SIZE = 32


def face(seed: int, labels: np.ndarray) -> np.ndarray:
    present = {name: bool(value > 0) for name, value in zip(NAMES, labels, strict=True)}
    return codecs.crop_resize(painter.paint(present, np.random.default_rng(seed)), painter.CROP, SIZE)


def faces(count: int, first: int = 0) -> dataset.Faces:
    rng = np.random.default_rng(first)
    drawn = [painter.random_attributes(rng) for _ in range(count)]
    labels = np.array([[1 if present[name] else -1 for name in NAMES] for present in drawn], dtype=np.int8)
    return dataset.Faces(np.stack([face(first + i, row) for i, row in enumerate(labels)]), labels)


class Ruler:
    """A judge that reads painted pixels; it stands in for the trained one."""

    def predict(self, pixels):
        seen = [[1.0 if value else -1.0 for value in painter.read(face).values()] for face in pixels]
        return np.array(seen), pixels.reshape(len(pixels), -1)[:, ::97].astype(np.float64)


class Painted:
    """Graphs that redraw the face: the latent holds the painter's seed, so decoding is perfect.

    With `obeys` False the decoder ignores what it is told and draws what the encoder saw.
    """

    def __init__(self, known: dataset.Faces, obeys: bool):
        self.known, self.obeys = known, obeys

    learned = None

    def encode(self, pixels, attributes):
        seeds = [int(np.flatnonzero((self.known.pixels == p).all((1, 2, 3)))[0]) for p in pixels]
        latent = np.array(seeds, dtype=np.float32)[:, None] + np.zeros((1, 3), dtype=np.float32)
        return latent, np.where(np.isnan(attributes), self.known.labels[seeds], attributes).astype(np.float32)

    def decode(self, latent, attributes):
        rows = latent[:, 0].round().astype(int).clip(0, len(self.known.labels) - 1)
        labels = attributes if self.obeys else self.known.labels[rows]
        return np.stack([face(row, label) for row, label in zip(rows, labels, strict=True)])


def report(obeys: bool) -> dict:
    known = faces(60)
    graphs = Painted(known, obeys)
    rng = np.random.default_rng(0)
    fitted = prior.fit_prior(
        rng.normal(30, 9, (60, 3)), np.zeros((60, 3)), np.zeros((60, 6)), known.labels.astype(float)
    )
    return evaluation.evaluate(graphs, Ruler(), NAMES, known, known, fitted)


def test_a_perfect_editor_scores_perfectly():
    found = report(obeys=True)
    for kind in ("raw", "residual"):
        edit = found["edit"][kind]
        assert edit["accuracy"]["mean"] == edit["added"]["mean"] == edit["removed"]["mean"] == 1
        assert edit["side_effects"]["mean"] == 0
    assert found["generation"]["asked_seen"]["mean"] == 1
    assert found["reconstruction"]["psnr_db"] > 100
    assert found["judge"]["real"]["mean"] == 1


def test_a_model_that_ignores_its_attributes_scores_nothing():
    found = report(obeys=False)
    for kind in ("raw", "residual"):
        assert found["edit"][kind]["accuracy"]["mean"] == 0
        assert found["gradual"][kind]["mean"] == 0


def test_the_report_becomes_tables():
    text = evaluation.markdown(report(obeys=True))
    assert "| edit accuracy, mean | 100.0% | 100.0% |" in text
    assert all(f"| {name} |" in text for name in NAMES)
    assert "| Pale_Skin |" in text
    assert "| not Pale_Skin |" in text


def test_the_judge_is_told_apart_by_what_faces_really_show():
    labels = np.array([[1, 1], [1, -1], [-1, -1], [-1, -1]], dtype=np.int8)
    logits = np.array([[2.0, -1.0], [-1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    found = decoder._by_value(["Bald", "Young"], logits, labels)
    assert found["real_present"]["attributes"] == {"Bald": 0.5, "Young": 0.0}
    assert found["real_absent"]["attributes"] == {"Bald": 1.0, "Young": pytest.approx(2 / 3)}


def test_a_zero_edit_returns_the_picture():
    pixels = faces(2).pixels
    decoded = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    assert np.array_equal(evaluation.residual_edit(pixels, decoded, decoded), pixels)


def test_residual_edits_clip_at_both_ends():
    picture = np.array([[[[250, 5, 100]]]], dtype=np.uint8)
    before, after = np.full_like(picture, 100), np.array([[[[120, 80, 100]]]], dtype=np.uint8)
    assert evaluation.residual_edit(picture, before, after).tolist() == [[[[255, 0, 100]]]]


def test_inversion_goes_by_the_label_and_leaves_the_rest_as_shown():
    shown = np.array([[0.2, -0.4, 0.9, 0.1, -0.3, 0.5]], dtype=np.float32)
    labels = np.array([[-1, -1, 1, 1, -1, 1]], dtype=np.int8)
    torch.testing.assert_close(
        evaluation.inverted(shown, labels, 0, NAMES)[0], np.array([1, -1, 0.9, 0.1, -0.3, 0.5], dtype=np.float32)
    )
    assert evaluation.inverted(shown, labels, 2, NAMES)[0, 2] == -1


def test_subgroups_are_told_apart():
    names = ["Smiling", "Male", "Young"]
    labels = np.array([[-1, 1, 1], [1, 1, 1], [-1, -1, 1]], dtype=np.int8)
    edits = tally.EditTally(names, labels, unedited_logits=labels.astype(float))
    for attribute in range(3):
        edited = labels.astype(float)
        edited[:2, attribute] *= -1  # the third picture is not edited at all ...
        edited[2, 2] *= -1  # ... and always looks old afterwards
        edits.add(attribute, edited)
    found = decoder._subgroups(names, labels, {"raw": edits, "residual": edits})
    assert [(g["traits"], g["pictures"]) for g in found] == [
        ({"Male": True, "Young": True}, 2),
        ({"Male": False, "Young": True}, 1),
    ]
    men, women = (g["raw"] for g in found)
    assert men == {"accuracy": 1.0, "side_effects": 0.0}
    assert women["accuracy"] == pytest.approx(1 / 3)
    assert women["side_effects"] == pytest.approx(1 / 3)  # half of the others wrong in two edits of three
    assert decoder._subgroups(["Smiling"], labels[:, :1], {}) == []
