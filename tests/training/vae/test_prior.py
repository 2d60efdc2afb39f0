"""The sampling prior: known Gaussians are found again, and what is stored is what a bundle can hold."""

from __future__ import annotations

import numpy as np
import pytest

from service.bundle.manifest import SamplingPrior
from service.bundle.sampler import Sampler
from training.vae.prior import fit_prior

COUNT = 2000
WEIGHTS = np.array([[2.0, 0.0], [0.0, -1.5], [0.5, 0.5]])  # [Z, K]
OFFSET = np.array([3.0, -4.0, 0.0])


def balanced(count: int = COUNT) -> np.ndarray:
    """Labels [N, 2]: all four combinations equally often."""
    return np.tile([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], (count // 4, 1))


def noise(seed: int, count: int = COUNT) -> np.ndarray:
    """Latents [N, 3] with mean 0 and unit covariance, exactly, and uncorrelated with `balanced`."""
    design = np.column_stack([balanced(count), np.ones(count)])
    drawn = np.random.default_rng(seed).standard_normal((count, 3))
    drawn -= design @ np.linalg.lstsq(design, drawn, rcond=None)[0]
    return drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T


def lower(rows: list[list[float]]) -> np.ndarray:
    """The triangle as a matrix [Z, Z]."""
    matrix = np.zeros((len(rows), len(rows)))
    for index, row in enumerate(rows):
        matrix[index, : index + 1] = row
    return matrix


def test_a_linear_relation_to_the_attributes_is_found_again():
    labels = balanced()
    mean = labels @ WEIGHTS.T + OFFSET + noise(0)
    fitted = fit_prior(mean, np.full((COUNT, 3), -40.0), labels, labels)
    # The ridge takes a thousandth off.
    assert np.array(fitted.latent_weights) == pytest.approx(WEIGHTS / 1.001, abs=1e-4)
    # What it takes off the intercept goes back to the mean.
    assert fitted.latent_mean == pytest.approx(OFFSET, abs=1e-4)


def test_the_covariance_is_that_of_the_rest_and_the_mean_variance():
    labels, mixing = balanced(), np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.5, 0.1, 0.3]])
    variances = np.random.default_rng(1).uniform(0.1, 0.9, (COUNT, 3))
    fitted = fit_prior(noise(2) @ mixing.T, np.log(variances), labels, labels)
    found = lower(fitted.latent_cholesky)
    expected = mixing @ mixing.T + np.diag(variances.mean(0))  # the mean of variances, not of their logarithms
    assert found @ found.T == pytest.approx(expected, abs=1e-4)
    assert (np.diag(found) > 0).all()


def test_what_attributes_explain_is_no_part_of_the_covariance():
    labels = balanced()
    fits = [
        fit_prior(factor * labels @ WEIGHTS.T + noise(3), np.zeros((COUNT, 3)), labels, labels) for factor in (0, 1)
    ]
    plain, explained = (lower(fitted.latent_cholesky) for fitted in fits)
    # But for what the ridge leaves: a thousandth of each weight, squared.
    assert explained == pytest.approx(plain, abs=1e-4)


def test_latents_follow_what_is_estimated_and_the_rest_follows_labels():
    """The encoder's estimates go with the latents, even where labels say the opposite; labels are what is drawn."""
    labels = balanced()
    estimates = -0.5 * labels
    fitted = fit_prior(estimates @ WEIGHTS.T + noise(4), np.zeros((COUNT, 3)), estimates, labels)
    assert np.array(fitted.latent_weights) == pytest.approx(WEIGHTS * 0.25 / (0.25 + 1e-3), abs=1e-4)
    assert fitted.attribute_mean == [0.0, 0.0]
    assert np.array(fitted.attribute_covariance) == pytest.approx(np.cov(labels, rowvar=False), abs=1e-5)


def test_the_fit_does_not_depend_on_how_often_each_picture_is_there():
    labels = balanced(40)
    mean = labels @ WEIGHTS.T + noise(5, 40)
    once = fit_prior(mean, np.zeros_like(mean), labels, labels)
    often = fit_prior(*(np.tile(values, (50, 1)) for values in (mean, np.zeros_like(mean), labels, labels)))
    assert np.array(often.latent_weights) == pytest.approx(np.array(once.latent_weights), abs=1e-5)
    assert often.latent_mean == pytest.approx(once.latent_mean, abs=1e-5)


