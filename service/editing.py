"""Faces on their way to an edit: a photograph's by the model's editor, if it has one, and all others by its decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service import edit_fields, sources, vectors
from service.compositing import FieldEdit
from service.context import Work
from service.edit_fields import EditFields
from service.latents import Encoded
from service.photo import DrawnEdit, PhotoEdit
from service.photographs import Photograph
from service.schemas import EditRequest, SweepRequest
from service.sources import Viewed


class Faces(Protocol):
    """F faces that show attributes f32 [F, K], `shown`, and can be made to show others, f32 [N, K], `after`.

    N is F, or F is 1 and that face is edited in N ways. Their methods raise BatcherErrors. `original` is the photograph
    that bare faces are edits of, and None where a model draws them whole.
    """

    shown: np.ndarray
    original: bytes | None

    async def bare(self, after: np.ndarray) -> np.ndarray:
        """The edited faces by themselves, uint8 [N, S, S, 3]."""

    async def edits(self, after: np.ndarray) -> list[PhotoEdit | None]:
        """The edits of the photograph that they are in; None where nothing changes."""


async def faces_of(work: Work, photograph: Photograph, asked: EditRequest | SweepRequest, known: np.ndarray) -> Faces:
    """The asked faces of a photograph; `known` f32 [K] is what they are said to show, NaN where nothing is.

    Raises ImageErrors, BatcherErrors, and a 422 Problem where there is no such face.
    """
    if work.model.editor is None:
        return DecodedFaces(work, await sources.encoded(work, photograph, asked, known))
    return ViewedFaces(work, await sources.to_edit(work, photograph, asked, known), photograph.data)


@dataclass(frozen=True)
class ViewedFaces:
    """Faces that an editor sees."""

    work: Work
    viewed: Viewed
    original: bytes

    @property
    def shown(self) -> np.ndarray:
        return self.viewed.attributes

    async def bare(self, after: np.ndarray) -> np.ndarray:
        fields = await self._fields(after)
        views = _repeated(self.viewed.views, len(after))

        def edited() -> np.ndarray:
            with self.work.call.stage("paste"):
                pairs = zip(views, fields, strict=True)
                return np.stack([view if each is None else edit_fields.apply(view, each) for view, each in pairs])

        return await self.work.service.in_codec_thread(edited)

    async def edits(self, after: np.ndarray) -> list[PhotoEdit | None]:
        pairs = zip(_repeated(self.viewed.matrices, len(after)), await self._fields(after), strict=True)
        return [None if each is None else FieldEdit(matrix, each) for matrix, each in pairs]

    async def _fields(self, after: np.ndarray) -> list[EditFields | None]:
        """What to do with each; faces that do not change never reach the editor."""
        changes = vectors.change(self.shown, after)
        rows = np.flatnonzero(changes.any(axis=1))
        fields: list[EditFields | None] = [None] * len(after)
        if len(rows):
            views = _repeated(self.viewed.views, len(after))[rows]
            outputs = await self.work.model.edit(views, changes[rows], self.work.call)
            for row, each in zip(rows.tolist(), edit_fields.split(outputs), strict=True):
                fields[row] = each
        return fields


@dataclass(frozen=True)
class DecodedFaces:
    """Faces as latents, of a photograph or not."""

    work: Work
    encoded: Encoded
    original: None = None

    @property
    def shown(self) -> np.ndarray:
        return self.encoded.attributes

    async def bare(self, after: np.ndarray) -> np.ndarray:
        latent = _repeated(self.encoded.mean, len(after))
        return await self.work.model.decode(latent, after, self.work.call)

    async def edits(self, after: np.ndarray) -> list[PhotoEdit | None]:
        latent, count = self.encoded.mean, len(self.shown)
        latents = np.concatenate([latent, _repeated(latent, len(after))])
        drawn = await self.work.model.decode(latents, np.concatenate([self.shown, after]), self.work.call)
        matrices = [place.matrix for place in self.encoded.places]
        triples = zip(
            _repeated(np.stack(matrices), len(after)), _repeated(drawn[:count], len(after)), drawn[count:], strict=True
        )
        return [DrawnEdit(*each) for each in triples]


def latent_face(work: Work, latent: np.ndarray, shown: np.ndarray) -> DecodedFaces:
    """The one face of a latent f32 [1, Z] with attributes f32 [1, K]."""
    return DecodedFaces(work, Encoded(latent, np.zeros_like(latent), shown, [], 0, 0))


def _repeated(rows: np.ndarray, count: int) -> np.ndarray:
    """As many rows as faces; of one face, one for each way to edit it."""
    return rows if len(rows) == count else np.repeat(rows, count, axis=0)
