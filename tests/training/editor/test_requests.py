import pytest
import torch

from tests.training.editor.networks import KEPT, NAMES
from training.config import RequestsConfig
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
    requested = flip(face("Black_Hair", "Smiling"), "Blond_Hair")
    told = dict(zip(NAMES, requested.change[0].tolist(), strict=True))
    assert (told.pop("Blond_Hair"), told.pop("Black_Hair")) == (1, -1)
    assert set(told.values()) == {0}
    assert requested.target[0, LABELS.index("Black_Hair")] == -1
    weights = dict(zip(LABELS, requested.weight[0].tolist(), strict=True))
    assert (weights["Blond_Hair"], weights["Black_Hair"], weights["Smiling"]) == (1, 0.5, 0)


def test_what_was_not_there_does_not_dilute_the_edit():
    assert names_of(flip(face("Smiling"), "Blond_Hair").weight[0]) == {"Blond_Hair"}


def test_an_attribute_takes_others_away_without_telling_the_editor():
    requested = flip(face("No_Beard", "Smiling"), "Mustache")
    assert names_of(requested.change[0].new_tensor([*requested.change[0].tolist(), 0, 0])) == {"Mustache"}
    assert requested.target[0, LABELS.index("No_Beard")] == -1
    assert not requested.kept[0, LABELS.index("No_Beard")]
    assert requested.kept[0, LABELS.index("Smiling")]


def test_a_smile_goes_with_the_mouth_that_it_opened():
    """Without telling the editor, which is not told either that the face has its mouth open."""
    labels = ["Bangs", "Mouth_Slightly_Open", "Smiling"]
    rules, strength = requests.Rules.of(labels, []), torch.ones(1, 1)
    present, only_smile = torch.ones(1, 3), torch.tensor([[False, False, True]])
    requested = requests.of_flips(present, only_smile, strength, rules)
    assert requested.change.tolist() == [[0, 0, -1]]
    assert requested.target.tolist() == [[1, -1, -1]]
    assert requested.weight.tolist() == [[0, 0.5, 1]]
    assert requested.kept.tolist() == [[True, False, False]]
    # A closed mouth stays closed, and an added smile opens none.
    for face in ([[1.0, -1.0, 1.0]], [[1.0, 1.0, -1.0]], [[1.0, -1.0, -1.0]]):
        assert requests.of_flips(torch.tensor(face), only_smile, strength, rules).kept.tolist() == [[True, True, False]]


def test_a_hair_colour_has_no_effect_on_a_bald_head():
    """The editor is told, and learns to leave the picture as it is."""
    bald = face("Bald")
    requested = flip(bald, "Blond_Hair")
    assert requested.change[0, NAMES.index("Blond_Hair")] == 1
    assert torch.equal(requested.target, bald)
    assert requested.weight.sum() == 0
    assert requested.kept.all()
    # Whoever is not bald keeps the hairline and gets the colour.
    coloured = flip(face(), "Blond_Hair")
    assert coloured.target[0, LABELS.index("Blond_Hair")] == 1
    assert coloured.kept[0, LABELS.index("Bald")]


def test_what_no_face_shows_is_not_requested():
    labels = ["Heavy_Makeup", "Male", "Smiling"]
    rules = requests.Rules.of(labels, [])
    men = torch.tensor([[-1.0, 1.0, -1.0]]).expand(300, 3)
    drawn = [
        requests.draw(faces, torch.full((3,), 0.5), rules, 300, slice(None), 5).change[:, 0]
        for faces in (men, men * torch.tensor([1.0, -1.0, 1.0]), men * torch.tensor([-1.0, 1.0, 1.0]))
    ]
    assert [bool(changes.any()) for changes in drawn] == [False, True, True]  # what a man wears can be taken off


@pytest.mark.parametrize(("name", "before"), [("Bald", -1.0), ("Mustache", -1.0), ("No_Beard", 1.0)])
def test_what_hardly_any_woman_has_is_requested_of_men_alone(name: str, before: float):
    labels = [name, "Male", "Smiling"]
    rules = requests.Rules.of(labels, [])
    men = torch.tensor([[before, 1.0, -1.0]]).expand(300, 3)
    drawn = [
        requests.draw(faces, torch.full((3,), 0.5), rules, 300, slice(None), 5).change[:, 0]
        for faces in (men, men * torch.tensor([1.0, -1.0, 1.0]), men * torch.tensor([-1.0, -1.0, 1.0]))
    ]
    assert [bool(changes.any()) for changes in drawn] == [True, False, True]  # a woman's can be taken off


def test_faces_whose_sex_nobody_labelled_get_every_edit():
    rules = requests.Rules.of(["Bald", "No_Beard"], [])
    faces = torch.tensor([[-1.0, 1.0]]).expand(300, 2)
    assert requests.draw(faces, torch.full((2,), 0.5), rules, 300, slice(None), 5).change.any(0).all()


def test_edits_of_the_face_alone_are_marked():
    faces = [flip(face(), *names) for names in (["Smiling"], ["Smiling", "Mustache"], ["Smiling", "Bangs"])]
    assert [bool(each.facial) for each in faces] == [True, True, False]


