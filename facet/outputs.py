"""Which pictures are worked on, and where each result goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from facet.arguments import UsageError
from facet.files import FORMATS


@dataclass(frozen=True)
class Job:
    """One picture, None where it is generated, and the files of format `kind` that come of it."""

    source: Path | None
    targets: tuple[Path, ...]
    kind: str


def is_folder(out: str) -> bool:
    """Whether a name says so, or is one."""
    return out.endswith(("/", os.sep)) or Path(out).is_dir()


def kind_of(path: Path, accepted: tuple[str, ...]) -> str:
    """The format that the suffix names. Raises UsageError for one that is not `accepted`."""
    kind = FORMATS.get(path.suffix.lower())
    if kind not in accepted:
        suffixes = ", ".join(suffix for suffix, name in FORMATS.items() if name in accepted)
        raise UsageError(f"-o {path}: the suffix must be one of {suffixes}")
    return kind


def pictures(given: list[str], without: Path | None = None) -> Iterator[tuple[Path, Path]]:
    """Each picture, and its place in the output: its name, for those of a folder with the path below it.

    Hidden files are left out, and those of the folder `without` where it lies inside of one. Raises UsageError for what
    is not there.
    """
    for name in given:
        path = Path(name)
        if not path.exists():
            hint = "" if path.suffix else "; an attribute is given as NAME=VALUE"
            raise UsageError(f"{name}: no such file or folder{hint}")
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        inside = [picture for picture in _walk(path) if not _lies_in(picture, without, path)]
        if not inside:
            raise UsageError(f"{name}: holds no pictures ({', '.join(FORMATS)})")
        yield from ((p, p.relative_to(path)) for p in inside)


def _lies_in(picture: Path, without: Path | None, folder: Path) -> bool:
    if without is None or folder.resolve() not in without.resolve().parents:
        return False
    return picture.resolve().is_relative_to(without.resolve())


def _walk(folder: Path) -> Iterator[Path]:
    for directory, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if name[0] != ".")
        yield from (Path(directory, n) for n in sorted(names) if n[0] != "." and Path(n).suffix.lower() in FORMATS)


def plan(
    given: list[str], out: str, accepted: tuple[str, ...], kind: str | None, usual: str | None, frames: int = 0
) -> list[Job]:
    """A job for each picture, or one without where none is `given`.

    `kind` is the format asked for in a folder; else it is `usual`, or the picture's own. With `frames`, each picture
    becomes that many files in a folder. Raises UsageError for what makes no sense.
    """
    single = len(given) <= 1 and not (given and Path(given[0]).is_dir())
    if single and not is_folder(out) and not frames:
        found = list(pictures(given))
        jobs = [Job(found[0][0] if found else None, (Path(out),), kind_of(Path(out), accepted))]
    else:
        _check_folder(out, Path(out))
        jobs = [
            _in_folder(Path(out), path, place, kind or usual or _own(place, accepted), frames)
            for path, place in (pictures(given, Path(out)) if given else [(None, Path("face"))])
        ]
    _check_targets(jobs)
    return jobs


def _check_folder(out: str, path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UsageError(f"-o {out}: must be a folder for this, and is a file")
    if path.suffix.lower() in FORMATS and not is_folder(out):
        raise UsageError(f"-o {out}: several pictures come of this; name a folder")


def _own(path: Path, accepted: tuple[str, ...]) -> str:
    kind = FORMATS.get(path.suffix.lower(), "png")
    return kind if kind in accepted else "png"


def _in_folder(out: Path, source: Path | None, place: Path, kind: str, frames: int) -> Job:
    same = FORMATS.get(place.suffix.lower()) == kind
    suffix = place.suffix if same else f".{kind}".replace("jpeg", "jpg")
    stems = [f"{place.stem}-{number:02d}" for number in range(frames)] or [place.stem]
    return Job(source, tuple(out / place.parent / f"{stem}{suffix}" for stem in stems), kind)


def _check_targets(jobs: list[Job]) -> None:
    """No picture is overwritten by its own edit, and no two results share a name."""
    sources = {job.source.resolve() for job in jobs if job.source is not None}
    origins: dict[Path, Path | None] = {}
    for job in jobs:
        for target in job.targets:
            if target.resolve() in sources:
                raise UsageError(f"-o {target}: is one of the pictures given, and would be overwritten")
            if target in origins:
                raise UsageError(f"{origins[target]} and {job.source} would both be written to {target}")
            origins[target] = job.source
