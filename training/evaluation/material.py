"""What the protocol for photographs needs: pictures of people whom no training picture shows, and who looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training import networks
from training.checkpoint import CheckpointError
from training.config import DataConfig
from training.data.dataset import DatasetError, FaceIndex, Pictures, strangers
from training.evaluation import selection
from training.evaluation.identity import Identity, IdentityUnavailableError
from training.evaluation.inception import Features
from training.evaluation.photographs import Judges, Photographs
from training.evaluation.references import gather
from training.judge import Judge


@dataclass(frozen=True)
class Partition:
    """Pictures, and what is known of them."""

    pictures: Pictures
    index: FaceIndex


def photographs(held_out: Partition, train: Partition, each: int) -> tuple[Photographs, np.ndarray]:
    """The pictures that are edited, and bool [N, K] which attributes are inverted on each.

    Of each attribute's values `each` pictures, as far as there are strangers that show it. Raises DatasetError.
    """
    unknown = np.flatnonzero(strangers(held_out.index, train.index))
    if not len(unknown):
        raise DatasetError(f"{held_out.pictures.location(0)}: the pictures to evaluate on show nobody new")
    selected = selection.choose(held_out.index.labels[unknown], each)
    used = selected.any(1)
    return Photographs.read(held_out.pictures, held_out.index.labels, unknown[used]), selected[used]


def framing(judge: Judge) -> DataConfig:
    """How faces are framed for the judge. Raises CheckpointError where its checkpoint does not say so."""
    if judge.data is None:
        raise CheckpointError("the judge's checkpoint does not say how faces are framed for it; train it anew")
    return judge.data


def judges(judge: Judge, held_out: Partition, train: Partition, directory: Path, cache: Path) -> Judges:
    """The judge, and the networks of others that are in `directory` or installed. Raises CheckpointError."""
    box, names = framing(judge).crop_box, judge.attribute_names
    features, identity = _features(directory), _identity()
    real = None
    if isinstance(features, Features):
        parts = [(part.pictures, part.index.labels) for part in (held_out, train)]
        real = gather(parts, names, features, box, cache)
    return Judges(judge, box, features, real, identity)


def _features(directory: Path) -> Features | str:
    try:
        return Features.load(directory)
    except networks.NetworkError as exc:
        return str(exc)


def _identity() -> Identity | str:
    try:
        return Identity()
    except IdentityUnavailableError as exc:
        return str(exc)
