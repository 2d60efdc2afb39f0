import torch

from training.target_confidence import TargetConfidence


def settled(margin=0.0):
    """One attribute that faces show plainly, one that they hardly do."""
    target_confidence = TargetConfidence(2, margin)
    labels = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    for _ in range(2000):
        target_confidence.update(labels, torch.tensor([[4.0, 0.0], [-4.0, -1.0]]))
    return target_confidence


def test_an_edit_aims_for_what_real_faces_show():
    wanted = settled().of(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    expected = 2 * torch.sigmoid(torch.tensor([[4.0, 0.0], [-4.0, -1.0]])) - 1
    torch.testing.assert_close(wanted, expected, atol=1e-3, rtol=0)


def test_a_margin_asks_for_a_little_more_both_ways():
    wanted = settled(margin=0.5).of(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    expected = 2 * torch.sigmoid(torch.tensor([[4.5, 0.5], [-4.5, -1.5]])) - 1
    torch.testing.assert_close(wanted, expected, atol=1e-3, rtol=0)


def test_halfway_is_halfway_and_exaggeration_stops_at_the_end():
    target_confidence = settled()
    low, middle, high, beyond = target_confidence.of(torch.tensor([-1.0, 0.0, 1.0, 1.7])[:, None].expand(4, 2))
    torch.testing.assert_close(middle, (low + high) / 2)
    torch.testing.assert_close(beyond, high)


def test_labels_that_do_not_occur_leave_the_other_average_alone():
    target_confidence = TargetConfidence(1, margin=0.0)
    target_confidence.update(torch.tensor([[1.0]]), torch.tensor([[5.0]]))
    assert target_confidence.logits.values[0].item() == -2.0
    assert target_confidence.logits.values[1].item() > 2.0


def test_each_direction_of_each_attribute_may_have_its_own_margin():
    wanted = settled(margin=torch.tensor([[0.5, 0.0], [1.0, 2.0]])).of(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
    expected = 2 * torch.sigmoid(torch.tensor([[5.0, 2.0], [-4.5, -1.0]])) - 1
    torch.testing.assert_close(wanted, expected, atol=1e-3, rtol=0)
