import numpy as np
import pytest
import torch

from training.commands.compare import judged
from training.data.dataset import Faces

NAMES = ["Bald", "Black_Hair", "Blond_Hair", "Smiling"]


class Drawing:
    """Attribute k is the brightness of column k; a latent is the picture without them."""

    def __init__(self, obeys: bool) -> None:
        self.obeys = obeys

    def encode(self, pixels, attributes):
        current = np.where(pixels[:, 0, : len(NAMES), 0] > 127, 1.0, -1.0).astype(np.float32)
        return pixels.reshape(len(pixels), -1).astype(np.float32), current

    def decode(self, latent, attributes):
        pixels = latent.reshape(-1, 8, 8, 3).copy()
        if self.obeys:
            pixels[:, :, : len(NAMES)] = np.where(attributes > 0, 200, 50)[:, None, :, None]
        return pixels.astype(np.uint8)


class Judging:
    def predict(self, pixels):
        logits = (pixels[:, 0, : len(NAMES), 0].astype(np.float32) - 127) / 20
        return logits, logits


@pytest.fixture
def faces():
    rng = np.random.default_rng(1)
    labels = np.where(rng.random((64, len(NAMES))) < 0.4, 1, -1).astype(np.int8)
    labels[:, 0] = -1
    labels[:2, 0] = 1  # rare
    pixels = rng.integers(0, 255, (64, 8, 8, 3), dtype=np.uint8)
    pixels[:, :, : len(NAMES)] = np.where(labels > 0, 200, 50)[:, None, :, None]
    return Faces(pixels, labels)


def test_what_a_model_draws_is_seen(faces):
    found = judged(Drawing(obeys=True), Judging(), NAMES, faces)
    assert found["raw_added"] == found["residual_removed"] == found["rare_added"] == found["grouped_added"] == 1
    assert found["raw_side_effects"] == 0
    assert found["rare_estimates"] == 1
    assert found["reconstruction_db"] > 60


def test_what_a_model_ignores_is_not(faces):
    found = judged(Drawing(obeys=False), Judging(), NAMES, faces)
    assert found["raw_added"] == found["residual_removed"] == found["rare_added"] == 0


def test_without_rare_attributes_there_is_no_figure_of_them(faces):
    faces.labels[:, 0] = np.where(torch.arange(64) % 2 == 0, 1, -1)
    assert np.isnan(judged(Drawing(obeys=True), Judging(), NAMES, faces)["rare_added"])
