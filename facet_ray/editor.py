"""Edits of many photographs at a time, in one process: the service's own modules, without requests and queues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from service import alignment, edit_fields, experimental, faces, golden, images, vectors
from service import bundle as bundles
from service.bundle import GraphKind, Manifest
from service.compositing import FieldEdit
from service.credentials import Agent, Credentials
from service.faces import FaceFinder, FramedFace
from service.images import ImageError, OutputFormat
from service.memory import run_in_parts
from service.photo import DrawnEdit, PhotoEdit
from service.photographs import LONGEST
from service.problems import Problem
from service.provenance import Origin, SourceType
from service.runtime import Arrays, run_of
from service.runtimes import open_runtime
from service.sensitivity import Withheld
from service.settings import Settings


class EditError(ValueError):
    """A picture that cannot be edited; the message says why."""


@dataclass(frozen=True)
class Edit:
    """What is done to every picture, with the meanings of `/v1/edit`."""

    attributes: dict[str, float]
    strength: float = 1.0
    face: int | Literal["all"] = 0
    framed: bool | None = None
    quality: int = 90
    experimental: bool = False

    def asked(self, manifest: Manifest, settings: Settings) -> np.ndarray:
        """f32 [K], NaN for what is not asked for. Raises Problem 422 for attributes that the model does not have, or
        403 for those that are not enabled.
        """
        asked = vectors.attribute_vector(self.attributes, manifest)
        Withheld.of(manifest, settings.sensitive_attributes).refuse(asked, "attributes")
        return asked

    def target(self, manifest: Manifest, settings: Settings) -> np.ndarray:
        """f32 [K], NaN for what stays. Raises as `asked`."""
        return vectors.edit_target(self.asked(manifest, settings), manifest)


@dataclass(frozen=True)
class _Face:
    """A face of a picture: as the encoder sees it, and as the editor does, uint8 [E, E, 3], from f64 [2, 3]."""

    framed: FramedFace
    view: np.ndarray | None
    matrix: np.ndarray


class Editor:
    """One worker: a verified bundle, its runtime, which has drawn its golden samples, and the face finder.

    Raises BundleError, CredentialsError, RuntimeUnavailableError and, for the edit, Problem 403 and 422.
    """

    def __init__(self, settings: Settings, edit: Edit) -> None:
        bundle = bundles.load(settings.bundles / settings.default_model)
        self._manifest, self._edit, self._settings = bundle.manifest, edit, settings
        self._asked = edit.asked(bundle.manifest, settings)
        self._target = edit.target(bundle.manifest, settings)
        self._runtime = open_runtime(bundle, settings)
        golden.check(bundle, lambda latent, a: self._run("decoder", {"latent": latent, "attributes": a})["image"])
        self._has_editor = bundle.manifest.editor_frame is not None
        if self._has_editor:
            golden.check_editor(bundle, lambda image, change: self._run("editor", {"image": image, "change": change}))
        self._finder = FaceFinder.of(settings)
        agent = Agent(f"Facet {bundle.manifest.name}", bundle.manifest.version)
        self._origin = Origin(SourceType.EDITED, agent, Credentials.of(settings))

    def edit(self, pictures: list[bytes], kinds: list[OutputFormat | None]) -> list[bytes | EditError]:
        """Each picture edited, at its own size and in that format (None: its own), or why it cannot be.

        All their faces go through the graphs together, at most `max_batch` of the settings at a time.
        """
        found = [self._faces(data) for data in pictures]
        faces = [face for each in found if not isinstance(each, EditError) for face in each]
        changes = self._changes(faces) if faces else iter(())
        results: list[bytes | EditError] = []
        for data, kind, each in zip(pictures, kinds, found, strict=True):
            if isinstance(each, EditError):
                results.append(each)
                continue
            # All of a picture's, also where the first is an error: they are in the order of the faces.
            edits = [next(changes) for _ in each]
            refused = next((edit for edit in edits if isinstance(edit, EditError)), None)
            results.append(refused or self._pasted(data, kind or images.format_of(data), edits))
        return results

    def _faces(self, data: bytes) -> list[_Face] | EditError:
        """The asked faces of a picture."""
        manifest = self._manifest
        try:
            picture, size = images.decode_preview(data, self._settings.max_image_pixels, LONGEST)
            found = self._finder.frame(picture, manifest.frame, self._edit.framed, size)
        except ImageError as exc:
            return EditError(str(exc))
        if self._edit.face == "all":
            found = found[: self._settings.max_count]
        elif self._edit.face >= len(found):
            return EditError(f"face {self._edit.face}: must be below {len(found)}, the number of faces found")
        else:
            found = [found[self._edit.face]]
        if not self._has_editor:
            return [_Face(each, None, each.place.matrix) for each in found]
        to_frame, side = alignment.between(manifest.editor_frame, manifest.frame), manifest.editor_frame.image_size
        matrices = [alignment.after(each.place.matrix, to_frame) for each in found]
        views = [faces.view(picture, matrix, side, size) for matrix in matrices]
        return [_Face(*each) for each in zip(found, views, matrices, strict=True)]

    def _changes(self, found: list[_Face]) -> Iterator[PhotoEdit | EditError | None]:
        """What to do with each face; None where nothing changes."""
        unknown = np.full((len(found), len(self._target)), np.nan, dtype=np.float32)
        pixels = np.stack([face.framed.pixels for face in found])
        encoded = self._run("encoder", {"image": pixels, "attributes": unknown})
        shown = encoded["attribute_estimates"]
        after = vectors.edited(shown, self._target, self._edit.strength)
        edit = self._by_fields if self._has_editor else self._by_decodes
        edits = edit(found, encoded["mean"], shown, after)
        for place, each in enumerate(edits):
            yield self._refusal(shown[place], after[place]) or each

    def _refusal(self, shown: np.ndarray, after: np.ndarray) -> EditError | None:
        if self._edit.experimental:
            return None
        try:
            experimental.refuse_edit(self._manifest, self._asked, shown[None], after[None])
        except Problem as exc:
            return EditError(exc.detail)
        return None

    def _by_fields(
        self, found: list[_Face], latent: np.ndarray, shown: np.ndarray, after: np.ndarray
    ) -> list[PhotoEdit | None]:
        changes, edits = vectors.change(shown, after), [None] * len(found)
        rows = np.flatnonzero(changes.any(axis=1)).tolist()
        if rows:
            views = np.stack([found[row].view for row in rows])
            fields = edit_fields.split(self._run("editor", {"image": views, "change": changes[rows]}))
            for row, each in zip(rows, fields, strict=True):
                edits[row] = FieldEdit(found[row].matrix, each)
        return edits

    def _by_decodes(
        self, found: list[_Face], latent: np.ndarray, shown: np.ndarray, after: np.ndarray
    ) -> list[PhotoEdit | None]:
        both = {"latent": np.concatenate([latent, latent]), "attributes": np.concatenate([shown, after])}
        drawn = np.split(self._run("decoder", both)["image"], 2)
        return [DrawnEdit(face.matrix, *pair) for face, *pair in zip(found, *drawn, strict=True)]

    def _run(self, graph: GraphKind, inputs: Arrays) -> Arrays:
        """Any number of rows, in batches."""
        size = self._settings.max_batch or self._runtime.max_batch
        return run_in_parts(run_of(self._runtime, graph), inputs, size)

    def _pasted(self, data: bytes, kind: OutputFormat, edits: list[PhotoEdit | None]) -> bytes:
        # Decoded anew: kept until now, a batch of large pictures would take far more memory than their files.
        picture = images.decode_photo(data, self._settings.max_image_pixels)
        grey = picture.is_grey
        for edit in filter(None, edits):
            edit.onto(picture.image, grey)
        return replace(self._origin, original=data).encode_photo(picture, kind, self._edit.quality)
