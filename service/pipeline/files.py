"""How pictures become files: formats, quality, and whether several become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.errors import invalid
from service.pipeline.parameters import EditParameters, GenerateParameters, SweepParameters

FileFormat = Literal["png", "jpeg", "webp", "gif", "zip"]
STILL: tuple[FileFormat, ...] = ("png", "jpeg", "webp")
ANIMATED: tuple[FileFormat, ...] = ("webp", "gif")


@dataclass(frozen=True)
class FileOptions:
    """The files that a caller asks for.

    A photograph keeps its own format where that is among `formats`; else the first of them is taken. With `as_one`,
    several pictures become one file: faces a grid, the frames of a sweep an archive. `quality` is for JPEG and WebP;
    None is that of a photograph's own file, or 90.
    """

    formats: tuple[FileFormat, ...]
    quality: int | None
    as_one: bool = False

    @classmethod
    def of(cls, params: GenerateParameters | EditParameters | SweepParameters) -> FileOptions:
        """A file for each picture, as the parameters say; an animation is WebP."""
        animated = isinstance(params, SweepParameters) and params.layout == "animation"
        return cls(("webp" if animated else params.format,), params.quality)

    def check(self, allowed: tuple[FileFormat, ...] = STILL) -> None:
        """Raises a 422 Problem for other formats."""
        for kind in self.formats:
            if kind not in allowed:
                raise invalid("format", kind, f"must be {' or '.join(allowed)}")
