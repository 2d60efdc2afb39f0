"""The real pictures that edited ones are compared with, and their features, which are computed once and kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from service.imaging import codecs
from training import networks
from training.data.cache import kept
from training.data.dataset import MAX_PIXELS, Pictures
from training.evaluation import realism
from training.evaluation.inception import SIZE, Features
from training.evaluation.realism import Real

_BATCH = 32


def gather(
    parts: list[tuple[Pictures, np.ndarray]], names: list[str], features: Features, box: codecs.Box, cache: Path
) -> Real:
    """Features of real pictures, those of the first of `parts` before those of the next, each part in random order.

    A part is pictures and their labels int8 [N, K]. Only pictures of the first part's own file format are taken, since
    another codec's traces would count as a difference. The `box` of each picture is shown to the network.
    """
    kind = Path(parts[0][0].location(0)).suffix
    rng = np.random.default_rng(0)
    listed = [
        (pictures, row, labels[row])
        for pictures, labels in parts
        for row in rng.permutation(len(pictures)).tolist()
        if Path(pictures.location(row)).suffix == kind
    ]
    labels = np.stack([shown for _, _, shown in listed])
    needed = realism.references(labels, names)
    chosen = [listed[row] for row in needed]

    def fill(array: np.ndarray) -> None:
        for start in tqdm(range(0, len(chosen), _BATCH), unit="batch", desc="features of real pictures"):
            batch = np.stack(
                [_framed(pictures.encoded(row), box) for pictures, row, _ in chosen[start : start + _BATCH]]
            )
            array[start : start + len(batch)] = features(batch).view(np.uint8)

    facts = [
        networks.INCEPTION_V3.sha256,
        SIZE,
        list(box),
        [pictures.fingerprint() for pictures, _ in parts],
        needed.tolist(),
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    found = kept(cache, f"inception-{key}", (len(chosen), 4 * features.size), fill)
    return Real(np.asarray(found).view(np.float32), labels[needed], names)


def _framed(data: bytes, box: codecs.Box) -> np.ndarray:
    image: Image.Image = codecs.decode(data, MAX_PIXELS)
    return codecs.crop_resize(image, box, SIZE)
