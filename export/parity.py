"""Torch against ONNX Runtime, on every output, at several batch sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from service.bundle.manifest import Parity
from service.inference.session import open_session

# Sums in another order differ by a few units in the last place; a picture may round to the neighbouring level.
TOLERANCE = {
    "mean": 2e-3,
    "log_variance": 2e-3,
    "attribute_estimates": 2e-3,
    "image": 1.0,
    "mask": 1e-3,
    "gain": 1e-3,
    "residual": 1e-3,
    "flow": 1e-4,
    "latent": 5e-3,
}


class ParityError(ValueError):
    """An exported graph that does not compute what torch computes; the message names output and difference."""


class OnnxGraph:
    """The graph at `path` on the CPU, opened once for any number of runs."""

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: dict[str, np.ndarray], batch: int | None = None) -> dict[str, np.ndarray]:
        """Every output for all N rows of the inputs, `batch` rows at a time; all at once if None."""
        count = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, count, batch or count):
            rows = {name: array[start : start + (batch or count)] for name, array in inputs.items()}
            parts.append(self._session.run(self._outputs, rows))
        return {name: np.concatenate(arrays) for name, *arrays in zip(self._outputs, *parts, strict=True)}


@torch.no_grad()
def check(module: nn.Module, path: Path, make_inputs, outputs: list[str], batches: list[int]) -> Parity:
    """Compare `module` with the graph at `path`; `make_inputs(n)` gives a dictionary of n-row tensors.

    Raises ParityError when an output's largest absolute difference exceeds its tolerance, or is not finite.
    """
    worst, graph = dict.fromkeys(outputs, 0.0), OnnxGraph(path)
    for batch in batches:
        inputs = make_inputs(batch)
        expected = module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = graph.run({name: tensor.numpy() for name, tensor in inputs.items()})
        for name, tensor in zip(outputs, expected, strict=True):
            reference = tensor.numpy()
            if found[name].shape != reference.shape or found[name].dtype != reference.dtype:
                raise ParityError(
                    f"{path.name}: {name} is {found[name].dtype}{found[name].shape}, "
                    f"torch gives {reference.dtype}{reference.shape}"
                )
            error = float(np.abs(found[name].astype(np.float64) - reference.astype(np.float64)).max())
            if not error <= TOLERANCE[name]:
                raise ParityError(
                    f"{path.name}: {name} differs from torch by {error:.4g} at batch {batch}; "
                    f"allowed is {TOLERANCE[name]:g}"
                )
            worst[name] = max(worst[name], error)
    return Parity(batches=batches, tolerance={name: TOLERANCE[name] for name in outputs}, max_error=worst)
