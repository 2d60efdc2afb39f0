"""A stage of a bundle as a checkpoint, from which it can be exported again beside another editor, prior or decoder.

Weights come back as the bundle stores them: of matrices in half precision, which an export would round them to anyway.
What a run needs to go on, the opponent and the optimisers, no bundle has; `fit --init` begins with what there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError, SamplingPrior, Training
from training import warm_start
from training.config import AnyConfig, Config, ConfigError, EditorConfig, FlowConfig, recorded
from training.editor.model import Editor
from training.flow.model import FlowPrior
from training.vae.model import ConditionalVAE

# By stage what a bundle's manifest calls the record of its training.
ENTRIES = {
    "vae": "training",
    "editor": "editor_training",
    "prior": "prior_training",
    "generator": "decoder_training",
}


def state_of(directory: Path, stage: str) -> dict[str, Any]:
    """The content of a checkpoint with a bundle's averaged weights of that stage, a calibrated one of the stage "vae".

    With a decoder that was trained further, the VAE comes back with that. Raises BundleError where the bundle was made
    without the stage, or does not hold all of its weights.
    """
    bundle = loader.load(directory)
    training: Training | None = getattr(bundle.manifest, ENTRIES[stage])
    if training is None:
        raise BundleError(directory, f"was made without the stage {stage!r}")
    try:
        config = recorded(training.config)
        network = _network(bundle, config)
    except ConfigError as exc:
        raise BundleError(directory, f"{ENTRIES[stage]}.config: {exc}") from exc
    given = warm_start.read(directory, stage, network)
    names = bundle.manifest.attribute_names
    weights, missing = warm_start.fitted(network.state_dict(), given.parts["ema"], names, names)
    if missing:
        raise BundleError(directory, f"does not hold {missing[0]} of the stage {stage!r}")
    state = {
        "ema": weights,
        "config": config.model_dump(mode="json"),
        "step": 0,
        "epochs": training.epochs,
        "data_sha256": training.data_sha256,
        "command": training.command,
    }
    if stage == "vae":
        return state | _calibration(bundle, training)
    if stage == "editor":
        gains = {each.name: dict(each.editor_gains) for each in bundle.manifest.attributes if each.editor_gains}
        return state | ({"editor_gains": gains} if gains else {})
    return state


def _network(bundle: Bundle, config: AnyConfig) -> nn.Module:
    """The structure whose weights the stage with that configuration averages."""
    names = bundle.manifest.attribute_names
    if isinstance(config, EditorConfig):
        return Editor(config.model, config.data.image_size, len(names))
    if isinstance(config, FlowConfig):
        return FlowPrior(config.model, bundle.manifest.latent_size, len(names))
    vae = recorded(bundle.manifest.training.config)  # of which the generator's own configuration says nothing
    assert isinstance(vae, Config)
    return ConditionalVAE(vae.model, vae.data.image_size, len(names))


def _calibration(bundle: Bundle, training: Training) -> dict[str, Any]:
    prior = bundle.prior
    numbers = SamplingPrior(
        attribute_mean=prior.attribute_mean.tolist(),
        attribute_covariance=prior.attribute_covariance.tolist(),
        attribute_levels=[(low, high) for low, high in prior.attribute_levels.tolist()],
        latent_mean=prior.latent_mean.tolist(),
        latent_weights=prior.latent_weights.tolist(),
        latent_cholesky=[row[: i + 1].tolist() for i, row in enumerate(prior.latent_cholesky)],
    )
    gains = {attribute.name: attribute.gain for attribute in bundle.manifest.attributes}
    return {
        "gains": gains,
        "prior": numbers.model_dump(mode="json"),
        "classifier_sha256": training.classifier_sha256,
    }
