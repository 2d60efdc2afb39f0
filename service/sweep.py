"""One attribute changed gradually, or two against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service import images, sheets, vectors
from service.bundle import Manifest
from service.images import OutputFormat, Photo
from service.photo import PhotoEdit
from service.schemas import SweepRequest


@dataclass(frozen=True)
class Plan:
    """What a sweep draws: attributes f32 [R, C, K], and the value of each swept attribute by column and by row."""

    attributes: np.ndarray
    columns: list[float]
    rows: list[float]

    @staticmethod
    def make(shown: np.ndarray, asked: SweepRequest, manifest: Manifest) -> Plan:
        """For a face that shows f32 [1, K]. Raises a 422 Problem for an unknown attribute."""
        strengths = np.linspace(asked.start, asked.stop, asked.steps)
        across, *down = asked.attribute
        row = vectors.swept(shown, across, asked.target, strengths, manifest)[:, 0]  # [C, K]
        columns = row[:, manifest.attribute_names.index(across)].tolist()
        if not down:
            return Plan(row[None], columns, [])
        attributes = vectors.swept(row, down[0], asked.target, strengths, manifest)  # [R, C, K]
        return Plan(attributes, columns, attributes[:, 0, manifest.attribute_names.index(down[0])].tolist())


def on_photo(source: Photo, edits: Sequence[PhotoEdit | None], size: int) -> np.ndarray:
    """The photograph, at most `size` pixels long, with each of the edits; uint8 [T, H, W, 3].

    Edits are of the photograph as it was; None leaves it so.
    """
    small, grey = source.image.copy(), source.is_grey
    small.thumbnail((size, size), Image.Resampling.BICUBIC)
    factors = np.array([[small.width / source.image.width], [small.height / source.image.height]])
    frames = []
    for edit in edits:
        frame = small.copy()
        if edit is not None:
            edit.resized(factors).onto(frame, grey)
        frames.append(np.asarray(frame))
    return np.stack(frames)


def enlarged(faces: np.ndarray, size: int) -> np.ndarray:
    """Faces uint8 [T, S, S, 3] as uint8 [T, size, size, 3]."""
    box = (0, 0, faces.shape[2], faces.shape[1])
    return np.stack([images.crop_resize(Image.fromarray(face), box, size) for face in faces])


def strip(frames: np.ndarray, plan: Plan, asked: SweepRequest) -> np.ndarray:
    """The frames as one labelled picture, uint8 [H, W, 3]."""
    across, *down = (name.replace("_", " ") for name in asked.attribute)
    pictures = frames.reshape(*plan.attributes.shape[:2], *frames.shape[1:])
    rows = [f"{down[0]} {value:+.2f}" for value in plan.rows] if down else [across]
    headings = [f"{value:+.2f}" for value in plan.columns]
    if down:
        headings[0] = f"{across} {headings[0]}"
    return np.asarray(sheets.labelled(pictures, headings, rows))


def archive(frames: list[bytes], kind: OutputFormat) -> bytes:
    """The encoded frames as numbered files."""
    return sheets.archive({f"{place:02d}.{kind}": data for place, data in enumerate(frames)})
