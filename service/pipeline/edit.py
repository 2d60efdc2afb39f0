"""Edit: the attributes of a face changed, in the photograph that it is in, or by itself."""

from __future__ import annotations

from service.pipeline import attributes, changes, faces, rendering
from service.pipeline.files import FileOptions
from service.pipeline.finding import Search
from service.pipeline.parameters import EditParameters
from service.pipeline.pictures import Pictures
from service.pipeline.pipeline import Pipeline
from service.request import RequestContext


async def edit_picture(
    pipeline: Pipeline,
    context: RequestContext,
    params: EditParameters,
    picture: bytes | None = None,
    files: FileOptions | None = None,
) -> Pictures:
    """Edit the chosen faces of an encoded picture, or the face of a latent.

    Raises ImageErrors, BatcherErrors, and a Problem for parameters that the model cannot take, a photograph without
    such a face, an experimental edit that is not allowed, a key's limits, or a picture that cannot be signed.
    """
    picture = pipeline.photos.picture(params.photo, picture)
    files = files or FileOptions.of(params)
    files.check()
    graph = "editor" if params.latent is None else "decoder"
    lease = pipeline.lease(context, params.model, graph, unedited=0 if params.bare else 1)
    requested = changes.requested(lease, params)
    known = attributes.known(lease, params.source_attributes)
    if params.latent is None:
        search = Search("all" if params.others else params.face, params.framed)
        found = await faces.of_photograph(lease, picture, search, known, not params.bare, params.photo)
    else:
        found = faces.of_latent(lease, params, picture, known)
    after = requested.after(found.current)
    if params.variants:
        context.charge(len(after))
    context.count("edit", requested.count(len(found.current)))
    return await rendering.edited(lease, params, found, after, files)
