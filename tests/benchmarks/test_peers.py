"""What peers serve: the same pictures as the service, with nothing but what their environments have."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facet
from benchmarks.peers.faces import ROOT, Faces
from benchmarks.workloads import photograph, portrait
from service.faces.detector import Detector
from service.faces.weights import WeightsError

BUNDLE = ROOT / "bundles" / "celeba128"
REQUIREMENTS = sorted((ROOT / "benchmarks" / "peers").glob("serve_*.txt"))
_IMPORTED = """
import json, sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import faces
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(roots - set(sys.stdlib_module_names) - {"faces", "service"})))
"""


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces(BUNDLE, threads=1)


@pytest.fixture(scope="module")
def client():
    with facet.Client.local(bundles=BUNDLE.parent, default_model=BUNDLE.name) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(client: facet.Client) -> list[bytes]:
    """Photographs with a generated face."""
    try:
        Detector(ROOT / "weights")
    except WeightsError as exc:
        pytest.skip(str(exc))
    face = client.generate({"Smiling": -1.0}, seed=5, format="png").image()
    return [photograph(face, *size) for size in ((640, 480), (512, 384))]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int16)


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The distributions of what benchmarks/peers/faces.py imports."""
    directory = str(ROOT / "benchmarks" / "peers")
    command = [sys.executable, "-c", _IMPORTED, directory]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)
    known = metadata.packages_distributions()
    return {folded(name) for module in found for name in known.get(module, [])[:1]}


def folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def with_dependencies(names: set[str]) -> set[str]:
    """All distributions that are installed for these; those that are not installed here are left out."""
    found, waiting = set(), {folded(name) for name in names}
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        needed = {folded(re.match(r"[\w.-]+", line)[0]) for line in lines if "extra ==" not in line}
        waiting |= needed - found
    return found


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_what_peers_import_is_among_their_requirements(path: Path, imported: set[str]):
    listed = {re.match(r"[\w.-]+", line)[0] for line in path.read_text().splitlines()}
    assert {"numpy", "pillow", "isal"} <= imported
    runtime = {"onnxruntime", "onnxruntime-gpu"}
    assert imported - with_dependencies(listed) - runtime == set()


def test_generated_faces_are_those_of_the_service(faces: Faces, client: facet.Client):
    (ours,) = faces.generate([({"Smiling": 1.0}, 3)])
    theirs = client.generate({"Smiling": 1.0}, seed=3, format="png").image()
    assert np.array_equal(pixels(ours), np.asarray(theirs.convert("RGB")))


def test_edits_of_framed_faces_are_those_of_the_service(faces: Faces, client: facet.Client):
    picture = portrait(1, 178, 218)
    (ours,) = faces.edit([(picture, {"Smiling": 1.0})])
    theirs = client.edit(picture, {"Smiling": 1.0}, output="face", format="png").image()
    difference = np.abs(pixels(ours) - np.asarray(theirs.convert("RGB"), dtype=np.int16))
    assert difference.max() <= 1


def test_edits_of_photographs_are_those_of_the_service(faces: Faces, client: facet.Client, pictures: list[bytes]):
    picture = pictures[0]
    before = pixels(picture)
    (ours,) = faces.photograph([(picture, {"Smiling": 1.0})])
    theirs = np.asarray(client.edit(picture, {"Smiling": 1.0}).image().convert("RGB"), dtype=np.int16)
    assert np.abs(theirs - before).mean() > 0.1
    assert np.abs(pixels(ours) - theirs).mean() < 0.02


def test_a_batch_gives_what_its_requests_give_alone(faces: Faces, pictures: list[bytes]):
    items = [(picture, {"Smiling": 1.0}) for picture in pictures]
    together = faces.photograph(items)
    for item, found in zip(items, together, strict=True):
        (alone,) = faces.photograph([item])
        assert np.abs(pixels(found) - pixels(alone)).mean() < 0.02
