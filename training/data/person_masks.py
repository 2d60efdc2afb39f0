"""Where a picture shows the person, and where what is behind; made once with MediaPipe's selfie segmentation and kept.

The network (Apache-2.0, see `training.networks`) sees the whole aligned picture. Its answer is then framed as
`dataset.load_pixels` frames the picture, so that pixels and mask lie on each other.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from service.imaging import codecs
from service.inference.session import open_session
from training import networks, tflite
from training.config import DataConfig
from training.data import dataset
from training.data.cache import kept
from training.data.dataset import Pictures

PREFIX = "persons-"  # of the masks' names in the cache
_SIDE = 256  # of the network's input and output
_VERSION = 1  # of how masks are made: another one makes all anew


class Segmenter:
    """The network on one core; `__call__` may run in several threads at once."""

    def __init__(self, network: bytes) -> None:
        """`network` is the TensorFlow Lite file."""
        self._session = open_session(tflite.to_onnx(network).SerializeToString(), threads=1)

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """The probability that a pixel is the person, f32 [256, 256] in 0..1, stretched over the whole RGB picture."""
        resized = codecs.resample(picture, (0, 0, *picture.size), (_SIDE, _SIDE))
        (answer,) = self._session.run(None, {"image": resized[None].astype(np.float32) / 255})
        return answer[0, :, :, 0]


def load_masks(
    pictures: Pictures, config: DataConfig, cache: Path, margin: int = 0, directory: Path = networks.DIRECTORY
) -> np.ndarray:
    """Masks uint8 [N, M, M], 255 for the person, memory-mapped from `cache`; M = S / 2 + margin.

    They cover what `dataset.load_pixels` shows with the same `margin`, at half the resolution: mask pixel (y, x) is
    the person's share of the pixels (2y..2y+1, 2x..2x+1) there. Like these, the mask goes on with its border's values
    where the frame leaves the picture. Raises DatasetError that names each picture that cannot be decoded, NetworkError
    if the network is not in `directory`, and CacheError for a cache that cannot be written.
    """
    box, side = dataset.frame_of(config, margin)
    side //= 2  # even: image_size is

    def fill(masks: np.ndarray) -> None:
        segmenter = Segmenter(networks.SELFIE_SEGMENTATION.load(directory))

        def one(row: int, data: bytes) -> None:
            masks[row] = framed(segmenter(dataset.aligned(data, config)), config, box, side)

        dataset.each_picture(pictures, "person masks", one)

    return kept(cache, *cached_as(pictures, config, margin), fill)


def cached_as(pictures: Pictures, config: DataConfig, margin: int) -> tuple[str, tuple[int, ...]]:
    """The name and the shape under which `load_masks` keeps them."""
    side = dataset.frame_of(config, margin)[1] // 2
    network = networks.SELFIE_SEGMENTATION.sha256
    facts = [_VERSION, network, pictures.fingerprint(), config.aligned_size, config.crop_box, side, margin]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return f"{PREFIX}{side}-{key}", (len(pictures), side, side)


def framed(probability: np.ndarray, config: DataConfig, box: codecs.Box, side: int) -> np.ndarray:
    """`box` of the aligned picture, cut out of a mask f32 [256, 256] in 0..1 that is stretched over all of it.

    Returns uint8 [side, side].
    """
    width, height = config.aligned_size
    left, top, right, bottom = box
    stretched = (left * _SIDE / width, top * _SIDE / height, right * _SIDE / width, bottom * _SIDE / height)
    levels = np.rint(probability * 255).astype(np.uint8)
    # As a grey picture, so that it is resampled and continued at its borders by the same code as the pictures are.
    return codecs.crop_resize(Image.fromarray(levels).convert("RGB"), stretched, side)[:, :, 0]
