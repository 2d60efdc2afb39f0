"""Other names of CelebA's attributes, as a manifest has them for people who do not know CelebA's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.bundle.manifest import folded

# Letter case, spaces and underscores make no difference.
ALIASES: dict[str, tuple[str, ...]] = {
    "5_o_Clock_Shadow": ("stubble",),
    "Bags_Under_Eyes": ("eye bags",),
    "Bald": ("bald head",),
    "Bangs": ("fringe",),
    "Big_Lips": ("full lips",),
    "Blond_Hair": ("blond", "blonde", "blonde hair"),
    "Blurry": ("blurred",),
    "Brown_Hair": ("brunette", "brunet"),
    "Bushy_Eyebrows": ("thick eyebrows",),
    "Eyeglasses": ("glasses", "spectacles"),
    "Gray_Hair": ("grey hair", "white hair"),
    "Heavy_Makeup": ("makeup",),
    "Male": ("man",),
    "Mouth_Slightly_Open": ("mouth open", "open mouth"),
    "Mustache": ("moustache",),
    "No_Beard": ("clean shaven", "beardless"),
    "Pale_Skin": ("pale",),
    "Smiling": ("smile",),
    "Wavy_Hair": ("curly hair",),
    "Wearing_Earrings": ("earrings",),
    "Wearing_Hat": ("hat",),
    "Wearing_Lipstick": ("lipstick",),
    "Wearing_Necklace": ("necklace",),
    "Wearing_Necktie": ("necktie", "tie"),
}
OPPOSITES: dict[str, tuple[str, ...]] = {
    "Male": ("female", "woman"),
    "Mouth_Slightly_Open": ("mouth closed", "closed mouth"),
    "No_Beard": ("beard", "bearded"),
    "Young": ("old",),
}


def of(name: str, names: Sequence[str], own: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """`aliases` and `opposites` of an attribute of a model with these names; none is another's name.

    `own` are the aliases that a preset gives to attributes; they come first.
    """
    taken = {folded(each) for each in names}
    aliases = _unless(own.get(name, ()), taken)
    taken |= {folded(alias) for given in own.values() for alias in given}
    return {
        "aliases": aliases + _unless(ALIASES.get(name, ()), taken),
        "opposites": _unless(OPPOSITES.get(name, ()), taken),
    }


def _unless(aliases: Sequence[str], taken: set[str]) -> list[str]:
    return list({folded(alias): alias for alias in aliases if folded(alias) not in taken}.values())
