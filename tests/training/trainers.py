"""Makes trainers of a tiny model, from a directory in CelebA's layout or from shards."""

from __future__ import annotations

from pathlib import Path

import torch

from training import config, distributed
from training.data import dataset, shards
from training.data.dataset import Faces
from training.data.shards import ShardedFaces
from training.data.source import CachedFaces
from training.vae.trainer import VAETrainer

OVERRIDES = ["train.epochs=3", "train.batch_size=8", "train.validate_every=1", "train.precision=fp32"]
TINY = "tests/training/tiny.toml"


def make_trainer(data: Path, cache: Path, directory: Path, *overrides: str) -> VAETrainer:
    settings = config.load(TINY, [*OVERRIDES, *overrides])

    def cached(partition: str, margin: int) -> tuple[dataset.FaceIndex, object]:
        index = dataset.read_index(data, settings.data.attributes, partition)
        return index, dataset.load_pixels(index, settings.data, cache, margin)

    if shards.are_in(data):
        source = ShardedFaces(data, settings.data, "train", settings.data.margin)
        held_out = ShardedFaces(data, settings.data, "validation").read(range(8))
    else:
        source = CachedFaces(*distributed.first_alone(lambda: cached("train", settings.data.margin)))
        index, pixels = distributed.first_alone(lambda: cached("validation", 0))
        held_out = Faces(pixels, index.labels)
    return VAETrainer(settings, source, held_out, Path(directory), torch.device("cpu"))
