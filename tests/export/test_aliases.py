from export import aliases
from service.bundle import celeba
from service.bundle.manifest import folded
from training.attributes import CELEBA_ATTRIBUTES


def test_the_order_of_celeba_is_known_to_the_service_too():
    assert tuple(CELEBA_ATTRIBUTES) == celeba.ATTRIBUTES


def test_every_alias_stands_for_one_attribute_of_celeba():
    assert {*aliases.ALIASES, *aliases.OPPOSITES} <= set(celeba.ATTRIBUTES)
    names = [*celeba.ATTRIBUTES]
    for table in (aliases.ALIASES, aliases.OPPOSITES):
        names += [alias for each in table.values() for alias in each]
    assert len({folded(name) for name in names}) == len(names)


def test_an_alias_that_is_another_attributes_name_is_left_out():
    assert aliases.of("No_Beard", ["No_Beard"], {})["opposites"] == ["beard", "bearded"]
    assert aliases.of("No_Beard", ["No_Beard", "Beard"], {})["opposites"] == ["bearded"]
    assert aliases.of("Eyeglasses", ["Eyeglasses", "GLASSES"], {}) == {"aliases": ["spectacles"], "opposites": []}
    assert aliases.of("Mine", ["Mine"], {}) == {"aliases": [], "opposites": []}


def test_aliases_of_a_preset_come_first_and_displace_those_of_celeba():
    own = {"Eyeglasses": ["eye_glasses", "goggles"], "Cap": ["hat"]}
    names = ["Eyeglasses", "Wearing_Hat", "Cap"]
    assert aliases.of("Eyeglasses", names, own)["aliases"] == ["goggles", "glasses", "spectacles"]
    assert aliases.of("Wearing_Hat", names, own)["aliases"] == []
    assert aliases.of("Cap", names, own)["aliases"] == ["hat"]
