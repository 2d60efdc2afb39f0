"""Begin with the weights of another run, or of a bundle, wherever names and shapes agree.

A bundle's graphs name their initialisers after the parameters (export/graphs.py); those that are stored in half
precision have the suffix "_fp16". Group norms of older bundles have no names and are known by their order.

Columns of attributes are matched by the attributes' names, so that the two may have others, or others besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from service.bundle import loader
from service.bundle.manifest import EDITOR, GRAPHS, LEARNED_PRIOR, BundleError
from training import checkpoint
from training.checkpoint import CheckpointError
from training.config import AnyConfig, ConfigError, recorded

# The graphs that hold a stage's networks, the prefix of their parameters, and the manifest's entry on the training.
_GRAPHS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "vae": (GRAPHS, "model.", "training"),
    "generator": (GRAPHS, "model.", "training"),
    "editor": ((EDITOR,), "editor.", "editor_training"),
    "prior": ((LEARNED_PRIOR,), "prior.", "prior_training"),
}
_HALF = "_fp16"
# What parameters of the first bundles were called.
_FORMER_NAMES = (
    (re.compile(r"^decoder\.(waist|detail)\."), r"decoder.output.\1."),
    (re.compile(r"^decoder\.output\.(weight|bias)$"), r"decoder.output.colours.\1"),
)
# Parameters with an axis of attributes, which are the last along it.
_ATTRIBUTE_AXES = (
    (re.compile(r"(^|\.)gain$|head\.2\.(weight|bias)$"), 0),
    (re.compile(r"(^|\.)(condition\.0|prior|shift|projection)\.weight$"), 1),
)


@dataclass(frozen=True)
class Weights:
    """The weights that a run may begin with, by part ("model", "ema", "opponent") and parameter.

    `attributes` are those that the model knows, `labels` those that its opponent knows.
    """

    parts: Mapping[str, Mapping[str, Tensor]]
    attributes: list[str]
    labels: list[str]


def read(path: Path, stage: str, network: nn.Module) -> Weights:
    """Those of a checkpoint of a stage, or of a bundle's directory, of which `network` tells the structure.

    Raises CheckpointError, and BundleError.
    """
    if path.is_dir():
        return _of_bundle(path, stage, network)
    state, saved = checkpoint.load_stage(path, stage)
    parts = {name: state[name] for name in ("model", "ema", "opponent") if name in state}
    if not parts:
        raise CheckpointError(f"{path}: holds no weights")
    if "ema" in parts:  # all that calibrated checkpoints have
        parts.setdefault("model", parts["ema"])
    for part, weights in parts.items():
        with checkpoint.damaged(path):
            if bad := [name for name, value in weights.items() if not isinstance(value, Tensor)]:
                raise ValueError(f"{part}.{bad[0]} is no tensor")
    return Weights(parts, saved.data.attributes, saved.data.labels)


def check(path: Path, stage: str) -> None:
    """Raises CheckpointError or BundleError where no run of the stage can begin with what is there."""
    if path.is_dir():
        config_of_bundle(path, stage)
    else:
        checkpoint.load_stage(path, stage)


def _of_bundle(directory: Path, stage: str, network: nn.Module) -> Weights:
    bundle = loader.load(directory)
    graphs, prefix, entry = _GRAPHS[stage]
    missing = [name for name in graphs if name not in bundle.manifest.files]
    training = getattr(bundle.manifest, entry, None)
    if missing or training is None:
        raise BundleError(
            directory, f"has no {missing[0] if missing else entry}, which the stage {stage!r} begins with"
        )
    found: dict[str, Tensor] = {}
    for name in graphs:
        found |= parameters(onnx.load(bundle.path(name)), prefix, network)
    names = bundle.manifest.attribute_names
    return Weights({"model": found, "ema": found}, names, names)


def config_of_bundle(directory: Path, stage: str) -> AnyConfig:
    """The configuration with which a stage of a bundle was trained. Raises BundleError."""
    training = getattr(loader.read_manifest(directory), _GRAPHS[stage][2], None)
    if training is None:
        raise BundleError(directory, f"was made without the stage {stage!r}")
    try:
        return recorded(training.config)
    except ConfigError as exc:
        raise BundleError(directory, f"{_GRAPHS[stage][2]}.config: {exc}") from exc


def parameters(graph: onnx.ModelProto, prefix: str, network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers f32 of an exported network, by name, as far as the graph holds them."""
    own, found = network.state_dict(), {}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for name, value in values.items():
        parameter = name.removesuffix(_HALF).removeprefix(prefix)
        for former, now in _FORMER_NAMES:
            parameter = former.sub(now, parameter)
        if name.startswith(prefix) and parameter in own:
            found[parameter] = torch.from_numpy(value.astype(np.float32))
    for name, value in found.items():
        if value.ndim == 3 and own[name].ndim == 1:  # a norm's are broadcast over the picture
            found[name] = value.flatten()
    return dict(_norms_in_order(graph, values, network)) | found


