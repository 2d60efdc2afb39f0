import numpy as np
import pytest

from training import metrics

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_psnr_of_one_level():
    picture = np.full((1, 4, 4, 3), 100, dtype=np.uint8)
    assert metrics.psnr(picture + 1, picture) == pytest.approx(48.13, abs=0.01)


def test_ssim_is_one_only_for_the_same_picture():
    pictures = noise(2, 32, 32, 3)
    assert metrics.ssim(pictures, pictures) == pytest.approx(1.0)
    assert metrics.ssim(pictures, noise(2, 32, 32, 3)) < 0.2


def test_blur_lowers_sharpness():
    pictures = noise(3, 16, 16, 3)
    blurred = ((pictures.astype(int) + np.roll(pictures, 1, axis=1)) // 2).astype(np.uint8)
    assert metrics.sharpness(blurred) < 0.7 * metrics.sharpness(pictures)
    assert metrics.sharpness(np.full((1, 8, 8, 3), 7, dtype=np.uint8)) == pytest.approx(0)


def test_frechet_distance_of_known_gaussians():
    a = RNG.standard_normal((200_000, 2))
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    # Means 3 apart, standard deviations 1 and 2 in both dimensions: 9 + 2 * (2 - 1)^2.
    assert metrics.frechet_distance(a, 2 * a + [3, 0]) == pytest.approx(11, rel=0.02)


def test_monotonicity_counts_direction_and_refuses_constants():
    strengths = np.linspace(0, 1, 5)
    rising, falling, flat = strengths**3, -strengths, np.zeros(5)
    assert metrics.monotonicity(strengths, np.stack([rising])) == pytest.approx(1)
    assert metrics.monotonicity(strengths, np.stack([rising, falling])) == pytest.approx(0)
    assert metrics.monotonicity(strengths, np.stack([flat])) == 0


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_finds_what_is_there_and_nothing_else(kind):
    latent = RNG.standard_normal((1200, 4))
    labels = np.stack([np.sign(latent[:, 1]), np.sign(RNG.standard_normal(1200)), np.ones(1200)], axis=1)
    scores = metrics.probe_auc(latent[:800], labels[:800], latent[800:], labels[800:], kind)
    assert scores[0] > 0.97
    assert 0.4 < scores[1] < 0.6
    assert np.isnan(scores[2])
