"""Edits drawn and encoded: the face by itself, its photograph or a part of it, or one picture for each variant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.imaging.codecs import Photo
from service.imaging.paste import PhotoEdit
from service.pipeline.faces import Faces
from service.pipeline.files import FileOptions
from service.pipeline.parameters import EditParameters
from service.pipeline.photo_cache import Photograph
from service.pipeline.pictures import Picture, Pictures, bare_faces, encoded_photograph
from service.pipeline.pipeline import ModelLease
from service.pipeline.views import View


async def edited(
    lease: ModelLease, params: EditParameters, found: Faces, after: np.ndarray, files: FileOptions
) -> Pictures:
    """The found faces with other attributes, `after` f32 [N, K]: by themselves, or in their photograph.

    Variants give one picture each. Raises ImageErrors, BatcherErrors, and a 503 Problem where a picture cannot be
    signed.
    """
    if params.bare:
        return await bare_faces(lease, await found.bare(after), after, files, original=found.original)
    photograph, edits, codec_threads = found.photograph, await found.edits(after), lease.pipeline.codecs
    if params.variants:
        job = (variants, lease, photograph, edits, params.region, params.view_size)
        frames, _ = await codec_threads.run_on(photograph.data, *job)
        return await bare_faces(lease, frames, after, files, original=photograph.data)
    job = (_edited_photograph, lease, params, photograph, edits, after[0], files)
    return Pictures(lease.model.identity, [await codec_threads.run_on(photograph.data, *job)], files.as_one)


def variants(
    lease: ModelLease,
    photograph: Photograph,
    edits: Sequence[PhotoEdit | None],
    region: Sequence[float] | None,
    size: int,
) -> tuple[np.ndarray, bool]:
    """The view of the photograph with each edit by itself, uint8 [T, H, W, 3], and whether its file has no colours.

    Runs in a codec thread.
    """
    photo = _decoded(lease, photograph)
    with lease.context.stage("paste"):
        return View.of(photo, region, size).variants(edits, photograph.tone(photo)), photo.greyscale


def _edited_photograph(
    lease: ModelLease,
    params: EditParameters,
    photograph: Photograph,
    edits: Sequence[PhotoEdit | None],
    after: np.ndarray,
    files: FileOptions,
) -> Picture:
    """The photograph with all of the edits; `after` f32 [K] are the attributes of its first face then."""
    photo = _decoded(lease, photograph)
    with lease.context.stage("paste"):
        changing = [edit for edit in edits if edit is not None]
        kept = photograph.tone(photo) if changing else None
        if params.region or params.size:
            photo, changed = View.of(photo, params.region, params.size).edited(changing, kept), True
        else:
            changed = sum(edit.onto(photo.image, kept) for edit in changing) > 0
    return encoded_photograph(lease, photo, photograph.data, after, files, params.keep_metadata, changed)


def _decoded(lease: ModelLease, photograph: Photograph) -> Photo:
    with lease.context.stage("decode"):
        return photograph.whole()
