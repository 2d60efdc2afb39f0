"""Sweep: one attribute of a face changed gradually, or two against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.bundle import experimental, vectors
from service.bundle.manifest import Manifest
from service.errors import invalid
from service.imaging import contact_sheets
from service.imaging.paste import PhotoEdit
from service.pipeline import attributes, faces, limits, rendering
from service.pipeline.faces import Faces
from service.pipeline.files import ANIMATED, STILL, FileOptions
from service.pipeline.finding import Search
from service.pipeline.parameters import SweepParameters
from service.pipeline.pictures import Picture, Pictures, by_name, enlarged, origin_of
from service.pipeline.pipeline import ModelLease, Pipeline
from service.request import RequestContext


async def sweep_face(
    pipeline: Pipeline,
    context: RequestContext,
    params: SweepParameters,
    picture: bytes | None = None,
    files: FileOptions | None = None,
) -> Pictures:
    """Sweep the chosen face of an encoded picture, the face of a latent, or one drawn from a seed.

    Raises ImageErrors, BatcherErrors, and a Problem for parameters that the model cannot take, a photograph without
    such a face, an experimental edit that is not allowed, a key's limits, or a picture that cannot be signed.
    """
    picture = pipeline.photos.picture(params.photo, picture)
    files = files or FileOptions.of(params)
    files.check(ANIMATED if params.layout == "animation" else STILL)
    graph = "editor" if picture is not None else "decoder"
    lease = pipeline.lease(context, params.model, graph, params.steps, unedited=1)
    names = [vectors.attribute_of(name, lease.model.manifest, "attribute")[0] for name in params.attribute]
    lease.model.disabled.refuse_names(names, "attribute")
    face = await _face(lease, params, picture)
    limits.check_count(pipeline.settings, "steps", params.steps ** len(names))  # before any of them is planned
    limits.check_pixels(pipeline.settings, params.steps ** len(names), params.size)
    plan = Plan.make(face.current, params, lease.model.manifest)
    after = plan.attributes.reshape(-1, face.current.shape[1])
    if picture is not None and not params.experimental:
        swept = [(name, "attribute", name) for name in names]
        experimental.refuse(lease.model.manifest, swept, face.current, after)
    context.charge(len(after))
    on_photo = picture is not None and params.output != "face"
    steps = await (face.edits if on_photo else face.bare)(after)
    context.count("sweep", len(after))
    job = (_laid_out, lease, params, files, plan, steps, face)
    pictures = await (pipeline.codecs.run_on(picture, *job) if on_photo else pipeline.codecs.run(*job))
    return Pictures(lease.model.identity, pictures, files.as_one, params.seed)


async def _face(lease: ModelLease, params: SweepParameters, picture: bytes | None) -> Faces:
    """The face to sweep."""
    known = attributes.known(lease, params.source_attributes)
    if params.latent is not None:
        return faces.of_latent(lease, params, picture, known)
    if picture is not None:
        if params.seed is not None:
            raise invalid("seed", params.seed, "cannot be given together with an image")
        search = Search(params.face, params.framed)
        return await faces.of_photograph(lease, picture, search, known, handle=params.photo)
    if params.seed is None:
        raise invalid("image", None, "is required, or a latent, or a seed")
    (given,) = attributes.targets(lease, {"attributes": params.attributes})
    lease.context.seed = params.seed
    current = lease.model.sampler.attributes(given, params.seed, 1)
    # Drawn once: a prior asked again at each step would draw another person.
    latent = await lease.model.draw_latents(params.seed, current, lease.context)
    return faces.latent_face(lease, latent, current)


@dataclass(frozen=True)
class Plan:
    """What a sweep draws: attributes f32 [R, C, K], and the value of each swept attribute by column and by row.

    `names` are the model's own of the swept attributes.
    """

    names: list[str]
    attributes: np.ndarray
    columns: list[float]
    rows: list[float]

    @staticmethod
    def make(current: np.ndarray, params: SweepParameters, manifest: Manifest) -> Plan:
        """For a face with attributes f32 [1, K]. Raises a 422 Problem for an unknown attribute."""
        strengths = np.linspace(params.start, params.stop, params.steps)
        names = [vectors.attribute_of(name, manifest, "attribute")[0] for name in params.attribute]
        columns_of = [manifest.attribute_names.index(name) for name in names]
        across, *down = params.attribute
        row = vectors.swept(current, across, params.target, strengths, manifest)[:, 0]  # [C, K]
        columns = row[:, columns_of[0]].tolist()
        if not down:
            return Plan(names, row[None], columns, [])
        attributes = vectors.swept(row, down[0], params.target, strengths, manifest)  # [R, C, K]
        return Plan(names, attributes, columns, attributes[:, 0, columns_of[1]].tolist())


def _laid_out(
    lease: ModelLease,
    params: SweepParameters,
    files: FileOptions,
    plan: Plan,
    steps: np.ndarray | Sequence[PhotoEdit | None],
    face: Faces,
) -> list[Picture]:
    """The steps in the layout of the parameters: bare faces uint8 [T, S, S, 3], or edits of the face's photograph."""
    if isinstance(steps, np.ndarray):
        frames, greyscale, original = enlarged(steps, params.size), False, face.original
    else:
        photograph = face.photograph
        frames, greyscale = rendering.variants(lease, photograph, steps, params.region, params.size)
        original = photograph.data
    origin, rows = origin_of(lease, original), plan.attributes.reshape(len(frames), -1)
    kind = files.formats[0]
    with lease.context.stage("encode"):
        if params.layout == "animation":
            encoded = [origin.animation(frames, kind, params.milliseconds, files.quality)]
        else:
            frames = strip(frames, plan, params)[None] if params.layout == "strip" else frames
            sheets = np.ascontiguousarray(frames[..., 0]) if greyscale else frames
            encoded = [origin.encode(sheet, kind, files.quality) for sheet in sheets]
    height, width = frames.shape[1:3]
    if params.layout == "frames" and files.as_one:
        data = contact_sheets.archive({f"{number:02d}.{kind}": data for number, data in enumerate(encoded)})
        return [Picture(data, "zip", width, height, origin.source_type, None)]
    return [
        Picture(data, kind, width, height, origin.source_type, by_name(lease.model, row))
        for data, row in zip(encoded, rows[-len(encoded) :], strict=True)
    ]


def strip(frames: np.ndarray, plan: Plan, params: SweepParameters) -> np.ndarray:
    """The frames as one labelled picture, uint8 [H, W, 3]."""
    across, *down = (name.replace("_", " ") for name in plan.names)
    pictures = frames.reshape(*plan.attributes.shape[:2], *frames.shape[1:])
    rows = [f"{down[0]} {value:+.2f}" for value in plan.rows] if down else [across]
    headings = [f"{value:+.2f}" for value in plan.columns]
    if down:
        headings[0] = f"{across} {headings[0]}"
    return np.asarray(contact_sheets.labelled(pictures, headings, rows))