@pytest.mark.parametrize(
    ("estimates", "labels", "levels"),
    [
        ([-0.9, -0.7, 0.8, 0.6], [-1, -1, 1, 1], (-0.8, 0.7)),
        ([-0.2, 0.0, 0.1, 0.3], [-1, -1, 1, 1], (-0.5, 0.5)),  # encoders are not sure of it
        ([-0.9, -0.7, -0.8, -0.6], [-1, -1, -1, -1], (-0.75, 1.0)),  # no face has it
        ([0.9, 0.7, 0.8, 0.6], [1, 1, 1, 1], (-1.0, 0.75)),  # all faces have it
        ([-0.9, -0.7, 0.0, 0.8], [-1, -1, 0, 1], (-0.8, 0.8)),  # undecided ones do not count
    ],
)
def test_levels_are_those_of_average_faces_and_never_weak(estimates, labels, levels):
    column = np.array(estimates)[:, None]
    fitted = fit_prior(
        np.random.default_rng(6).standard_normal((4, 2)), np.zeros((4, 2)), column, np.array(labels)[:, None]
    )
    assert fitted.attribute_levels == [pytest.approx(levels)]


def test_one_latent_value_and_one_attribute_will_do():
    labels = balanced()[:, :1]
    mean = 2.0 * labels + noise(7)[:, :1]
    fitted = fit_prior(mean, np.log(np.full((COUNT, 1), 3.0)), labels, labels)
    assert np.shape(fitted.latent_weights) == (1, 1)
    assert fitted.latent_cholesky[0] == pytest.approx([2.0], abs=1e-4)  # of unit variance and the 3 of the posterior
    assert np.shape(fitted.attribute_covariance) == (1, 1)


def test_a_prior_is_stored_with_five_decimals_and_read_again():
    labels, rng = balanced(), np.random.default_rng(8)
    fitted = fit_prior(rng.standard_normal((COUNT, 3)), rng.standard_normal((COUNT, 3)), 0.7 * labels, labels)
    assert SamplingPrior.model_validate_json(fitted.model_dump_json()) == fitted
    assert [len(row) for row in fitted.latent_cholesky] == [1, 2, 3]
    numbers = [
        *fitted.latent_mean,
        *np.ravel(fitted.latent_weights),
        *(v for row in fitted.latent_cholesky for v in row),
    ]
    assert [round(number, 5) for number in numbers] == numbers
    assert all(type(number) is float for number in fitted.latent_mean)  # numpy's are no JSON


def test_a_latent_without_any_variance_has_no_density():
    labels = balanced()
    with pytest.raises(np.linalg.LinAlgError):
        fit_prior(np.ones((COUNT, 3)), np.full((COUNT, 3), -np.inf), labels, labels)


@pytest.mark.parametrize("shorter", range(3))
def test_rows_that_do_not_belong_together_are_refused(shorter: int):
    given = [np.random.default_rng(9).standard_normal((8, size)) for size in (3, 2, 2)]
    mean, estimates, labels = (values[: 7 if index == shorter else 8] for index, values in enumerate(given))
    labels = np.sign(labels)
    with pytest.raises((ValueError, IndexError)):
        fit_prior(mean, np.zeros((8, 3)), estimates, labels)


def test_a_fitted_prior_reproduces_the_aggregate_posterior():
    rng = np.random.default_rng(3)
    mixing = np.array([[1.0, 0.0], [0.8, 0.3]])
    mean = rng.standard_normal((4000, 2)) @ mixing.T + [2, -1]
    labels = np.sign(rng.standard_normal((4000, 2)))
    mean[:, 0] += 3 * labels[:, 1]  # the latent still tells the second attribute
    fitted = fit_prior(mean, np.full((4000, 2), np.log(0.04)), labels, labels)
    drawn = Sampler(fitted, [None, None]).latents(0, np.tile([[-1.0, 1.0]], (20_000, 1)), temperature=1.0)
    assert drawn.mean(0) == pytest.approx([5, -1], abs=0.06)
    assert np.cov(drawn.T) == pytest.approx(mixing @ mixing.T + 0.04 * np.eye(2), abs=0.05)


def test_drawn_attributes_are_as_certain_as_on_most_faces():
    rng = np.random.default_rng(4)
    labels = np.sign(rng.standard_normal((4000, 2)))
    shown = np.where(labels > 0, [0.8, 0.1], [-0.9, -0.7])  # of the second, encoders are seldom sure
    fitted = fit_prior(rng.standard_normal((4000, 3)), np.zeros((4000, 3)), shown, labels)
    assert np.array(fitted.attribute_levels) == pytest.approx(np.array([[-0.9, 0.8], [-0.7, 0.5]]))
    sampler = Sampler(fitted, [None, None])
    drawn = sampler.attributes(np.array([np.nan, np.nan]), seed=0, count=200)
    assert set(drawn[:, 0].round(3).tolist()) == {-0.9, 0.8}
    assert set(drawn[:, 1].round(3).tolist()) == {-0.7, 0.5}
    requested = sampler.attributes(np.array([1.5, np.nan]), seed=0, count=5)
    assert requested[:, 0].tolist() == [1.5] * 5
