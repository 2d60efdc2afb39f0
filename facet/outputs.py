"""Which pictures are worked on, and where each result goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from facet.arguments import UsageError
from facet.files import FORMATS, READ


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

    Of a folder, what `left_out` names is not among them. Raises UsageError for what is not there.
    """
    for name in given:
        path = Path(name)
        if not path.exists():
            hint = "" if path.suffix else "; an attribute is given as NAME=VALUE"
            raise UsageError(f"{name}: no such file or folder{hint}")
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        inside = [picture for picture, reason in _walk(path, without) if reason is None]
        if not inside:
            raise UsageError(f"{name}: holds no pictures ({', '.join(READ)})")
        yield from ((p, p.relative_to(path)) for p in inside)


def left_out(given: list[str], without: Path | None = None) -> list[tuple[Path, str]]:
    """What is skipped in the folders given, each with the reason; a folder that is skipped stands for all inside it."""
    folders = [Path(name) for name in given if Path(name).is_dir()]
    return [(path, reason) for folder in folders for path, reason in _walk(folder, without) if reason is not None]


def _walk(folder: Path, without: Path | None) -> Iterator[tuple[Path, str | None]]:
    """The files of a folder, with the reason for those that are skipped, and the folders that are not entered."""
    for directory, below, names in os.walk(folder):
        inside = {name: _reason_not_to_enter(Path(directory, name), without) for name in sorted(below)}
        below[:] = [name for name, reason in inside.items() if reason is None]
        yield from ((Path(directory, name), reason) for name, reason in inside.items() if reason is not None)
        yield from ((path := Path(directory, name), _reason_not_to_read(path)) for name in sorted(names))


def _reason_not_to_enter(folder: Path, without: Path | None) -> str | None:
    if folder.name.startswith("."):
        return "is hidden"
    if folder.is_symlink():
        return "is a link to a folder"
    return "is the output folder" if without is not None and folder.resolve() == without.resolve() else None


def _reason_not_to_read(path: Path) -> str | None:
    if path.name.startswith("."):
        return "is hidden"
    if path.exists() and not path.is_file():  # a pipe would be waited for; a link to nothing fails, and is named then
        return "is not a regular file"
    return None if path.suffix.lower() in READ else f"its suffix is none of {', '.join(READ)}"


def plan(
    given: list[str], out: str, accepted: tuple[str, ...], kind: str | None, usual: str | None, frames: int = 0
) -> list[Job]:
    """A job for each picture, or one without where none is `given`.

    `kind` is the requested format in a folder; else it is `usual`, or the picture's own. With `frames`, each picture
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
    kind = READ.get(path.suffix.lower(), "png")
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
