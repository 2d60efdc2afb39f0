"""Attribute vectors and latents: from the JSON values of a request to the arrays that the graphs take."""

from __future__ import annotations

import difflib
import math
from collections.abc import Container, Mapping, Sequence

import numpy as np

from service.bundle import celeba
from service.bundle.manifest import Manifest, folded
from service.errors import invalid

# -1 is absent, +1 present. Values a little beyond exaggerate, and decoders still draw them.
LEVEL_LIMIT = 2.0
LATENT_LIMIT = 1e3
AttributeValues = Mapping[str, float | None] | Sequence[float | None]


def attribute_vector(
    values: AttributeValues, manifest: Manifest, field: str = "attributes", exclusive: bool = True
) -> np.ndarray:
    """f32 [K] in manifest order, NaN for attributes that `values` leaves out or gives as null.

    `values` is a mapping by name (`attribute_of`), or the whole vector; `field` names it in errors. Raises a 422
    Problem for an unknown name (with the closest known ones), an attribute given twice, a wrong length, a value that is
    not finite or not within -2..2, or, if `exclusive`, two positive attributes of one group. The estimates of a
    picture, unlike the targets of an edit, need not be exclusive.
    """
    names = manifest.attribute_names
    if not isinstance(values, Mapping):
        if len(values) != len(names):
            rule = f"must have {len(names)} values, in the order of the model, or {len(celeba.ATTRIBUTES)}, in CelebA's"
            raise invalid(field, f"{len(values)} values", rule)
        values = dict(zip(names, values, strict=True))
    vector = np.full(len(names), np.nan, dtype=np.float32)
    spelled: dict[str, str] = {}
    for spelling, value in values.items():
        name, sign = attribute_of(spelling, manifest, field)
        if name in spelled:
            raise invalid(f"{field}.{spelling}", value, f"is the same attribute as {spelled[name]}; give it once")
        spelled[name] = spelling
        if value is not None:
            vector[names.index(name)] = sign * _within(value, f"{field}.{spelling}", LEVEL_LIMIT)
    if exclusive:
        _refuse_contradictions(vector, manifest, field)
    return vector


def attribute_of(name: str, manifest: Manifest, field: str) -> tuple[str, int]:
    """The model's own name of an attribute in a request, and -1 if the request names its opposite, else 1.

    Letter case, spaces and underscores do not count. Raises a 422 Problem, with the closest names, for an unknown one.
    """
    if name in manifest.attribute_names:
        return name, 1
    name = name[:80]
    if found := manifest.spellings.get(folded(name)):
        return found
    raise invalid(f"{field}.{name}", name, "is not an attribute of this model", _closest(name, manifest))


def _closest(name: str, manifest: Manifest) -> list[str]:
    """Attributes with a similar name or a very similar alias, and very similar opposites."""
    lower = {known.lower(): known for known in manifest.attribute_names}
    similar = [lower[each] for each in difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.5)]
    for spelling in difflib.get_close_matches(folded(name), list(manifest.spellings), n=3, cutoff=0.8):
        known, sign = manifest.spellings[spelling]
        similar.append(known if sign > 0 else spelling)
    return list(dict.fromkeys(similar))


def is_celeba(values: AttributeValues, manifest: Manifest) -> bool:
    """Whether values are a list in CelebA's order, and not in the model's own."""
    return not isinstance(values, Mapping) and len(values) == len(celeba.ATTRIBUTES) != len(manifest.attributes)


def from_celeba(
    values: Sequence[float | None], manifest: Manifest, disabled: Container[str] = ()
) -> tuple[dict[str, float | None], list[str]]:
    """A list in CelebA's order by name, and the names of ignored values.

    Ignored are attributes that the model does not have, and those in `disabled`.
    """
    named = dict(zip(celeba.ATTRIBUTES, values, strict=True))
    known = {name: value for name, value in named.items() if name in manifest.attribute_names and name not in disabled}
    return known, [name for name, value in named.items() if name not in known and value is not None]


