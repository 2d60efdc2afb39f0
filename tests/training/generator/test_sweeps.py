"""Attributes that move once a latent is drawn."""

import torch

from training.attributes import exclusion_matrix
from training.generator.sweeps import Moves

NAMES = ["Black_Hair", "Blond_Hair", "Smiling"]
EXCLUSION = exclusion_matrix(NAMES)


def test_an_attribute_moves_towards_the_opposite_of_its_label():
    labels = torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]])
    estimates = torch.tensor([[0.8, -0.6, 0.5], [0.9, -0.7, -0.4]])
    moves = Moves(torch.tensor([2, 2]), torch.tensor([[0.5], [1.0]]))
    assert torch.allclose(moves.of(labels, labels, EXCLUSION), torch.tensor([[1.0, -1, 0], [1, -1, 1]]))
    expected = torch.tensor([[0.8, -0.6, -0.25], [0.9, -0.7, 1.0]])
    assert torch.allclose(moves.of(estimates, labels, EXCLUSION), expected)


def test_a_hair_colour_that_is_added_takes_the_others_away_by_as_much():
    labels = torch.tensor([[1.0, -1.0, 1.0]]).repeat(2, 1)
    moves = Moves(torch.tensor([1, 0]), torch.full((2, 1), 0.75))
    # Blond is added to black hair; then black is removed, which says nothing of blond.
    assert torch.allclose(moves.of(labels, labels, EXCLUSION), torch.tensor([[-0.5, 0.5, 1], [-0.5, -1, 1]]))


def test_what_does_not_move_stays_and_the_share_that_does_is_kept():
    labels = torch.where(torch.rand(4000, 3) < 0.5, 1.0, -1.0)
    moves = Moves.draw(4000, 3, 0.25, torch.Generator().manual_seed(0))
    moved = (moves.of(labels, labels, EXCLUSION) != labels).any(1)
    assert torch.equal(moved, moves.strength[:, 0] > 0)
    assert 0.22 < moved.float().mean() < 0.28
    assert moves.attribute.bincount().min() > 1200
    assert not Moves.draw(100, 3, 0.0, torch.Generator()).strength.any()
