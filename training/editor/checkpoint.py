"""The editor out of a checkpoint of its stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training import checkpoint
from training.config import EditorConfig
from training.editor.model import Editor


def load_editor(path: Path) -> tuple[Editor, EditorConfig, dict[str, Any]]:
    """The averaged (EMA) editor in evaluation mode, its configuration, and the whole state. Raises CheckpointError."""
    state = checkpoint.load(path)
    config = checkpoint.config_of(state, path)
    if not isinstance(config, EditorConfig):
        raise checkpoint.CheckpointError(f"{path}: is a checkpoint of the stage {config.stage!r}, expected 'editor'")
    editor = Editor(config.model, config.data.image_size, len(config.data.attributes))
    editor.load_state_dict(state["ema"])
    return editor.eval().to(memory_format=torch.channels_last), config, state