def test_emphasised_attributes_are_requested_more_often():
    labels = face("Male").expand(3000, -1)  # of whom all of these are requested
    config = RequestsConfig(second=0.0, emphasis={"Smiling": 4.0})
    rules = requests.Rules.of(NAMES, KEPT, config=config)
    found = requests.draw(labels, torch.full((len(LABELS),), 0.5), rules, 3000, slice(None), 3, config)
    smiles = found.change[:, NAMES.index("Smiling")] > 0
    assert smiles.float().mean().item() == pytest.approx(4 / (len(NAMES) + 3), abs=0.04)
    assert torch.equal(found.anchored, ~smiles)  # the others keep what a run began with


def test_all_that_nobody_may_edit_is_kept():
    requested = flip(face("Wearing_Hat"), "Smiling")
    assert {"Wearing_Hat", "Wearing_Lipstick"} <= names_of(requested.kept[0])
    assert "Wearing_Lipstick" not in names_of(flip(face("Wearing_Lipstick"), "Male").kept[0])


def test_half_an_edit_asks_for_half_the_way():
    requested = flip(face("Smiling"), "Smiling", strength=0.5)
    assert requested.change[0, NAMES.index("Smiling")] == -0.5
    assert requested.target[0, LABELS.index("Smiling")] == 0


def drawn(labels, seed=0, rows=slice(None), count=None):
    frequencies = torch.full((len(LABELS),), 0.5)
    frequencies[LABELS.index("Bald")] = 0.04
    count = len(labels) if count is None else count
    return requests.draw(labels[rows], frequencies, RULES, count, rows, seed)


def test_rare_values_are_requested_as_often_as_common_ones():
    labels = torch.where(torch.rand(4000, len(LABELS), generator=torch.Generator().manual_seed(1)) < 0.5, 1.0, -1.0)
    bald = torch.rand(4000, generator=torch.Generator().manual_seed(2)) < 0.04
    labels[:, 0] = torch.where(bald, 1.0, -1.0)
    change = drawn(labels).change[:, 0]
    added, removed = (change > 0).float().mean(), (change < 0).float().mean()
    assert 0.25 < added / removed < 4  # there are 24 times as many faces to add it to


def test_only_editable_attributes_are_inverted_one_or_two_at_a_time():
    labels = torch.ones(500, len(LABELS))
    requested = drawn(labels)
    inverted = (requested.target < 1).sum(1)
    assert requested.change.shape == (500, len(NAMES))
    assert ((inverted >= 1) & (inverted <= 2)).all()
    assert (requested.target[:, len(NAMES) :] == 1).all()
    assert 0.05 < (inverted == 2).float().mean() < 0.3
    full = requested.change.abs().amax(1) >= 0.85
    assert 0.7 < full.float().mean() < 0.95


@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 8)])
def test_requests_do_not_depend_on_who_draws_which_part(rows):
    labels = torch.where(torch.rand(8, len(LABELS), generator=torch.Generator().manual_seed(1)) < 0.5, 1.0, -1.0)
    whole, part = drawn(labels), drawn(labels, rows=rows, count=8)
    for name, value in vars(whole.part(rows)).items():
        assert torch.equal(getattr(part, name), value), name


def test_the_configuration_decides_what_is_requested():
    labels = torch.full((400, len(LABELS)), -1.0)
    config = RequestsConfig(second=0.0, partial=0.0, least_full_change=0.5)
    requested = requests.draw(labels, torch.full((len(LABELS),), 0.5), RULES, 400, slice(None), 3, config)
    assert ((requested.weight == 1).sum(1) == 1).all()
    full = requested.change[requested.change > 0]
    assert 0.5 <= full.min() < 0.55
    assert full.max() <= 1


def test_light_is_what_shows_light_hair_or_should():
    assert flip(face("Blond_Hair"), "Smiling").light
    assert flip(face("Black_Hair"), "Blond_Hair").light
    assert flip(face("Black_Hair"), "Blond_Hair", strength=0.3).light
    assert flip(face("Blond_Hair"), "Black_Hair").light
    assert not flip(face("Black_Hair"), "Smiling").light
    assert not flip(face("Smiling"), "Black_Hair").light


def test_only_a_head_that_becomes_bald_is_bared():
    assert flip(face("Black_Hair"), "Bald").bares
    assert not flip(face("Black_Hair"), "Bald", strength=0.5).bares
    assert not flip(face("Bald"), "Bald").bares
    assert not flip(face("Bald"), "Smiling").bares


def test_hair_is_dyed_where_it_becomes_dark():
    assert flip(face("Blond_Hair"), "Black_Hair").dyes
    assert flip(face("Blond_Hair"), "Black_Hair", strength=0.3).dyes
    assert not flip(face("Black_Hair"), "Black_Hair").dyes
    assert not flip(face("Black_Hair"), "Blond_Hair").dyes
    assert not flip(face("Bald"), "Black_Hair").dyes  # where there is none
