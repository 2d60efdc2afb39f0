"""Verify: what a picture says about its origin."""

from __future__ import annotations

from service.pipeline.finding import required, warn_of_cut
from service.pipeline.pipeline import Pipeline
from service.provenance import marking
from service.provenance.marking import ProvenanceReport
from service.request import RequestContext


async def verify_picture(pipeline: Pipeline, context: RequestContext, picture: bytes | None) -> ProvenanceReport:
    """The provenance report of an encoded picture. Raises ImageErrors, QueueFullError, and a Problem without one."""
    data = required(picture)

    def examine() -> ProvenanceReport:
        with context.stage("decode"):
            return marking.examine(data, pipeline.settings.max_image_pixels, pipeline.credentials)

    report = await pipeline.codecs.run_on(data, examine)
    await warn_of_cut(pipeline, context, data)
    return report
