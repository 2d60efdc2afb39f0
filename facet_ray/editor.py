"""Edits of many photographs at a time, in one process: the service's own modules, without requests and queues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from service import bundle as bundles
from service import golden, images, photo, vectors
from service.bundle import GraphKind, Manifest
from service.credentials import Agent, Credentials
from service.faces import FaceFinder, FramedFace
from service.images import ImageError, OutputFormat
from service.photographs import LONGEST
from service.provenance import Origin, SourceType
from service.runtime import Arrays
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

    def target(self, manifest: Manifest, settings: Settings) -> np.ndarray:
        """f32 [K], NaN for what stays. Raises Problem 422 for attributes that the model does not have, or 403 for those
        that are not enabled.
        """
        asked = vectors.attribute_vector(self.attributes, manifest)
        Withheld.of(manifest, settings.sensitive_attributes).refuse(asked, "attributes")
        return vectors.edit_target(asked, manifest)


class Editor:
    """One worker: a verified bundle, its runtime, which has drawn its golden samples, and the face finder.

    Raises BundleError, CredentialsError, RuntimeUnavailableError and, for the edit, Problem 403 and 422.
    """

    def __init__(self, settings: Settings, edit: Edit) -> None:
        bundle = bundles.load(settings.bundles / settings.default_model)
        self._manifest, self._edit, self._settings = bundle.manifest, edit, settings
        self._target = edit.target(bundle.manifest, settings)
        self._runtime = open_runtime(bundle, settings)
        golden.check(bundle, lambda latent, a: self._run("decoder", {"latent": latent, "attributes": a})["image"])
        self._finder = FaceFinder.of(settings)
        agent = Agent(f"Facet {bundle.manifest.name}", bundle.manifest.version)
        self._origin = Origin(SourceType.EDITED, agent, Credentials.of(settings))

    def edit(self, pictures: list[bytes], kinds: list[OutputFormat | None]) -> list[bytes | EditError]:
        """Each picture edited, at its own size and in that format (None: its own), or why it cannot be.

        All their faces go through the graphs together, at most `max_batch` of the settings at a time.
        """
        found = [self._faces(data) for data in pictures]
        faces = [face for each in found if not isinstance(each, EditError) for face in each]
        changes = iter(self._changes(faces) if faces else [])
        results: list[bytes | EditError] = []
        for data, kind, each in zip(pictures, kinds, found, strict=True):
            if isinstance(each, EditError):
                results.append(each)
            else:
                edits = [(face.place.matrix, *next(changes)) for face in each]
                results.append(self._pasted(data, kind or images.format_of(data), edits))
        return results

    def _faces(self, data: bytes) -> list[FramedFace] | EditError:
        """The asked faces of a picture."""
        try:
            picture, size = images.decode_preview(data, self._settings.max_image_pixels, LONGEST)
            faces = self._finder.frame(picture, self._manifest.frame, self._edit.framed, size)
        except ImageError as exc:
            return EditError(str(exc))
        if self._edit.face == "all":
            return faces[: self._settings.max_count]
        if self._edit.face >= len(faces):
            return EditError(f"face {self._edit.face}: must be below {len(faces)}, the number of faces found")
        return [faces[self._edit.face]]

    def _changes(self, faces: list[FramedFace]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each face as the model draws it before and after the edit, uint8 [S, S, 3]."""
        unknown = np.full((len(faces), len(self._target)), np.nan, dtype=np.float32)
        encoded = self._run("encoder", {"image": np.stack([face.pixels for face in faces]), "attributes": unknown})
        shown, latent = encoded["attribute_estimates"], encoded["mean"]
        after = vectors.edited(shown, self._target, self._edit.strength)
        both = {"latent": np.concatenate([latent, latent]), "attributes": np.concatenate([shown, after])}
        return list(zip(*np.split(self._run("decoder", both)["image"], 2), strict=True))

    def _run(self, graph: GraphKind, inputs: Arrays) -> Arrays:
        """Any number of rows, in batches."""
        run, size = getattr(self._runtime, graph), self._settings.max_batch or self._runtime.max_batch
        count = len(next(iter(inputs.values())))
        parts = [
            run({name: array[start : start + size] for name, array in inputs.items()})
            for start in range(0, count, size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _pasted(self, data: bytes, kind: OutputFormat, edits: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> bytes:
        # Decoded anew: kept until now, a batch of large pictures would take far more memory than their files.
        picture = images.decode_photo(data, self._settings.max_image_pixels)
        photo.paste_into(picture.image, edits)
        return replace(self._origin, original=data).encode_photo(picture, kind, self._edit.quality)
