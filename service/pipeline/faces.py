"""Faces that can be edited: those of a photograph, seen by an editor or drawn by the decoder, and that of a latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from service.bundle import vectors
from service.errors import invalid
from service.imaging import edit_fields
from service.imaging.compositing import FieldEdit
from service.imaging.edit_fields import EditFields
from service.imaging.paste import DrawnEdit, PhotoEdit
from service.imaging.tone import Tone, tone_of
from service.inference.model import Model
from service.pipeline import finding
from service.pipeline.finding import EditorViews, Search
from service.pipeline.latent_cache import Encoded
from service.pipeline.parameters import EditParameters, SweepParameters
from service.pipeline.photo_cache import Photograph
from service.pipeline.pipeline import ModelLease


class Faces(Protocol):
    """F faces with `current` attributes f32 [F, K], which can be edited to others, `after` f32 [N, K].

    N is F, or F is 1 and that face is edited in N ways. The methods raise BatcherErrors. `photograph` is the one that
    they are in, None for the face of a latent. `original` is the photograph's file where bare faces are edits of it,
    None where a model draws them whole.
    """

    current: np.ndarray
    photograph: Photograph | None
    original: bytes | None

    async def bare(self, after: np.ndarray) -> np.ndarray:
        """The edited faces by themselves, uint8 [N, S, S, 3]."""

    async def edits(self, after: np.ndarray) -> list[PhotoEdit | None]:
        """The edits of the photograph; None where nothing changes."""


async def of_photograph(
    lease: ModelLease,
    picture: bytes | None,
    search: Search,
    known: np.ndarray,
    keep_decoded: bool = False,
    handle: str | None = None,
) -> Faces:
    """The wanted faces of a photograph; `known` f32 [K] holds for all of them, NaN where nothing is known.

    With `keep_decoded` the photograph stays decoded until it is edited, if there is room, and for the next request if
    this one named it by its `handle`. Raises ImageErrors, BatcherErrors, and a Problem where there is no such face or a
    key's limits forbid so many.
    """
    completed = _completed(lease.model, known)
    photograph = finding.opened(lease, picture, keep_decoded, handle)
    if lease.model.editor is None:
        found, _ = await finding.find(lease, photograph, search, known)
        return DecodedFaces(lease, found, photograph)
    # The encoder runs where attributes are neither all known nor in the latent cache. Where all are known, an entry
    # that was made without them still says where the faces are.
    looked_up = known if completed is None else np.full_like(known, np.nan)
    found, views = await finding.find(lease, photograph, search, looked_up, encode=completed is None, view=True)
    current = found.attributes if completed is None else np.repeat(completed[None], len(found.locations), axis=0)
    return ViewedFaces(lease, photograph, current, views)


def of_latent(
    lease: ModelLease, params: EditParameters | SweepParameters, picture: bytes | None, known: np.ndarray
) -> DecodedFaces:
    """The face of the parameter `latent`, which comes without a picture. Raises a 422 Problem."""
    if picture is not None:
        raise invalid("latent", f"{len(params.latent)} values", "cannot be given together with an image")
    if params.output == "photo":
        raise invalid("output", params.output, "takes an image; with a latent it must be face")
    current = _completed(lease.model, known)
    if current is None:
        names = zip(lease.model.manifest.attribute_names, known, strict=True)
        missing = [name for name, value in names if np.isnan(value) and name not in lease.model.disabled]
        rule = f"is required with a latent, for every attribute; missing: {', '.join(missing)}"
        raise invalid("source_attributes", None, rule)
    return latent_face(lease, vectors.latent_matrix([params.latent], lease.model.manifest, ["latent"]), current[None])


def latent_face(lease: ModelLease, latent: np.ndarray, current: np.ndarray) -> DecodedFaces:
    """The face of a latent f32 [1, Z] with attributes f32 [1, K]."""
    return DecodedFaces(lease, Encoded(latent, np.zeros_like(latent), current, [], 0, 0))


def _completed(model: Model, known: np.ndarray) -> np.ndarray | None:
    """`known` f32 [K] with values for disabled attributes, where all others are known; else None.

    Clients never learn the disabled ones, which get the values that go best with the rest.
    """
    names = model.manifest.attribute_names
    unknown = [name for name, value in zip(names, known, strict=True) if np.isnan(value)]
    if any(name not in model.disabled for name in unknown):
        return None
    return model.sampler.expected(known) if unknown else known


@dataclass(frozen=True)
class ViewedFaces:
    """Faces as the model's editor sees them."""

    lease: ModelLease
    photograph: Photograph
    current: np.ndarray
    views: EditorViews

    @property
    def original(self) -> bytes:
        return self.photograph.data

    async def bare(self, after: np.ndarray) -> np.ndarray:
        fields = await self._fields(after)
        views = _repeated(self.views.pixels, len(after))

        def edited() -> np.ndarray:
            with self.lease.context.stage("paste"):
                # Of each face once: a sweep shows one in many ways.
                tones = [tone_of(Image.fromarray(view)) for view in self.views.pixels]
                tones = tones if len(tones) == len(after) else tones * len(after)
                faces = zip(views, tones, fields, strict=True)
                return np.stack([view if each is None else _applied(view, tone, each) for view, tone, each in faces])

        return await self.lease.pipeline.codecs.run(edited)

    async def edits(self, after: np.ndarray) -> list[PhotoEdit | None]:
        pairs = zip(_repeated(self.views.matrices, len(after)), await self._fields(after), strict=True)
        return [None if each is None else FieldEdit(matrix, each) for matrix, each in pairs]

    async def _fields(self, after: np.ndarray) -> list[EditFields | None]:
        """The edit fields of each face; faces that do not change never reach the editor."""
        changes = vectors.change(self.current, after)
        rows = np.flatnonzero(changes.any(axis=1))
        fields: list[EditFields | None] = [None] * len(after)
        if len(rows):
            views = _repeated(self.views.pixels, len(after))[rows]
            outputs = await self.lease.model.edit(views, changes[rows], self.lease.context)
            for row, each in zip(rows.tolist(), edit_fields.split(outputs), strict=True):
                fields[row] = each
        return fields


