"""What is known about attributes: CelebA's forty, their groups, and attribute arithmetic on batches.

Attribute values follow CelebA: -1 absent, +1 present, 0 undecided. Any other name found in a label file works
as well; it merely comes without a description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.config import AttributeConfig


@dataclass(frozen=True)
class AttributeInfo:
    """One attribute as a person should understand it; `group` names a mutually exclusive set."""

    description: str
    group: str | None = None
    sensitive: bool = False


_HAIR = "hair_colour"

# Every label is an annotator's impression of a photograph, and the descriptions say so where it matters most.
CELEBA_ATTRIBUTES: dict[str, AttributeInfo] = {
    "5_o_Clock_Shadow": AttributeInfo("stubble"),
    "Arched_Eyebrows": AttributeInfo("eyebrows with a marked arch"),
    "Attractive": AttributeInfo("judged attractive by annotators", sensitive=True),
    "Bags_Under_Eyes": AttributeInfo("bags under the eyes"),
    "Bald": AttributeInfo("no hair on the top of the head"),
    "Bangs": AttributeInfo("hair falling over the forehead"),
    "Big_Lips": AttributeInfo("full lips", sensitive=True),
    "Big_Nose": AttributeInfo("a large nose", sensitive=True),
    "Black_Hair": AttributeInfo("black hair", _HAIR),
    "Blond_Hair": AttributeInfo("blond hair", _HAIR),
    "Blurry": AttributeInfo("an out-of-focus picture"),
    "Brown_Hair": AttributeInfo("brown hair", _HAIR),
    "Bushy_Eyebrows": AttributeInfo("thick eyebrows"),
    "Chubby": AttributeInfo("a full face", sensitive=True),
    "Double_Chin": AttributeInfo("a double chin", sensitive=True),
    "Eyeglasses": AttributeInfo("glasses or sunglasses"),
    "Goatee": AttributeInfo("a beard on the chin"),
    "Gray_Hair": AttributeInfo("grey or white hair", _HAIR),
    "Heavy_Makeup": AttributeInfo("clearly visible make-up"),
    "High_Cheekbones": AttributeInfo("prominent cheekbones"),
    "Male": AttributeInfo("perceived as a man by annotators", sensitive=True),
    "Mouth_Slightly_Open": AttributeInfo("lips apart"),
    "Mustache": AttributeInfo("a moustache"),
    "Narrow_Eyes": AttributeInfo("narrow eyes", sensitive=True),
    "No_Beard": AttributeInfo("no beard or stubble"),
    "Oval_Face": AttributeInfo("an oval face"),
    "Pale_Skin": AttributeInfo("skin perceived as pale by annotators", sensitive=True),
    "Pointy_Nose": AttributeInfo("a pointed nose", sensitive=True),
    "Receding_Hairline": AttributeInfo("a high hairline"),
    "Rosy_Cheeks": AttributeInfo("reddened cheeks"),
    "Sideburns": AttributeInfo("sideburns"),
    "Smiling": AttributeInfo("a smile"),
    "Straight_Hair": AttributeInfo("straight hair"),
    "Wavy_Hair": AttributeInfo("wavy hair"),
    "Wearing_Earrings": AttributeInfo("earrings"),
    "Wearing_Hat": AttributeInfo("a hat or cap"),
    "Wearing_Lipstick": AttributeInfo("lipstick"),
    "Wearing_Necklace": AttributeInfo("a necklace"),
    "Wearing_Necktie": AttributeInfo("a necktie"),
    "Young": AttributeInfo("perceived as young by annotators", sensitive=True),
}


# What adding an attribute to a face takes away by its meaning, beyond the other hair colours: CelebA's labels hardly
# ever show both. And what it may change along with it, since it hides it or is seen by it.
_TAKES_AWAY: dict[str, tuple[str, ...]] = {
    "Bald": ("Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"),
    "Bangs": ("Bald",),
    "Mustache": ("No_Beard",),
    "No_Beard": ("Mustache",),
}
# What removing one takes away. Few faces bare their teeth without a smile: an edit that has to leave a broad smile's
# mouth open draws a grimace.
_REMOVAL_TAKES_AWAY: dict[str, tuple[str, ...]] = {"Smiling": ("Mouth_Slightly_Open",)}
_HAIRCUT = ("Receding_Hairline", "Straight_Hair", "Wavy_Hair")
_MAY_CHANGE: dict[str, tuple[str, ...]] = {
    "Bald": _HAIRCUT,
    "Bangs": _HAIRCUT,
    "Heavy_Makeup": ("Wearing_Lipstick",),
    "Male": ("Wearing_Lipstick", *_HAIRCUT),
}
# What adding an attribute leaves as it is: a colour is one of the hair that there is. Of 1,267 bald heads here 16 have
# one of these colours, and an editor that had to show black hair on the others drew caps. Grey are 331.
_NO_EFFECT_ON: dict[str, tuple[str, ...]] = dict.fromkeys(("Black_Hair", "Blond_Hair", "Brown_Hair"), ("Bald",))
# Pairs of values that CelebA shows on hardly a face (of 20,305 men here 48 with heavy make-up, of 23,718 women 3 bald,
# 1 with a moustache, 36 with a beard), the first of which no edit brings about: no critic knows how it looks, and what
# classifiers alone ask for is a caricature. An editor that knows the attribute from other faces does better.
_RARE = (
    ("Heavy_Makeup", 1, "Male", 1),
    ("Bald", 1, "Male", -1),
    ("Mustache", 1, "Male", -1),
    ("No_Beard", -1, "Male", -1),
)
# Attributes of the face alone: their edits leave hair, neck and clothes as they are.
_FACIAL = {
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Bags_Under_Eyes", "Big_Lips", "Big_Nose", "Bushy_Eyebrows", "Eyeglasses",
    "Goatee", "Heavy_Makeup", "High_Cheekbones", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Pointy_Nose", "Rosy_Cheeks", "Smiling", "Wearing_Lipstick",
}  # fmt: skip

# What a picture in darker tones no longer shows, whatever its label says.
_LIGHT = {"Blond_Hair", "Brown_Hair", "Gray_Hair", "Pale_Skin"}
# What shows the skin of the head.
_BARE = {"Bald"}
# Colours that a dye gives to most hair without lightening it.
_DARK_HAIR = {"Black_Hair", "Brown_Hair"}


# Each attribute's group by name, None for those that exclude no other; None for all: CelebA's groups.
Groups = Mapping[str, str | None] | None
_PROTECTED = re.compile(
    r"race|racial|ethni|skin|gender|sex|female|male$|woman|women|man$|men$|transgender|religio|muslim|christian|jewish|hindu"
    r"|hijab|turban|kippa|disab|wheelchair|age$|aged|old$|young|elder|senior|pregnan|obes|fat$|overweight|black$|white$"
    r"|asian|african|caucasian|hispanic|latin|indian|nation|migrant|gay|lesbian|queer",
)


def describe(name: str, about: Mapping[str, AttributeConfig] | None = None) -> AttributeInfo:
    """What is known of `name`: what a preset says `about` it, else what CelebA means by it.

    An attribute of somebody's own gets its name in words.
    """
    known = CELEBA_ATTRIBUTES.get(name) or AttributeInfo(name.replace("_", " ").strip().lower())
    own = (about or {}).get(name)
    said = {} if own is None else own.model_dump(exclude={"aliases"}, exclude_none=True)
    return replace(known, **said)


def groups(names: list[str], about: Mapping[str, AttributeConfig] | None = None) -> Groups:
    """The group of each attribute."""
    return {name: describe(name, about).group for name in names}


def seem_protected(names: list[str], about: Mapping[str, AttributeConfig]) -> list[str]:
    """Attributes whose names touch on protected traits, and of which nobody said whether they do."""
    said = {name for name, own in about.items() if own.sensitive is not None} | set(CELEBA_ATTRIBUTES)
    return [
        name
        for name in names
        if name not in said and any(_PROTECTED.match(word) for word in re.findall(r"[a-z]+", _in_words(name)))
    ]


def _in_words(name: str) -> str:
    """WearsHijab and wears_hijab as "wears hijab"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_.-]", " ", name).lower()


