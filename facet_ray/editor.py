"""Edits of many pictures at a time, in one process, by the service's pipeline."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry

from facet.bridge import Bridge
from service.bundle import loader, vectors
from service.bundle.manifest import Manifest
from service.bundle.sensitive import DisabledAttributes
from service.errors import ImageError, Problem, translate
from service.imaging.codecs import OutputFormat
from service.inference.backends import open_runtime
from service.pipeline import parameters
from service.pipeline.edit import edit_picture
from service.pipeline.files import STILL, FileOptions
from service.pipeline.parameters import EditParameters
from service.pipeline.pipeline import Pipeline
from service.settings import Settings
from service.telemetry.metrics import Metrics

# A batch may be of any size, no picture comes again, and the model stays the same.
_OFFLINE = {"queue_images": sys.maxsize, "latent_cache_bytes": 0, "watch_seconds": 0.0}


class EditError(ValueError):
    """A picture that cannot be edited; the message says why."""


@dataclass(frozen=True)
class Edit:
    """The edit of every picture, with the meanings of `/v1/edit`."""

    attributes: dict[str, float]
    strength: float = 1.0
    face: int | Literal["all"] = 0
    framed: bool | None = None
    quality: int | None = None
    experimental: bool = False

    def parameters(self) -> EditParameters:
        """Raises Problem 422."""
        return parameters.parse(EditParameters, dataclasses.asdict(self))

    def check(self, manifest: Manifest, settings: Settings) -> None:
        """Raises Problem 422 for attributes that the model does not have, or 403 for those that are disabled."""
        given = vectors.attribute_vector(self.attributes, manifest)
        DisabledAttributes.of(manifest, settings.sensitive_attributes).refuse(given, "attributes")


class Editor:
    """One worker: a pipeline with one model, which has drawn its golden samples. It lasts until it is closed.

    Raises BundleError, CredentialsError, RuntimeUnavailableError and, for the edit, Problem 403 and 422.
    """

    def __init__(self, settings: Settings, edit: Edit) -> None:
        edit.check(loader.read_manifest(settings.bundles / settings.default_model), settings)
        self._params, metrics = edit.parameters(), Metrics(CollectorRegistry())
        pipeline = Pipeline.of(settings.model_copy(update=_OFFLINE), open_runtime, metrics, thorough=True)
        # A photograph is decoded anew for its edit: kept decoded, those of a batch would take far more memory.
        pipeline.photo_cache = None
        pipeline.models.load(settings.default_model)
        self._pipeline, self._bridge = pipeline, Bridge(pipeline.running())

    def edit(self, pictures: list[bytes], kinds: list[OutputFormat | None]) -> list[bytes | EditError]:
        """Each picture edited, at its own size and in that format (None: its own), or why it cannot be.

        All are under way at once, and the graphs run on the faces of several together.
        """
        return self._bridge.run(self._edit_all(pictures, kinds))

    def close(self) -> None:
        """End the pipeline and its threads."""
        self._bridge.close()

    async def _edit_all(self, pictures: list[bytes], kinds: list[OutputFormat | None]) -> list[bytes | EditError]:
        return await asyncio.gather(*map(self._edit, pictures, kinds))

    async def _edit(self, picture: bytes, kind: OutputFormat | None) -> bytes | EditError:
        files = FileOptions(STILL if kind is None else (kind,), self._params.quality)
        with self._pipeline.request() as context:
            try:
                edited = await edit_picture(self._pipeline, context, self._params, picture, files)
            except (Problem, ImageError) as exc:
                problem = translate(exc)
                if problem.status >= 500:  # not the picture's fault
                    raise
                return EditError(problem.detail)
        return edited.pictures[0].data
