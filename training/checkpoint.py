"""Checkpoints: everything a run needs to go on, or an export needs to be made, in one file written atomically.

A checkpoint carries a sha256 of its own content. Whatever differs from it, holds a value that is not finite, or does
not fit the network that it is for, is refused. Checkpoints from before there was a sha256 are read without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from service import system
from training.config import Config, ConfigError, EditorConfig, FlowConfig, recorded
from training.editor.model import Editor
from training.flow.model import FlowPrior
from training.vae.model import ConditionalVAE

FORMAT = 1
_FACTS = ("epochs", "data_sha256", "command")  # what a bundle's manifest says of a run
_NEED_NOT_BE_FINITE = {"best_score"}  # infinite before the first validation


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the rule."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that `path` always holds a whole checkpoint, the old one or the new one.

    Raises OSError that names `path` where it cannot be written, as on a full disk. One process at a time may write it.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed in the middle
        leftover.unlink(missing_ok=True)
    state = {"format": FORMAT, **state}
    try:
        with system.atomic_write(path) as file:
            torch.save({**state, "sha256": sha256(state)}, file)
    except (OSError, RuntimeError) as exc:
        cause = exc if isinstance(exc, OSError) else exc.__context__  # torch's writer hides what the disk said
        if not isinstance(cause, OSError) or cause.errno is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from exc


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, tensors and plain values only. Raises CheckpointError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path}: no such checkpoint") from exc
    except Exception as exc:  # zip, pickle and EOF errors, depending on the damage
        raise CheckpointError(f"{path}: not a readable checkpoint") from exc
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of format {FORMAT}")
    expected = state.pop("sha256", None)
    if expected is not None and (found := sha256(state)) != expected:
        raise CheckpointError(f"{path}: the file was changed or damaged: its sha256 is {found}, it says {expected}")
    if bad := not_finite(state):
        raise CheckpointError(f"{path}: {bad[0]} holds values that are not finite")
    return state


def sha256(content: Any) -> str:
    """Hex digest of tensors and plain values in dictionaries and lists, whatever file they lie in."""
    digest = hashlib.sha256()
    _add(digest, content)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping | list | tuple):
        digest.update(f"{len(value)}".encode())
        for part in value.items() if isinstance(value, Mapping) else value:
            _add(digest, part)
    else:
        digest.update(f"{value!r},".encode())


def not_finite(content: Any, name: str = "") -> list[str]:
    """The names of tensors and numbers that are infinite or no number, as dotted paths."""
    if isinstance(content, Tensor):
        return [] if content.isfinite().all() else [name]
    if isinstance(content, float):
        return [] if math.isfinite(content) or name in _NEED_NOT_BE_FINITE else [name]
    if isinstance(content, Mapping | list | tuple):
        parts = content.items() if isinstance(content, Mapping) else enumerate(content)
        return [bad for key, part in parts for bad in not_finite(part, f"{name}.{key}" if name else str(key))]
    return []


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn what a checkpoint with missing or wrong parts raises into a CheckpointError that names the file."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        what = f"has no {exc.args[0]!r}" if isinstance(exc, KeyError) else str(exc)
        raise CheckpointError(f"{path}: cannot be used: {what}") from exc


def load_weights(module: nn.Module, state: Mapping[str, Any], part: str, path: Path) -> None:
    """Set a module's weights to `state[part]`.

    Raises CheckpointError that names the first tensor that is missing, unknown or of another shape.
    """
    with damaged(path):
        found, own = state[part], module.state_dict()
        for name, value in own.items():
            if name not in found:
                raise ValueError(f"{part}.{name} is missing")
            if not isinstance(found[name], Tensor):
                raise ValueError(f"{part}.{name} is no tensor")
            if found[name].shape != value.shape:
                shapes = f"{tuple(found[name].shape)}; the network has {tuple(value.shape)}"
                raise ValueError(f"{part}.{name} has the shape {shapes}")
        if unknown := [name for name in found if name not in own]:
            raise ValueError(f"{part}.{unknown[0]} is not part of the network")
        module.load_state_dict(found)


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any], part: str, path: Path) -> None:
    """Set an optimiser's state to `state[part]`. Raises CheckpointError where it is of other parameters."""
    with damaged(path):
        optimiser.load_state_dict(state[part])
        for parameter, values in optimiser.state.items():
            for name, value in values.items():
                if name != "step" and value.shape != parameter.shape:
                    raise ValueError(f"{part}: {name} has the shape {tuple(value.shape)} of other parameters")


def config_of(state: dict[str, Any], path: Path) -> Config | EditorConfig:
    """The configuration that the checkpoint carries. Raises CheckpointError."""
    try:
        return recorded(state["config"])
    except KeyError as exc:
        raise CheckpointError(f"{path}: cannot be used: has no {exc.args[0]!r}") from exc
    except (AttributeError, ConfigError) as exc:
        raise CheckpointError(f"{path}: its configuration cannot be used: {exc}") from exc


def load_stage(path: Path, stage: str) -> tuple[dict[str, Any], Any]:
    """The state of a checkpoint of that stage, and its configuration. Raises CheckpointError."""
    state = load(path)
    config = config_of(state, path)
    if config.stage != stage:
        raise CheckpointError(f"{path}: is a checkpoint of the stage {config.stage!r}, expected {stage!r}")
    return state, config


def load_run(path: Path, stage: str) -> tuple[dict[str, Any], Any]:
    """As `load_stage`; it also says of its run what a bundle's manifest does."""
    state, config = load_stage(path, stage)
    if missing := [name for name in _FACTS if name not in state]:
        raise CheckpointError(f"{path}: cannot be used: has no {missing[0]!r}")
    return state, config


def load_model(path: Path) -> tuple[ConditionalVAE, Config, dict[str, Any]]:
    """The averaged (EMA) model of a checkpoint in evaluation mode, its configuration, and the whole state."""
    return _load_averaged(path, "vae", ConditionalVAE)


def load_editor(path: Path) -> tuple[Editor, EditorConfig, dict[str, Any]]:
    """The averaged (EMA) editor of a checkpoint in evaluation mode, its configuration, and the whole state."""
    return _load_averaged(path, "editor", Editor)


def load_prior(path: Path, latent_size: int) -> tuple[FlowPrior, FlowConfig, dict[str, Any]]:
    """The averaged (EMA) learned prior of a checkpoint in evaluation mode, its configuration, and the whole state.

    Raises CheckpointError where it is not of latents of that size.
    """
    state, config = load_run(path, "prior")
    prior = FlowPrior(config.model, latent_size, len(config.data.attributes))
    with damaged(path):
        found = len(state["ema"]["mean"])
    if found != latent_size:
        raise CheckpointError(f"{path}: is a prior of {found} values, the latent has {latent_size}")
    load_weights(prior, state, "ema", path)
    return prior.eval(), config, state


def _load_averaged(path: Path, stage: str, network: type[nn.Module]) -> tuple[Any, Any, dict[str, Any]]:
    state, config = load_run(path, stage)
    model = network(config.model, config.data.image_size, len(config.data.attributes))
    load_weights(model, state, "ema", path)
    return model.eval().to(memory_format=torch.channels_last), config, state