def exclusive_groups(names: list[str], groups: Groups = None) -> dict[str, list[int]]:
    """Indices of the attributes in `names` that exclude each other, by group; groups of one are left out."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if group := describe(name).group if groups is None else groups.get(name):
            found.setdefault(group, []).append(index)
    return {group: members for group, members in found.items() if len(members) > 1}


def exclusion_matrix(names: list[str], groups: Groups = None) -> Tensor:
    """bool [K, K]; row k marks the attributes that setting attribute k clears (never k itself)."""
    matrix = torch.zeros(len(names), len(names), dtype=torch.bool)
    for members in exclusive_groups(names, groups).values():
        for index in members:
            matrix[index, members] = True
            matrix[index, index] = False
    return matrix


def taken_away_matrix(names: list[str], groups: Groups = None) -> Tensor:
    """bool [K, K]; row k marks what adding attribute k takes away by its meaning, hair colours among them."""
    return exclusion_matrix(names, groups) | _pairs(names, _TAKES_AWAY)


def removal_takes_away_matrix(names: list[str]) -> Tensor:
    """bool [K, K]; row k marks what removing attribute k takes away along with it."""
    return _pairs(names, _REMOVAL_TAKES_AWAY)


def may_change_matrix(names: list[str]) -> Tensor:
    """bool [K, K]; row k marks what an edit of attribute k, in either direction, may change along with it."""
    return _pairs(names, _MAY_CHANGE)


def no_effect_matrix(names: list[str]) -> Tensor:
    """bool [K, K]; row k marks the attributes that make adding attribute k change nothing."""
    return _pairs(names, _NO_EFFECT_ON)


def rare_values(names: list[str]) -> Tensor:
    """f32 [2, K, K] of -1, 0, 1: row k has the labels of other attributes with which hardly a face lacks attribute k,
    then those with which hardly a face has it; 0 for others."""
    table = torch.zeros(2, len(names), len(names))
    for name, value, other, label in _RARE:
        if name in names and other in names:
            table[int(value > 0), names.index(name), names.index(other)] = label
    return table


def facial(names: list[str]) -> Tensor:
    """bool [K]: the attributes that belong to the face alone."""
    return torch.tensor([name in _FACIAL for name in names])


def light(names: list[str]) -> Tensor:
    """bool [K]: the attributes that a picture in darker tones no longer shows."""
    return torch.tensor([name in _LIGHT for name in names])


def bare(names: list[str]) -> Tensor:
    """bool [K]: the attributes that show the skin of the head where hair was."""
    return torch.tensor([name in _BARE for name in names])


def dark_hair(names: list[str]) -> Tensor:
    """bool [K]: the attributes that darken most hair."""
    return torch.tensor([name in _DARK_HAIR for name in names])


def _pairs(names: list[str], table: dict[str, tuple[str, ...]]) -> Tensor:
    return torch.tensor([[other in table.get(name, ()) for other in names] for name in names])


def invert(attributes: Tensor, labels: Tensor, flips: Tensor, exclusion: Tensor) -> Tensor:
    """The attributes after an edit that turns each marked attribute into its opposite.

    `attributes` f32 [N, K] is what the picture shows, `labels` f32 [N, K] in {-1, +1} says which way each flip
    goes, `flips` bool [N, K] marks what to change, `exclusion` bool [K, K] is `exclusion_matrix`. Setting an
    attribute clears the others of its group. Returns f32 [N, K].
    """
    edited = torch.where(flips, -labels, attributes)
    added = flips & (labels < 0)  # [N, K]
    cleared = (added.float() @ exclusion.to(labels.device).float() > 0) & ~added  # [N, K]
    return torch.where(cleared, -torch.ones_like(edited), edited)


def invert_one(attributes: Tensor, labels: Tensor, attribute: int, exclusion: Tensor) -> Tensor:
    """`invert` with the same attribute marked on every picture; f32 [N, K]."""
    flips = torch.zeros_like(labels, dtype=torch.bool)
    flips[:, attribute] = True
    return invert(attributes, labels, flips, exclusion)
