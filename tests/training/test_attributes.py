import torch

from training import attributes

NAMES = ["Black_Hair", "Blond_Hair", "Smiling"]


def invert(shown, labels, attribute):
    flips = torch.zeros(len(shown), 3, dtype=torch.bool)
    flips[:, attribute] = True
    return attributes.invert(torch.tensor(shown), torch.tensor(labels), flips, attributes.exclusion_matrix(NAMES))


def test_adding_a_hair_colour_clears_the_other():
    assert invert([[0.9, -0.8, 0.3]], [[1.0, -1.0, 1.0]], 1).tolist() == [[-1.0, 1.0, torch.tensor(0.3).item()]]


def test_removing_a_hair_colour_leaves_the_other():
    edited = invert([[0.9, -0.5, 0.5]], [[1.0, -1.0, 1.0]], 0)
    assert edited.tolist() == [[-1.0, -0.5, 0.5]]


def test_an_attribute_without_a_group_changes_alone():
    assert invert([[0.5, -0.5, 0.25]], [[1.0, -1.0, -1.0]], 2).tolist() == [[0.5, -0.5, 1.0]]


def test_an_unknown_attribute_is_described_by_its_name():
    assert attributes.describe("Wearing_Monocle").description == "wearing monocle"
    assert attributes.exclusive_groups(["Black_Hair", "Smiling"]) == {}
