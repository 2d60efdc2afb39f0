import torch

from training.vae.difficulty import Difficulty

LABELS = torch.tensor([[1.0, -1.0], [1.0, -1.0]])


def test_everything_is_difficult_before_it_was_tried():
    assert torch.equal(Difficulty(2).of(LABELS), torch.full((2, 2), 1.2))


def test_what_succeeds_becomes_easy_in_its_own_direction_only():
    difficulty = Difficulty(2)
    flips = torch.tensor([[True, False], [True, False]])
    for _ in range(500):
        difficulty.update(LABELS, flips, torch.full((2, 2), -20.0))  # attribute 0 was removed, and looks it
    removed, untried = difficulty.of(LABELS)[0].tolist()
    assert removed < 0.21
    assert abs(untried - 1.2) < 1e-6
    assert torch.equal(difficulty.of(-LABELS)[:, 0], torch.full((2,), 1.2))  # adding it is another matter


def test_the_average_settles_at_the_share_that_fails():
    difficulty = Difficulty(1)
    labels, logits = torch.tensor([[-1.0]] * 4), torch.tensor([[20.0], [20.0], [20.0], [-20.0]])
    for _ in range(500):
        difficulty.update(labels, torch.ones(4, 1, dtype=torch.bool), logits)
    assert abs(difficulty.disbelief.values[0, 0].item() - 0.25) < 1e-3


def test_nothing_requested_changes_nothing():
    difficulty = Difficulty(2)
    difficulty.update(LABELS, torch.zeros(2, 2, dtype=torch.bool), torch.randn(2, 2))
    assert torch.equal(difficulty.disbelief.values, torch.ones(2, 2))
