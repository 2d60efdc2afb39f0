"""What an edit changes: all chosen faces alike, one face in several variants, or several faces, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.bundle import experimental, vectors
from service.bundle.manifest import Manifest
from service.errors import invalid
from service.pipeline import attributes, limits
from service.pipeline.parameters import EditParameters
from service.pipeline.pipeline import ModelLease


class Changes(Protocol):
    """The changes of one request."""

    def after(self, current: np.ndarray) -> np.ndarray:
        """Attributes f32 [N, K] after the edit, of the found faces with `current` ones f32 [F, K].

        N is F; of variants, F is 1 and N their number. Raises a 422 Problem for a face that was not found, and for an
        experimental edit that is not allowed.
        """

    def count(self, faces: int) -> int:
        """How many edits these are where so many faces were found."""


def requested(lease: ModelLease, params: EditParameters) -> Changes:
    """The changes that the parameters ask for. Raises a Problem, 422 or 403."""
    _refuse_contradictions(params)
    if params.variants:
        return _variants(lease, params)
    if params.others:
        return _of_each_face(lease, params)
    (given,) = attributes.targets(lease, {"attributes": params.attributes})
    return SameChange(Change.of(lease, params, "attributes", given))


def _variants(lease: ModelLease, params: EditParameters) -> Variants:
    """Each variant has the attributes that all share, and its own over them."""
    limits.check_count(lease.pipeline.settings, "variants", len(params.variants))
    if not params.bare:
        limits.check_pixels(lease.pipeline.settings, len(params.variants), params.view_size)
    fields = {f"variants.{index}": values for index, values in enumerate(params.variants)}
    shared, *own = attributes.targets(lease, {"attributes": params.attributes} | fields)
    combined = [vectors.overlaid(shared, each, lease.model.manifest) for each in own]
    return Variants([Change.of(lease, params, *named) for named in zip(fields, combined, strict=True)])


def _of_each_face(lease: ModelLease, params: EditParameters) -> ChangeOfEachFace:
    limits.check_count(lease.pipeline.settings, "others", 1 + len(params.others))
    fields = {f"others.{index}.attributes": other.attributes for index, other in enumerate(params.others)}
    given, *others = attributes.targets(lease, {"attributes": params.attributes} | fields)
    changes = [(params.face, Change.of(lease, params, "attributes", given))]
    for other, field, values in zip(params.others, fields, others, strict=True):
        changes.append((other.face, Change.of(lease, params, field, values, other.strength)))
    return ChangeOfEachFace(changes)


@dataclass(frozen=True)
class Change:
    """The change of one face towards `given` f32 [K], NaN for what stays, by `strength`.

    `field` names the parameter it came from, and `experimental` says whether experimental directions are allowed.
    """

    manifest: Manifest
    field: str
    given: np.ndarray
    strength: float
    experimental: bool

    @classmethod
    def of(
        cls, lease: ModelLease, params: EditParameters, field: str, given: np.ndarray, strength: float | None = None
    ) -> Change:
        """Of the strength of the parameters, unless it has one of its own."""
        # Edits of a latent are drawn by the decoder, which no direction is experimental for.
        allowed = params.experimental or params.latent is not None
        return cls(lease.model.manifest, field, given, params.strength if strength is None else strength, allowed)

    def after(self, current: np.ndarray) -> np.ndarray:
        """Of faces with `current` attributes f32 [N, K]. Raises a 422 Problem for an experimental edit."""
        after = vectors.edited(current, vectors.edit_target(self.given, self.manifest), self.strength)
        if not self.experimental:
            experimental.refuse_edit(self.manifest, self.given, current, after, self.field)
        return after


@dataclass(frozen=True)
class SameChange:
    """One change for all chosen faces."""

    change: Change

    def after(self, current: np.ndarray) -> np.ndarray:
        return self.change.after(current)

    def count(self, faces: int) -> int:
        return faces


@dataclass(frozen=True)
class Variants:
    """Several changes of one face, each by itself."""

    changes: list[Change]

    def after(self, current: np.ndarray) -> np.ndarray:
        return np.concatenate([change.after(current) for change in self.changes])

    def count(self, faces: int) -> int:
        return len(self.changes)


@dataclass(frozen=True)
class ChangeOfEachFace:
    """Changes by the number of the face; all other faces stay."""

    changes: list[tuple[int, Change]]

    def after(self, current: np.ndarray) -> np.ndarray:
        after = current.copy()
        for face, change in self.changes:
            if face >= len(current):
                rule = f"must be below {len(current)}, the number of faces found"
                raise invalid(change.field.removesuffix("attributes") + "face", face, rule)
            row = slice(face, face + 1)
            after[row] = change.after(current[row])
        return after

    def count(self, faces: int) -> int:
        return len(self.changes)


def _refuse_contradictions(params: EditParameters) -> None:
    """Raises a 422 Problem for parameters that do not go together."""
    for name in ("others", "variants"):
        if getattr(params, name) and params.face == "all":
            raise invalid("face", params.face, f"must be a number beside {name}")
    if params.others and (params.variants or params.bare):
        rule = "take a photograph as the result, without variants"
        raise invalid("others", f"{len(params.others)} faces", rule)
    if params.bare and (params.region or params.size):
        raise invalid("region" if params.region else "size", params.region or params.size, "takes output=photo")
    chosen = {params.face}
    for index, other in enumerate(params.others):
        if other.face in chosen:
            raise invalid(f"others.{index}.face", other.face, "is edited already; name each face once")
        chosen.add(other.face)