def _norms_in_order(
    graph: onnx.ModelProto, values: dict[str, np.ndarray], network: nn.Module
) -> Iterator[tuple[str, Tensor]]:
    """Scales and shifts of group norms that a graph does not name, where it has as many as some part of the network."""
    used = [
        values[name]
        for node in graph.graph.node
        if node.op_type in ("Mul", "Add")
        for name in (each if each in values else f"{each}{_HALF}" for each in node.input)
        if name in values and values[name].ndim == 3 and values[name].shape[1:] == (1, 1)
    ]
    for part in (network, *network.children()):
        prefix = "" if part is network else next(name for name, child in network.named_children() if child is part)
        norms = [(name, module) for name, module in part.named_modules() if isinstance(module, nn.GroupNorm)]
        expected = [(norm.num_channels, 1, 1) for _, norm in norms for _ in range(2)]
        if expected and [value.shape for value in used] == expected:
            for (name, norm), scale, shift in zip(norms, used[::2], used[1::2], strict=True):
                if norm.affine:
                    path = f"{prefix}.{name}" if prefix else name
                    yield f"{path}.weight", torch.from_numpy(scale.astype(np.float32)).flatten()
                    yield f"{path}.bias", torch.from_numpy(shift.astype(np.float32)).flatten()
            return


def fitted(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], names: list[str], given_names: list[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """`own` with what `given` has for it, and the names of what it has nothing for.

    `names` and `given_names` are the attributes of the two: their columns are matched by name, and those of attributes
    that are new stay as they are.
    """
    result, missing = dict(own), []
    for name, value in own.items():
        found = given.get(name)
        axis = attribute_axis(name)
        if found is None:
            missing.append(name)
        elif axis is None or names == given_names:
            if found.shape == value.shape:
                result[name] = found
            else:
                missing.append(name)
        else:
            columns = _columns(value, found, axis, names, given_names)
            if columns is None:
                missing.append(name)
            else:
                result[name] = columns
    return result, missing


def attribute_axis(name: str) -> int | None:
    """The axis along which a parameter has an entry for each attribute, after whatever else it has there."""
    return next((axis for pattern, axis in _ATTRIBUTE_AXES if pattern.search(name)), None)


def _columns(own: Tensor, given: Tensor, axis: int, names: list[str], given_names: list[str]) -> Tensor | None:
    """`own` with the entries of `given` for what is not an attribute, and for attributes of the same name."""
    own, given = own.clone().movedim(axis, 0), given.to(own.device).movedim(axis, 0)
    others = len(own) - len(names)
    if others != len(given) - len(given_names) or own.shape[1:] != given.shape[1:]:
        return None
    own[:others] = given[:others]
    for column, name in enumerate(names):
        if name in given_names:
            own[others + column] = given[others + given_names.index(name)]
    return own.movedim(0, axis)
