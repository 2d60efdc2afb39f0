"""fit: train a preset into a run directory."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from training import checkpoint, config, distributed, files, networks, preflight, threads, warm_start
from training.commands import inputs, options
from training.data import dataset
from training.data.person_masks import load_masks
from training.editor import source as editor_source
from training.editor.features import Features
from training.editor.source import CachedEditorFaces
from training.editor.trainer import EditorTrainer
from training.flow import source as flow_source
from training.flow.source import PosteriorSource
from training.flow.trainer import FlowTrainer
from training.generator.trainer import GeneratorTrainer
from training.trainer import LAST
from training.vae.model import ConditionalVAE
from training.vae.trainer import VAETrainer


def fit(arguments: argparse.Namespace) -> int:
    """Train a preset into a run directory."""
    settings = config.load(arguments.preset, arguments.set)
    device, doubts = distributed.start(arguments.device), []
    if distributed.rank() == 0:
        files.require_writable(arguments.workdir, "--workdir")
        if arguments.init:
            warm_start.check(arguments.init, settings.stage)
        doubts = preflight.check(
            settings, arguments.preset, arguments.data, arguments.cache, arguments.workdir, networks.DIRECTORY
        )
    trainer = _TRAINERS[settings.stage](arguments, settings, device)
    last = arguments.workdir / LAST
    if arguments.resume:
        if last.exists():
            for change in trainer.resume(last):
                print(f"going on with another configuration: {change}", file=sys.stderr)
        else:
            print(f"nothing to resume in {arguments.workdir}; starting at step 0", file=sys.stderr)
    elif last.exists():
        raise checkpoint.CheckpointError(f"{last}: exists; pass --resume to go on, or choose another --workdir")
    if arguments.init and trainer.step == 0:
        missing = trainer.warm_start(arguments.init)
        lacking = ", ".join(missing) or "nothing"
        print(f"begins with {arguments.init}, which has nothing for: {lacking}", file=sys.stderr)
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    threads.choose(arguments.threads)
    finished = trainer.fit()
    distributed.stop()
    if not finished:
        print(f"stopped at step {trainer.step} of {trainer.total_steps}; go on with --resume", file=sys.stderr)
    return 0 if finished else 130


def _vae_trainer(arguments: argparse.Namespace, settings: config.Config, device: torch.device) -> VAETrainer:
    source, held_out = inputs.source(arguments, settings), inputs.held_out(arguments, settings)
    return VAETrainer(settings, source, held_out, arguments.workdir, device, _command(arguments))


def _editor_trainer(
    arguments: argparse.Namespace, settings: config.EditorConfig, device: torch.device
) -> EditorTrainer:
    features = Features.load()

    def faces(partition: dataset.Partition, repeat: Mapping[str, int]) -> CachedEditorFaces:
        margin = settings.data.margin
        index, pixels = inputs.faces_of(arguments, settings, partition, margin)
        pictures = inputs.pictures_of(arguments, settings, partition)  # of shards, what reads them
        masks = load_masks(pictures, settings.data, arguments.cache, margin)
        return CachedEditorFaces(index, pixels, masks, editor_source.times(index, repeat))

    source = distributed.first_alone(lambda: faces("train", settings.data.repeat))
    held_out = distributed.first_alone(lambda: faces("validation", {}))
    validation = held_out.read(np.arange(min(len(held_out), settings.train.validation_pictures)))
    validation = validation.centre(settings.data.image_size)
    return EditorTrainer(settings, source, validation, features, arguments.workdir, device, _command(arguments))


def _flow_trainer(arguments: argparse.Namespace, settings: config.FlowConfig, device: torch.device) -> FlowTrainer:
    vae = _given_vae(arguments, settings)
    posteriors = {}
    for partition in ("train", "validation"):
        index, pixels = inputs.faces_of(arguments, settings, partition)
        posteriors[partition] = flow_source.encode(vae, pixels, index.labels)
    source = PosteriorSource(posteriors["train"], settings.data.attributes)
    return FlowTrainer(settings, source, posteriors["validation"], vae, arguments.workdir, device, _command(arguments))


def _generator_trainer(
    arguments: argparse.Namespace, settings: config.GeneratorConfig, device: torch.device
) -> GeneratorTrainer:
    vae = _given_vae(arguments, settings)
    if arguments.prior is None:
        raise config.ConfigError("--prior: is needed, the checkpoint of a run of the stage 'prior'")
    prior, _, _ = checkpoint.load_prior(arguments.prior, vae.latent_size)
    return GeneratorTrainer(
        settings,
        inputs.source(arguments, settings),
        inputs.held_out(arguments, settings),
        vae,
        prior,
        Features.load(),
        arguments.workdir,
        device,
        _command(arguments),
    )


def _given_vae(arguments: argparse.Namespace, settings: config.FlowConfig | config.GeneratorConfig) -> ConditionalVAE:
    """The model of --vae. Raises ConfigError where it is missing or reads other pictures than the preset says."""
    if arguments.vae is None:
        raise config.ConfigError("--vae: is needed, the checkpoint of a calibrated VAE")
    vae, its = _vae_of(arguments.vae)
    for field in ("attributes", "image_size", "aligned_size", "crop_box"):
        if getattr(its.data, field) != getattr(settings.data, field):
            raise config.ConfigError(
                f"data.{field} = {getattr(settings.data, field)}: {arguments.vae} has {getattr(its.data, field)}"
            )
    return vae


def _vae_of(path: Path) -> tuple[ConditionalVAE, config.Config]:
    """The model of a checkpoint, or of a bundle's directory. Raises CheckpointError and BundleError."""
    if not path.is_dir():
        return checkpoint.load_model(path)[:2]
    settings = warm_start.config_of_bundle(path, "vae")
    model = ConditionalVAE(settings.model, settings.data.image_size, len(settings.data.attributes)).eval()
    given = warm_start.read(path, "vae", model).parts["model"]
    checkpoint.load_weights(model, {"ema": given}, "ema", path)
    return model.to(memory_format=torch.channels_last), settings


_TRAINERS = {
    "vae": _vae_trainer,
    "editor": _editor_trainer,
    "prior": _flow_trainer,
    "generator": _generator_trainer,
}


def _command(arguments: argparse.Namespace) -> str:
    return f"python -m training {shlex.join(_without_paths(arguments))}"


def _without_paths(arguments: argparse.Namespace) -> list[str]:
    """The part of the command that determines the result; paths of this machine do not."""
    # Of a checkpoint that the run began with, its run and name tell more than nothing.
    init = ["--init", "/".join(arguments.init.parts[-2:])] if arguments.init else []
    return ["fit", "--preset", arguments.preset, *init, *(w for item in arguments.set for w in ("--set", item))]


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "fit", fit)
    options.add_data(command)
    options.add_machine(command)
    options.add_preset(command)
    command.add_argument("--workdir", type=Path, required=True, help="directory for checkpoints, scalars and samples")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    command.add_argument(
        "--vae", type=Path, help="of the stages prior and generator: a calibrated VAE, as a checkpoint or a bundle"
    )
    command.add_argument("--prior", type=Path, help="of the stage generator: the checkpoint of a learned prior")
    command.add_argument(
        "--init", type=Path, metavar="CHECKPOINT|BUNDLE", help="begin with its weights, where names and shapes agree"
    )
