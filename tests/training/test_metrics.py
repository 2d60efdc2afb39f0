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


def test_equal_errors_are_equal():
    scores = np.concatenate([RNG.normal(2, 1, 500), RNG.normal(0, 1, 20_000)])
    present = np.arange(len(scores)) < 500
    threshold = metrics.equal_error_threshold(scores, present)
    missed, false = (scores[present] <= threshold).mean(), (scores[~present] > threshold).mean()
    assert missed == pytest.approx(false, abs=0.003)
    assert threshold == pytest.approx(1, abs=0.1)


def test_equal_errors_of_what_is_told_apart_lie_in_the_middle():
    assert metrics.equal_error_threshold(np.array([0.0, 1.0, 5.0, 6.0]), np.array([0, 0, 1, 1], dtype=bool)) == 3


def test_kernel_distance_is_the_unbiased_estimate_of_its_formula():
    a, b = RNG.standard_normal((5, 4)), RNG.standard_normal((7, 4)) + 1

    def kernel(x, y):
        return (sum(x * y) / 4 + 1) ** 3

    within_a = np.mean([kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(7) for j in range(7) if i != j])
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert metrics.kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


def test_kernel_distance_is_zero_on_average_and_grows_with_a_shift():
    a = RNG.standard_normal((400, 8))
    same = [metrics.kernel_distance(a[:100], RNG.standard_normal((100, 8))) for _ in range(50)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(50)
    shifted = [metrics.kernel_distance(a[:100], a[100:200] + step) for step in (0.3, 0.6)]
    assert 0 < shifted[0] < shifted[1]
    with pytest.raises(ValueError, match="1 and 400 rows"):
        metrics.kernel_distance(a[:1], a)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_probe_of_too_few_examples_is_not_taken(kind):
    rng = np.random.default_rng(0)
    latent, labels = rng.standard_normal((40, 3)), -np.ones((40, 2), dtype=np.int8)
    labels[:20, 0], labels[0, 1] = 1, 1  # of the second attribute one example
    found = metrics.probe_auc(latent, labels, latent, labels, kind)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
