"""Compositing: edit fields are applied to a photograph at its own resolution.

The fields have the resolution of the editor's frame; the photograph keeps its own detail. First the flow moves pixels,
then gain and residual change their colours, strip by strip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.imaging import alignment, field_maps, flow
from service.imaging.edit_fields import EditFields
from service.imaging.field_maps import Box, Field
from service.imaging.tone import Tone


@dataclass(frozen=True)
class FieldEdit:
    """One face's edit: `matrix` f64 [2, 3] maps frame coordinates to the photograph's (service.imaging.alignment)."""

    matrix: np.ndarray
    fields: EditFields

    def onto(self, photo: Image.Image, tone: Tone | None = None) -> bool:
        """Edit an RGB photograph in place; of one with a `tone` only the luma, so that it keeps its tone.

        Nothing changes where the mask is 0, or outside the frame; False where nothing changes at all.
        """
        fields = self.fields.settled()
        fields = fields if tone is None else fields.grey()
        box = field_maps.region_of(self.matrix, fields.mask, photo.size)
        if box is None:
            return False
        spacing = field_maps.spacing_of(self.matrix)
        local = self.matrix.copy()
        local[:, 2] -= box[:2]
        # The mask scales gain and residual; the residual is in levels of 255.
        mask = fields.mask
        maps = np.concatenate([mask, mask * fields.gain, 255 * mask * fields.residual], axis=2)
        nodes = field_maps.sampled(maps, local, field_maps.nodes_over(box, spacing), spacing, 0.5)
        nodes *= nodes[:, :, :1] > 0  # smooth interpolation overshoots at the edge of the mask
        flow.move(photo, box, self.matrix, fields.flow, nodes[:, :, :1], spacing)
        _recolour(photo, box, nodes, spacing, tone)
        return True

    def resized(self, factors: np.ndarray, origin: np.ndarray | None = None) -> FieldEdit:
        """The same edit of a picture that is larger by `factors` f64 [2, 1], horizontally and vertically; with `origin`
        f64 [2], of the part of the picture that begins there.
        """
        return FieldEdit(alignment.seen(self.matrix, factors, origin), self.fields)


def composite(photo: Image.Image, edits: Iterable[FieldEdit], tone: Tone | None = None) -> Image.Image:
    """A copy of the photograph with the edits of its faces, applied one after the other."""
    result = photo.copy()
    for edit in edits:
        edit.onto(result, tone)
    return result


def _recolour(photo: Image.Image, box: Box, nodes: np.ndarray, spacing: int, tone: Tone | None) -> None:
    """Multiply by 1 + gain and add the residual, of nodes f32 [H', W', 7]: mask, gain and residual."""
    gain = Field(1 + nodes[:, :, 1:4], spacing)
    residual = Field(nodes[:, :, 4:] + np.float32(0.5), spacing)  # plus one half, for rounding
    for rows, columns, strip in field_maps.strips(nodes[:, :, 0] > 0, spacing, box):
        taken = np.asarray(photo.crop(strip))
        height, width, _ = taken.shape
        result = taken.reshape(height, -1) * gain.rows(rows, columns)[:height]
        result += residual.rows(rows, columns)[:height]
        np.clip(result, 0, 255.5, out=result)
        pixels = result.astype(np.uint8).reshape(height, width, 3)
        photo.paste(Image.fromarray(pixels if tone is None else tone.kept(taken, pixels)), strip[:2])
