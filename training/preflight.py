"""What the whole chain needs, from `fit` to an evaluated bundle, checked before `fit` begins and not hours later."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from training import attributes as attribute_rules
from training import config, networks
from training.config import AnyConfig, Config, EditorConfig, FlowConfig, GeneratorConfig, ModelConfig
from training.data import dataset, person_masks, shards
from training.data.dataset import DatasetError, FaceIndex
from training.data.shards import ShardedFaces
from training.editor.model import Editor
from training.editor.objective import Opponent as EditorOpponent
from training.flow.model import FlowPrior
from training.generator.objective import Opponent as GeneratorOpponent
from training.vae.model import ConditionalVAE, Opponent, latent_size

_FEW = 20  # pictures of a value, from which little can be learned or said
_EDITOR = "-editor"  # what the name of an editor's preset ends in, beside that of its VAE


class PreflightError(ValueError):
    """Something that a later command would refuse; the message says which and why."""


def check(settings: AnyConfig, preset: str, data: Path, cache: Path, workdir: Path, directory: Path) -> list[str]:
    """Check everything; `directory` is that of others' networks. Returns what is only doubtful.

    Raises PreflightError, ConfigError, DatasetError, and NetworkError.
    """
    _check_pair(preset)
    if isinstance(settings, EditorConfig | GeneratorConfig):
        networks.EFFICIENTNET_LITE0.load(directory)
    train, held_out = (_index(data, settings, partition) for partition in ("train", "validation"))
    _check_size(data, settings)
    doubts = _check_labels(train, held_out)
    doubts += [
        f"{name}: seems to touch on a protected trait; say so with attributes.{name}.sensitive = true, or false if not"
        for name in attribute_rules.seem_protected(settings.data.attributes, settings.data.about)
    ]
    _check_people(train, held_out, data)
    _check_room(settings, data, cache, workdir, directory)
    return doubts


def _index(data: Path, settings: AnyConfig, partition: dataset.Partition) -> FaceIndex:
    if shards.are_in(data):
        return ShardedFaces(data, settings.data, partition).index()
    return dataset.index_of(data, settings.data, partition)


def _check_pair(preset: str) -> None:
    """A VAE and its editor become one bundle only if they agree; `export` would find out after both are trained."""
    path = config.path_of(preset)
    name = path.stem.removesuffix(_EDITOR)
    both = [path.with_name(f"{name}{suffix}.toml") for suffix in ("", _EDITOR)]
    if not all(each.is_file() for each in both):
        return
    vae, editor = (config.load(str(each)) for each in both)
    for field in ("attributes", "aligned_size", "landmarks", "groups"):
        first, second = (
            attribute_rules.groups(vae.data.attributes, each.data.about)
            if field == "groups"
            else getattr(each.data, field)
            for each in (vae, editor)
        )
        if first != second:
            raise PreflightError(
                f"{both[1]}: its data.{field} is {second}; that of {both[0].name}, of the same bundle, is {first}"
            )


def _check_size(data: Path, settings: AnyConfig) -> None:
    """The first picture tells whether all have the size that the configuration says."""
    first = ShardedFaces(data, settings.data, "train") if shards.are_in(data) else _index(data, settings, "train")
    try:
        dataset.aligned(first.encoded(0), settings.data)
    except (DatasetError, OSError) as exc:
        raise DatasetError(f"{first.location(0)}: {exc}") from exc


def _check_labels(train: FaceIndex, held_out: FaceIndex) -> list[str]:
    doubts = []
    for index, name in ((train, "training"), (held_out, "validation")):
        present = (index.labels > 0).sum(0)
        for attribute, count in zip(index.attributes, present.tolist(), strict=True):
            rarer, value = min((count, "has it"), (len(index) - count, "lacks it"))
            if rarer == 0 and index is train:
                raise PreflightError(
                    f"data.attributes: {attribute!r}: none of the {len(index)} {name} pictures {value}"
                )
            if rarer < (_FEW if index is train else 2):
                doubts.append(f"{attribute}: only {rarer} of {len(index)} {name} pictures {value}")
    return doubts


def _check_people(train: FaceIndex, held_out: FaceIndex, data: Path) -> None:
    new = int(np.count_nonzero(dataset.strangers(held_out, train)))
    if new < 2:
        raise DatasetError(
            f"{data}: {new} of {len(held_out)} validation pictures show people of whom there is no training picture; "
            "`evaluate` needs at least 2"
        )


def _check_room(settings: AnyConfig, data: Path, cache: Path, workdir: Path, directory: Path) -> None:
    needed: dict[Path, int] = defaultdict(int)
    arrays = _arrays(settings, data)
    for name, shape in arrays.items():
        if not (cache / f"{name}.npy").exists():
            needed[cache] += int(np.prod(shape, dtype=np.int64))
            if name.startswith(person_masks.PREFIX):
                networks.SELFIE_SEGMENTATION.load(directory)
    needed[workdir] += _run_size(settings)
    by_disk: dict[int, list[Path]] = defaultdict(list)
    for path in needed:
        by_disk[_existing(path).stat().st_dev].append(path)
    for paths in by_disk.values():
        size, free = sum(needed[path] for path in paths), shutil.disk_usage(_existing(paths[0])).free
        if size > free:
            where = " and ".join(str(path) for path in paths)
            raise PreflightError(
                f"{where}: {size / 1e6:.1f} MB are needed for pixels and checkpoints, {free / 1e6:.1f} MB are free"
            )


def _arrays(settings: AnyConfig, data: Path) -> dict[str, tuple[int, ...]]:
    """The arrays that commands with this configuration keep in the cache, by name."""
    config, found = settings.data, {}
    if isinstance(settings, FlowConfig):
        uses = [("train", 0), ("validation", 0)]
    elif isinstance(settings, GeneratorConfig):
        uses = [("train", config.margin), ("validation", 0)]
    elif isinstance(settings, EditorConfig):
        uses = [("train", config.margin), ("validation", config.margin)]
    else:  # fit and calibrate, judge, evaluate
        uses = [("train", config.margin), ("train", int(config.shift)), ("train", 0), ("validation", 0)]
    for partition, margin in uses:
        if shards.are_in(data):
            pictures = ShardedFaces(data, config, partition, margin)
            name, shape = pictures.cached_as()
        else:
            pictures = dataset.index_of(data, config, partition)
            name, shape = dataset.cached_as(pictures, config, margin)
        found[name] = shape
        if isinstance(settings, EditorConfig):
            name, shape = person_masks.cached_as(pictures, config, margin)
            found[name] = shape
    return found


def _run_size(settings: AnyConfig) -> int:
    """Bytes that a run directory comes to hold: checkpoints, one of them being written, and sheets."""
    size, count = settings.data.image_size, len(settings.data.attributes)
    # Of weights and Adam's two moments; of what is trained also its average.
    written = sum(
        4 * copies * parameter.numel() for network, copies in _networks(settings) for parameter in network.parameters()
    )
    checkpoints = 4 if isinstance(settings, Config) else 3
    train = settings.train
    validations = (train.epochs if isinstance(settings, Config) else train.steps) // train.validate_every + 1
    sheet = 10 * (count + 2) * 3 * size**2  # bytes of pixels, about three times those of a PNG
    return checkpoints * written + validations * 2 * sheet // 3


def _networks(settings: AnyConfig) -> list[tuple[torch.nn.Module, int]]:
    """What a checkpoint holds and how often, on the meta device; a VAE that is given counts as the default one."""
    size, count = settings.data.image_size, len(settings.data.attributes)
    with torch.device("meta"):
        if isinstance(settings, EditorConfig):
            opponent = EditorOpponent(settings.opponent, len(settings.data.labels))
            return [(Editor(settings.model, size, count), 4), (opponent, 3)]
        if isinstance(settings, FlowConfig):
            return [(FlowPrior(settings.model, latent_size(ModelConfig(), size), count), 4)]
        if isinstance(settings, GeneratorConfig):
            model = ConditionalVAE(ModelConfig(), size, count)
            return [(model, 4), (GeneratorOpponent(settings.opponent, count), 3)]
        opponent = Opponent(settings.opponent.channels, size, count)
        return [(ConditionalVAE(settings.model, size, count), 4), (opponent, 3)]


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())
