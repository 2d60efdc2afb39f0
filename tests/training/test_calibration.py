import numpy as np
import pytest

from training.calibration import _balanced_mean, allocate, solve_mixing

RNG = np.random.default_rng(0)
COUNT = 5


def settle(latent, told, wanted, ignore, rounds=1, ridge=1e-6):
    """Mixing and response of a world whose logits respond linearly to the latent and to what the decoder is told."""
    mixing = np.eye(COUNT)
    for _ in range(rounds):
        mixing = solve_mixing(mixing, told + latent @ mixing, latent, wanted, ignore, ridge)
    return mixing, told + latent @ mixing


def world():
    latent = np.eye(COUNT) + 0.3 * RNG.standard_normal((COUNT, COUNT))
    return latent, 0.2 * RNG.standard_normal((COUNT, COUNT))


def test_requests_end_up_moving_their_own_attribute_alone():
    latent, told = world()
    wanted = np.array([2.0, 1.0, 3.0, 2.0, 1.5])
    _, response = settle(latent, told, wanted, np.zeros((COUNT, COUNT), dtype=bool))
    assert response == pytest.approx(np.diag(wanted), abs=1e-3)


def test_ignored_side_effects_are_left_free():
    latent, told = np.eye(COUNT), np.zeros((COUNT, COUNT))
    told[1, 0] = 5.0
    ignore = np.zeros((COUNT, COUNT), dtype=bool)
    ignore[0, 1] = True
    _, response = settle(latent, told, np.ones(COUNT), ignore)
    assert response[1, 0] == pytest.approx(5.0)


def test_the_ridge_keeps_the_matrix_near_where_it_was():
    latent, told = world()
    wanted, ignore = np.ones(COUNT), np.zeros((COUNT, COUNT), dtype=bool)
    near, _ = settle(latent, told, wanted, ignore, ridge=100.0)
    far, _ = settle(latent, told, wanted, ignore, ridge=1e-6)
    assert np.abs(near - np.eye(COUNT)).max() < 0.3 * np.abs(far - np.eye(COUNT)).max()


def test_rare_pictures_weigh_as_much_as_common_ones():
    values = np.array([[[1.0], [1.0], [1.0], [5.0]]])
    assert _balanced_mean(values, np.array([False, False, False, True])) == pytest.approx([3.0])


def test_the_budget_goes_where_it_buys_most():
    accuracy = np.array([[0.2, 0.2], [0.8, 0.3]])
    side_effects = np.array([[0.0, 0.0], [0.02, 0.1]])
    assert allocate(accuracy, side_effects, budget=0.5).tolist() == [1, 1]
    assert allocate(accuracy, side_effects, budget=0.02).tolist() == [1, 0]
    assert allocate(accuracy, side_effects, budget=0.001).tolist() == [0, 0]


def test_a_budget_that_cannot_be_met_takes_the_least_side_effects():
    side_effects = np.array([[0.2, 0.3], [0.3, 0.2]])
    assert allocate(np.zeros((2, 2)), side_effects, budget=0.01).tolist() == [0, 1]
