"""Generate: faces drawn from attributes."""

from __future__ import annotations

import random

from service.bundle import vectors
from service.pipeline import attributes, limits
from service.pipeline.files import FileOptions
from service.pipeline.parameters import MAX_SEED, GenerateParameters
from service.pipeline.pictures import Pictures, bare_faces, enlarged
from service.pipeline.pipeline import Pipeline
from service.request import RequestContext


async def generate_faces(
    pipeline: Pipeline, context: RequestContext, params: GenerateParameters, files: FileOptions | None = None
) -> Pictures:
    """Draw `count` faces with the attributes of `params`, the others at random, or decode its latents.

    Raises a Problem for parameters that the model cannot take or a key's limits, and BatcherErrors.
    """
    files = files or FileOptions.of(params)
    files.check()
    field, count = ("count", params.count) if params.latents is None else ("latents", len(params.latents))
    lease = pipeline.lease(context, params.model, images=count)
    (given,) = attributes.targets(lease, {"attributes": params.attributes})
    limits.check_count(pipeline.settings, field, count)
    seed = context.seed = random.randrange(MAX_SEED + 1) if params.seed is None else params.seed
    if params.size is not None:
        limits.check_pixels(pipeline.settings, count, params.size)
    drawn = lease.model.sampler.attributes(given, seed, count)
    latent = None
    if params.latents is not None:
        names = [f"latents.{row}" for row in range(count)]
        latent = vectors.latent_matrix(params.latents, lease.model.manifest, names)
    context.charge(count)
    if latent is None:
        latent = await lease.model.draw_latents(seed, drawn, context, params.temperature)
    faces = await lease.model.decode(latent, drawn, context)
    if params.size is not None:
        faces = await pipeline.codecs.run(enlarged, faces, params.size)
    context.count("generate", count)
    return await bare_faces(lease, faces, drawn, files, seed)
