"""Checkpoints: everything a run needs to go on, or an export needs to be made, in one file written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.config import Config, ConfigError, EditorConfig, parse
from training.editor.model import Editor
from training.model import ConditionalVAE

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the rule."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that `path` always holds a whole checkpoint, the old one or the new one.

    Raises OSError that names `path` where it cannot be written, as on a full disk. One process at a time may write it.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed in the middle
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as exc:
        cause = exc if isinstance(exc, OSError) else exc.__context__  # torch's writer hides what the disk said
        if not isinstance(cause, OSError) or cause.errno is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from exc
    finally:
        temporary.unlink(missing_ok=True)


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
    return state


def config_of(state: dict[str, Any], path: Path) -> Config | EditorConfig:
    """The configuration that the checkpoint carries. Raises CheckpointError."""
    try:
        return parse(state["config"])
    except (KeyError, ConfigError) as exc:
        raise CheckpointError(f"{path}: its configuration cannot be used: {exc}") from exc


def load_model(path: Path) -> tuple[ConditionalVAE, Config, dict[str, Any]]:
    """The averaged (EMA) model of a checkpoint in evaluation mode, its configuration, and the whole state."""
    return _load_averaged(path, "vae", ConditionalVAE)


def load_editor(path: Path) -> tuple[Editor, EditorConfig, dict[str, Any]]:
    """The averaged (EMA) editor of a checkpoint in evaluation mode, its configuration, and the whole state."""
    return _load_averaged(path, "editor", Editor)


def _load_averaged(path: Path, stage: str, network: type[nn.Module]) -> tuple[Any, Any, dict[str, Any]]:
    state = load(path)
    config = config_of(state, path)
    if config.stage != stage:
        raise CheckpointError(f"{path}: is a checkpoint of the stage {config.stage!r}, expected {stage!r}")
    model = network(config.model, config.data.image_size, len(config.data.attributes))
    model.load_state_dict(state["ema"])
    return model.eval().to(memory_format=torch.channels_last), config, state
