"""The pictures that commands work on, from CelebA's layout or from shards."""

from __future__ import annotations

import argparse

import numpy as np

from training import distributed
from training.config import AnyConfig
from training.data import dataset, shards
from training.data.dataset import Faces
from training.data.shards import ShardedFaces
from training.data.source import CachedFaces, Source
from training.evaluation import material


def faces_of(arguments: argparse.Namespace, settings: AnyConfig, partition: dataset.Partition, margin: int = 0):
    """Index and framed pictures of a partition; those of shards are unpacked into the same kind of cache."""
    if shards.are_in(arguments.data):
        return ShardedFaces(arguments.data, settings.data, partition, margin).unpack(arguments.cache)
    index = dataset.index_of(arguments.data, settings.data, partition)
    return index, dataset.load_pixels(index, settings.data, arguments.cache, margin)


def pictures_of(arguments: argparse.Namespace, settings: AnyConfig, partition: dataset.Partition) -> dataset.Pictures:
    """The encoded pictures of a partition."""
    if shards.are_in(arguments.data):
        return ShardedFaces(arguments.data, settings.data, partition)
    return dataset.index_of(arguments.data, settings.data, partition)


def partition_of(
    arguments: argparse.Namespace, settings: AnyConfig, partition: dataset.Partition
) -> material.Partition:
    """The same, with what is known of them."""
    pictures = pictures_of(arguments, settings, partition)
    return material.Partition(pictures, pictures.index() if isinstance(pictures, ShardedFaces) else pictures)


def source(arguments: argparse.Namespace, settings: AnyConfig) -> Source:
    """The training pictures: from shards as they are needed, from CelebA's layout decoded once and kept."""
    if shards.are_in(arguments.data):
        faces = ShardedFaces(arguments.data, settings.data, "train", settings.data.margin)
        if distributed.rank() == 0:
            faces.verify()
        return faces
    return CachedFaces(*distributed.first_alone(lambda: faces_of(arguments, settings, "train", settings.data.margin)))


def held_out(arguments: argparse.Namespace, settings: AnyConfig) -> Faces:
    """The validation pictures; of shards as many as validations look at."""
    if shards.are_in(arguments.data):
        held_out = ShardedFaces(arguments.data, settings.data, "validation")
        return held_out.read(np.arange(min(len(held_out), settings.train.validation_pictures)))
    index, pixels = distributed.first_alone(lambda: faces_of(arguments, settings, "validation"))
    return Faces(pixels, index.labels)


def digests(arguments: argparse.Namespace, settings: AnyConfig, index: dataset.FaceIndex) -> list[str]:
    """By which a run may know the training pictures: what began on shards has another than in CelebA's layout."""
    if not shards.are_in(arguments.data):
        return [index.digest()]
    return [ShardedFaces(arguments.data, settings.data, "train").digest(), index.digest()]