@dataclass(frozen=True)
class DecodedFaces:
    """Faces as latents, which the decoder draws before and after."""

    lease: ModelLease
    encoded: Encoded
    photograph: Photograph | None = None
    original: None = None

    @property
    def current(self) -> np.ndarray:
        return self.encoded.attributes

    async def bare(self, after: np.ndarray) -> np.ndarray:
        latent = _repeated(self.encoded.mean, len(after))
        return await self.lease.model.decode(latent, after, self.lease.context)

    async def edits(self, after: np.ndarray) -> list[PhotoEdit | None]:
        latent, count = self.encoded.mean, len(self.current)
        latents = np.concatenate([latent, _repeated(latent, len(after))])
        drawn = await self.lease.model.decode(latents, np.concatenate([self.current, after]), self.lease.context)
        matrices = np.stack([location.matrix for location in self.encoded.locations])
        triples = zip(_repeated(matrices, len(after)), _repeated(drawn[:count], len(after)), drawn[count:], strict=True)
        return [DrawnEdit(*each) for each in triples]


def _applied(view: np.ndarray, tone: Tone | None, fields: EditFields) -> np.ndarray:
    """The view uint8 [S, S, 3], edited; a monochrome one keeps its tone."""
    if tone is None:
        return edit_fields.apply(view, fields)
    return tone.kept(view, edit_fields.apply(view, fields.grey()))


def _repeated(rows: np.ndarray, count: int) -> np.ndarray:
    """As many rows as faces; of one face, one for each way to edit it."""
    return rows if len(rows) == count else np.repeat(rows, count, axis=0)
