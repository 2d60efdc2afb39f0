"""The configuration of a training run: one TOML file, checked before anything is read or written.

base        sections, attributes, pictures and their framing
adversarial what the editor and the generator have in common
vae         the stage "vae"
editor      the stage "editor"
flow        the stage "prior"
generator   the stage "generator"
reading     presets, overrides, and what checkpoints and bundles carry
describe    a whole configuration as a preset
"""

from training.config.adversarial import AdversarialTrainConfig, FeatureOpponentConfig
from training.config.base import DEFAULT_ATTRIBUTES, AttributeConfig, ConfigError, DataConfig
from training.config.editor import (
    EditorConfig,
    EditorDataConfig,
    EditorLossConfig,
    EditorModelConfig,
    EditorOpponentConfig,
    RequestsConfig,
    ViewsConfig,
)
from training.config.flow import FlowConfig, FlowModelConfig, FlowTrainConfig
from training.config.generator import (
    GeneratorConfig,
    GeneratorLossConfig,
    GeneratorOpponentConfig,
    GeneratorTrainConfig,
)
from training.config.reading import PRESETS, STAGES, AnyConfig, load, parse, path_of, recorded
from training.config.vae import Config, LossConfig, ModelConfig, OpponentConfig, TrainConfig

__all__ = [
    "DEFAULT_ATTRIBUTES",
    "PRESETS",
    "STAGES",
    "AdversarialTrainConfig",
    "AnyConfig",
    "AttributeConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "EditorConfig",
    "EditorDataConfig",
    "EditorLossConfig",
    "EditorModelConfig",
    "EditorOpponentConfig",
    "FeatureOpponentConfig",
    "FlowConfig",
    "FlowModelConfig",
    "FlowTrainConfig",
    "GeneratorConfig",
    "GeneratorLossConfig",
    "GeneratorOpponentConfig",
    "GeneratorTrainConfig",
    "LossConfig",
    "ModelConfig",
    "OpponentConfig",
    "RequestsConfig",
    "TrainConfig",
    "ViewsConfig",
    "load",
    "parse",
    "path_of",
    "recorded",
]
