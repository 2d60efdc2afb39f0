import numpy as np

from training.calibration import allocate


def test_the_budget_goes_where_it_buys_most():
    accuracy = np.array([[0.2, 0.2], [0.8, 0.3]])
    side_effects = np.array([[0.0, 0.0], [0.02, 0.1]])
    assert allocate(accuracy, side_effects, budget=0.5).tolist() == [1, 1]
    assert allocate(accuracy, side_effects, budget=0.02).tolist() == [1, 0]
    assert allocate(accuracy, side_effects, budget=0.001).tolist() == [0, 0]


def test_a_budget_that_cannot_be_met_takes_the_least_side_effects():
    side_effects = np.array([[0.2, 0.3], [0.3, 0.2]])
    assert allocate(np.zeros((2, 2)), side_effects, budget=0.01).tolist() == [0, 1]
