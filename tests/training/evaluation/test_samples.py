"""What is said of generated faces: distances that are those of known pictures, and neighbours that are the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle import loader
from service.bundle.loader import Bundle
from tests.service import fakes
from training.evaluation import samples

SIDE, COUNT = fakes.IMAGE_SIZE, 128


class Grey:
    """Graphs that draw the first latent value as a level of grey, and read it again."""

    learned = None

    def encode(self, pixels, attributes):
        level = pixels.astype(np.float32).mean(axis=(1, 2, 3))
        return np.repeat(level[:, None], fakes.LATENT_SIZE, axis=1), np.zeros_like(attributes)

    def decode(self, latent, attributes):
        levels = latent[:, 0].round().clip(0, 255).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (len(levels), SIDE, SIDE, 3)).copy()


class Learned(Grey):
    """The same with a prior that draws levels around 100, as the real pictures have."""

    def learned(self, noise, attributes):
        return 100 + 20 * noise


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    fakes.write_bundle(tmp_path / "tiny", schema=2)
    return loader.load(tmp_path / "tiny")


def real(count: int = COUNT, seed: int = 0) -> np.ndarray:
    latent = np.random.default_rng(seed).normal(100, 20, (count, 1))
    return Grey().decode(latent, None)


def features(pixels: np.ndarray) -> np.ndarray:
    level = pixels.astype(np.float32).mean(axis=(1, 2, 3)) / 50
    return np.stack([level, level**2], axis=1)


def report(graphs, bundle: Bundle, held_out=None, train=None) -> dict:
    held_out, train = real() if held_out is None else held_out, real(70, 3) if train is None else train
    found, sheet = samples.evaluate(graphs, bundle, features, held_out, train, count=COUNT, temperatures=(0.1, 1.0))
    assert sheet.shape == (16 * SIDE, 8 * SIDE, 3)
    return found


def test_samples_like_real_faces_are_near_and_as_diverse(bundle: Bundle):
    at_one = report(Learned(), bundle)["temperatures"]["1"]
    assert abs(at_one["kid"]) < 0.2 * report(Grey(), bundle)["temperatures"]["1"]["kid"]
    assert at_one["diversity"] == pytest.approx(1, abs=0.25)


def test_a_low_temperature_takes_diversity(bundle: Bundle):
    found = report(Learned(), bundle)["temperatures"]
    assert found["0.1"]["diversity"] < 0.3 * found["1"]["diversity"]


def test_reconstructions_that_lose_nothing_are_as_near_as_real_faces(bundle: Bundle):
    kid = report(Learned(), bundle)["kid"]
    assert kid["reconstructions"] == kid["real_against_real"]


def test_a_training_picture_that_is_drawn_again_is_found(bundle: Bundle):
    drawn = samples.draw(Learned(), bundle, 3)
    found = report(Learned(), bundle, train=np.concatenate([real(70, 3), drawn]))["neighbours"]
    assert found["smallest"] == 0
    assert found["real_median"] > 0


class Brightness:
    """A judge to which every attribute is as clear as the picture is bright, or as dark with `sign` -1."""

    def __init__(self, bundle: Bundle, sign: int = 1):
        self.count, self.sign = len(bundle.manifest.attributes), sign

    def predict(self, pixels):
        level = self.sign * pixels.astype(np.float32).mean(axis=(1, 2, 3))
        return np.repeat(level[:, None], self.count, axis=1), None


class Brighter(Learned):
    """Every attribute makes its faces brighter, in steps of whole levels."""

    def decode(self, latent, attributes):
        return super().decode(60 + 0 * latent + 20 * attributes.sum(axis=1, keepdims=True), attributes)


def test_attributes_that_are_added_in_order_correlate_with_their_strength(bundle: Bundle):
    names = bundle.manifest.attribute_names
    found = samples.gradual(Brighter(), bundle, Brightness(bundle), count=4)
    assert list(found["attributes"]) == names
    alone = [name for name, group in zip(names, bundle.manifest.attribute_groups, strict=True) if group is None]
    assert alone
    assert all(found["attributes"][name] == pytest.approx(1) for name in alone)
    reverse = samples.gradual(Brighter(), bundle, Brightness(bundle, -1), count=4)
    assert all(reverse["attributes"][name] == pytest.approx(-1) for name in alone)
    # Faces that do not change have no order at all.
    assert samples.gradual(Grey(), bundle, Brightness(bundle), count=4)["mean"] == 0


def test_the_tables_name_the_attribute_whose_additions_are_least_in_order(bundle: Bundle):
    found = report(Learned(), bundle)
    assert "gradually" not in samples.markdown(found)
    found["gradual"] = {"mean": 0.9, "attributes": {"Smiling": 0.99, "Bald": 0.8123}}
    assert "Spearman of strength and judge: 0.900 (the weakest: Bald 0.812)" in samples.markdown(found)


def test_the_nearest_row_and_its_distance():
    rng = np.random.default_rng(0)
    points, among = rng.normal(size=(5, 4)), rng.normal(size=(5000, 4))
    distances, rows = samples.nearest(points, among)
    every = np.linalg.norm(points[:, None] - among, axis=2)
    np.testing.assert_array_equal(rows, every.argmin(axis=1))
    np.testing.assert_allclose(distances, every.min(axis=1), rtol=1e-6)


def test_the_tables_name_the_default_temperature(bundle: Bundle):
    found = report(Learned(), bundle)
    found["temperatures"]["0.7"] = found["temperatures"]["1"]
    text = samples.markdown(found)
    assert "| temperature 0.7, the default |" in text
    assert "temperature 1, the default" not in text
