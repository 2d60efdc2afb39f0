import pytest
import torch

from tests.training.editor.networks import KEPT, NAMES
from training.editor import requests

LABELS = [*NAMES, *KEPT]
RULES = requests.Rules.of(NAMES, KEPT)


def face(*present):
    return torch.tensor([[1.0 if name in present else -1.0 for name in LABELS]])


def flip(labels, *names, strength=1.0):
    flips = torch.tensor([[name in names for name in LABELS]])
    return requests.of_flips(labels, flips, torch.tensor([[strength]]), RULES)


def names_of(row):
    return {name for name, value in zip(LABELS, row.tolist(), strict=True) if value}


def test_adding_a_hair_colour_takes_away_the_one_that_is_there():
    asked = flip(face("Black_Hair", "Smiling"), "Blond_Hair")
    told = dict(zip(NAMES, asked.change[0].tolist(), strict=True))
    assert (told.pop("Blond_Hair"), told.pop("Black_Hair")) == (1, -1)
    assert set(told.values()) == {0}
    assert asked.target[0, LABELS.index("Black_Hair")] == -1
    weights = dict(zip(LABELS, asked.asked[0].tolist(), strict=True))
    assert (weights["Blond_Hair"], weights["Black_Hair"], weights["Smiling"]) == (1, 0.5, 0)


def test_what_was_not_there_does_not_dilute_the_edit():
    assert names_of(flip(face("Smiling"), "Blond_Hair").asked[0]) == {"Blond_Hair"}


def test_an_attribute_takes_others_away_without_telling_the_editor():
    asked = flip(face("No_Beard", "Smiling"), "Mustache")
    assert names_of(asked.change[0].new_tensor([*asked.change[0].tolist(), 0, 0])) == {"Mustache"}
    assert asked.target[0, LABELS.index("No_Beard")] == -1
    assert not asked.kept[0, LABELS.index("No_Beard")]
    assert asked.kept[0, LABELS.index("Smiling")]


def test_all_that_nobody_may_edit_is_kept():
    asked = flip(face("Wearing_Hat"), "Smiling")
    assert {"Wearing_Hat", "Wearing_Lipstick"} <= names_of(asked.kept[0])
    assert "Wearing_Lipstick" not in names_of(flip(face("Wearing_Lipstick"), "Male").kept[0])


def test_half_an_edit_asks_for_half_the_way():
    asked = flip(face("Smiling"), "Smiling", strength=0.5)
    assert asked.change[0, NAMES.index("Smiling")] == -0.5
    assert asked.target[0, LABELS.index("Smiling")] == 0


def drawn(labels, seed=0, rows=slice(None), count=None):
    frequencies = torch.full((len(LABELS),), 0.5)
    frequencies[LABELS.index("Bald")] = 0.04
    count = len(labels) if count is None else count
    return requests.draw(labels[rows], frequencies, RULES, count, rows, seed)


def test_rare_values_are_asked_for_as_often_as_common_ones():
    labels = torch.where(torch.rand(4000, len(LABELS), generator=torch.Generator().manual_seed(1)) < 0.5, 1.0, -1.0)
    bald = torch.rand(4000, generator=torch.Generator().manual_seed(2)) < 0.04
    labels[:, 0] = torch.where(bald, 1.0, -1.0)
    change = drawn(labels).change[:, 0]
    added, removed = (change > 0).float().mean(), (change < 0).float().mean()
    assert 0.25 < added / removed < 4  # there are 24 times as many faces to add it to


def test_only_editable_attributes_are_inverted_one_or_two_at_a_time():
    labels = torch.ones(500, len(LABELS))
    asked = drawn(labels)
    inverted = (asked.target < 1).sum(1)
    assert asked.change.shape == (500, len(NAMES))
    assert ((inverted >= 1) & (inverted <= 2)).all()
    assert (asked.target[:, len(NAMES) :] == 1).all()
    assert 0.05 < (inverted == 2).float().mean() < 0.3
    full = asked.change.abs().amax(1) >= 0.85
    assert 0.7 < full.float().mean() < 0.95


@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 8)])
def test_requests_do_not_depend_on_who_draws_which_part(rows):
    labels = torch.where(torch.rand(8, len(LABELS), generator=torch.Generator().manual_seed(1)) < 0.5, 1.0, -1.0)
    whole, part = drawn(labels), drawn(labels, rows=rows, count=8)
    for name, value in vars(whole.part(rows)).items():
        assert torch.equal(getattr(part, name), value), name
