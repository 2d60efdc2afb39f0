"""Edit fields applied to the photograph that a face lies in, at the photograph's own resolution.

What the editor says is as fine as its frame; the photograph keeps its own detail. Pixels are moved first, where there
is a flow, and coloured then, strip by strip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service import field_maps, flow
from service.edit_fields import EditFields
from service.field_maps import Box, Field


@dataclass(frozen=True)
class FieldEdit:
    """One face's edit: `matrix` f64 [2, 3] takes its frame's coordinates to the photograph's (service.alignment)."""

    matrix: np.ndarray
    fields: EditFields

    def onto(self, photo: Image.Image, grey: bool = False) -> None:
        """Edit an RGB photograph in place; of a `grey` one, whose channels are equal, the luminance alone.

        Nothing changes where the mask is 0, nor outside the frame.
        """
        fields = self.fields.settled()
        fields = fields.grey() if grey else fields
        box = field_maps.region_of(self.matrix, fields.mask, photo.size)
        if box is None:
            return
        spacing = field_maps.spacing_of(self.matrix)
        local = self.matrix.copy()
        local[:, 2] -= box[:2]
        # Colours are multiplied and added to as far as the mask says, and the residual is in levels.
        mask = fields.mask
        maps = np.concatenate([mask, mask * fields.gain, 255 * mask * fields.residual], axis=2)
        nodes = field_maps.sampled(maps, local, field_maps.nodes_over(box, spacing), spacing, 0.5)
        nodes *= nodes[:, :, :1] > 0  # smooth interpolation swings beyond where a map ends
        flow.move(photo, box, self.matrix, fields.flow, nodes[:, :, :1], spacing)
        _recolour(photo, box, nodes, spacing)

    def resized(self, factors: np.ndarray) -> FieldEdit:
        """The same edit of a picture that is larger by `factors` f64 [2, 1], across and down."""
        return FieldEdit(self.matrix * factors, self.fields)


def composite(photo: Image.Image, edits: Iterable[FieldEdit], grey: bool = False) -> Image.Image:
    """The photograph with the edits of its faces, one after the other; the photograph itself is left as it is."""
    result = photo.copy()
    for edit in edits:
        edit.onto(result, grey)
    return result


def _recolour(photo: Image.Image, box: Box, nodes: np.ndarray, spacing: int) -> None:
    """Multiply by 1 + gain and add the residual, of nodes f32 [H', W', 7]: mask, gain and residual."""
    gain = Field(1 + nodes[:, :, 1:4], spacing)
    residual = Field(nodes[:, :, 4:] + np.float32(0.5), spacing)  # a half, to be rounded
    for rows, columns, strip in field_maps.strips(nodes[:, :, 0] > 0, spacing, box):
        part = np.asarray(photo.crop(strip))
        height, width, _ = part.shape
        result = part.reshape(height, -1) * gain.rows(rows, columns)[:height]
        result += residual.rows(rows, columns)[:height]
        np.clip(result, 0, 255.5, out=result)
        photo.paste(Image.fromarray(result.astype(np.uint8).reshape(height, width, 3)), strip[:2])