def _within(value: float, field: str, limit: float) -> float:
    if not math.isfinite(value):
        raise invalid(field, value, "must be a finite number")
    if abs(value) > limit:
        raise invalid(field, value, f"must lie between {-limit:g} and {limit:g}")
    return value


def _refuse_contradictions(vector: np.ndarray, manifest: Manifest, field: str) -> None:
    first: dict[str, str] = {}
    for attribute, value in zip(manifest.attributes, vector, strict=True):
        if attribute.group and value > 0:
            other = first.setdefault(attribute.group, attribute.name)
            if other != attribute.name:
                rule = (
                    f"cannot be set together with {other}; attributes of the group {attribute.group} exclude each other"
                )
                raise invalid(f"{field}.{attribute.name}", float(value), rule)


def edit_target(params: np.ndarray, manifest: Manifest) -> np.ndarray:
    """The target of an edit, f32 [K]: `params`, and -1 for the other attributes of a group in which one is positive."""
    return clear_groups(params, manifest.attribute_groups)


def clear_groups(params: np.ndarray, groups: Sequence[str | None]) -> np.ndarray:
    """As `edit_target`; `groups` [K] names the exclusive group of each attribute, or None."""
    target = params.copy()
    taken = {group for group, value in zip(groups, params, strict=True) if group and value > 0}
    for index, group in enumerate(groups):
        if group in taken and not params[index] > 0:
            target[index] = -1.0
    return target


def overlaid(params: np.ndarray, over: np.ndarray, manifest: Manifest) -> np.ndarray:
    """`params` f32 [K] with the values of `over` f32 [K] where it has some.

    Where one of an exclusive group is positive in `over`, the others of the group lose their values.
    """
    cleared = np.isnan(over) & (edit_target(over, manifest) == -1)
    return np.where(np.isnan(over), np.where(cleared, np.nan, params), over).astype(np.float32)


def edited(current: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    """a + t (target - a) for the attributes a = `current` f32 [N, K]; where `target` f32 [K] is NaN, a."""
    return np.where(np.isnan(target), current, current + np.float32(strength) * (target - current)).astype(np.float32)


def change(current: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The input `change` of the editor, f32 [N, K]: the difference relative to the distance to present or absent.

    It is within -1..1 for attributes within -1..1, and exactly 0 for attributes that stay. The distance is at least 1,
    as from an estimate of 0: a small estimate in the direction of the change does not prove that the attribute is
    partly there.
    """
    difference = target - current
    distance = np.maximum(1, 1 - np.sign(difference) * current)
    return (difference / distance).astype(np.float32)


def swept(current: np.ndarray, attribute: str, target: float, strengths: np.ndarray, manifest: Manifest) -> np.ndarray:
    """f32 [T, N, K]: `current` f32 [N, K] edited towards `target` in one attribute, at each strength f [T].

    Values are clipped to -2..2. Raises a 422 Problem for an unknown attribute.
    """
    aim = edit_target(attribute_vector({attribute: target}, manifest, "attribute"), manifest)
    return np.stack([edited(current, aim, strength) for strength in strengths]).clip(-LEVEL_LIMIT, LEVEL_LIMIT)


def latent_matrix(latents: Sequence[Sequence[float]], manifest: Manifest, fields: Sequence[str]) -> np.ndarray:
    """f32 [N, Z] from N latents; `fields` [N] name them in errors.

    Raises a 422 Problem for a wrong length or a value that is not finite or beyond 1000.
    """
    for row, latent in enumerate(latents):
        if len(latent) != manifest.latent_size:
            rule = f"must have {manifest.latent_size} values for this model"
            raise invalid(fields[row], f"{len(latent)} values", rule)
        for index, value in enumerate(latent):
            _within(value, f"{fields[row]}.{index}", LATENT_LIMIT)
    return np.asarray(latents, dtype=np.float32)
