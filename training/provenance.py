"""What belongs together: a run and its pictures, a bundle and whoever judges it. What does not is refused."""

from __future__ import annotations

from pathlib import Path

from service.bundle.manifest import FaceFrame, Manifest
from training import checkpoint
from training.checkpoint import CheckpointError
from training.config import DataConfig
from training.judge import Judge, load_judge


class ProvenanceError(ValueError):
    """Two things that do not belong together; the message has both hashes or sizes."""


def require_same_data(found: list[str], expected: str, data: Path, made_by: str) -> None:
    """Raises ProvenanceError unless one of the digests `found` of the training pictures in `data` is the `expected`."""
    if expected not in found:
        raise ProvenanceError(
            f"--data {data}: its training pictures and labels have the sha256 {found[0]}; {made_by} learned from those "
            f"of sha256 {expected}"
        )


def judge_of(path: Path, names: list[str]) -> tuple[Judge, dict]:
    """A judge of these attributes, and its facts. Raises CheckpointError."""
    found, facts = load_judge(path)
    if found.attribute_names != names:
        raise CheckpointError(f"{path}: judges {found.attribute_names}, the model has {names}")
    return found, facts


def require_own_frame(judge: Judge, path: Path, frame: DataConfig | FaceFrame) -> None:
    """Raises ProvenanceError for a judge that wants faces framed otherwise than the pictures it will be shown."""
    if judge.image_size != frame.image_size:
        raise ProvenanceError(
            f"{path}: judges pictures of {judge.image_size} pixels; the model's have {frame.image_size}"
        )
    for field in ("aligned_size", "crop_box"):
        expected, found = (None if one is None else tuple(getattr(one, field)) for one in (judge.data, frame))
        if expected not in (None, found):
            raise ProvenanceError(f"{path}: judges pictures of {field} {expected}; the model's have {found}")


def require_sees_as_much(judge: Judge, path: Path, frame: FaceFrame) -> None:
    """Raises ProvenanceError for a judge that sees less detail than what it judges has."""
    assert judge.data is not None
    judged, drawn = (one.image_size / (one.crop_box[2] - one.crop_box[0]) for one in (judge.data, frame))
    if judged < drawn - 1e-6:
        raise ProvenanceError(
            f"{path}: sees {judged:.2f} pixels for each one of an aligned picture ({judge.image_size} in all); "
            f"the bundle draws {drawn:.2f} ({frame.image_size} in all)"
        )


def require_no_part_in(judge: Judge, path: Path, manifest: Manifest) -> str:
    """The judge's sha256. Raises ProvenanceError for the classifier that chose the gains of what it would judge."""
    own = weights_sha256(judge)
    if own == manifest.training.classifier_sha256:
        raise ProvenanceError(
            f"{path}: its weights, of sha256 {own}, are those of the classifier that chose the gains of "
            f"{manifest.name}; a judge must be another"
        )
    return own


def weights_sha256(judge: Judge) -> str:
    """Of its weights alone, so that a copy under another name is known."""
    return checkpoint.sha256(judge.state_dict())
