"""A runtime that computes something else than export did is found out before it serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError
from service.inference import golden
from tests.fake_runtime import FakeRuntime
from tests.service import fakes


@pytest.fixture
def bundle(bundle_directory: Path) -> Bundle:
    return loader.load(bundle_directory)


def decode_of(bundle: Bundle, off_by: int = 0):
    runtime = FakeRuntime(bundle.manifest)

    def decode(latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        faces = runtime.decoder({"latent": latent, "attributes": attributes})["image"]
        return (faces.astype(int) + off_by).clip(0, 255).astype(np.uint8)

    return decode


def test_its_own_samples_pass(bundle: Bundle):
    golden.check(bundle, decode_of(bundle))


def test_rounding_differently_passes_and_drawing_differently_does_not(bundle: Bundle):
    golden.check(bundle, decode_of(bundle, off_by=1))
    with pytest.raises(BundleError, match=r"samples\.png: the graphs draw other faces: mean deviation \d"):
        golden.check(bundle, decode_of(bundle, off_by=20))


def test_the_max_deviation_from_golden_samples_is_logged(bundle: Bundle, caplog):
    caplog.set_level("INFO")
    golden.check(bundle, decode_of(bundle, off_by=1))
    assert f"{bundle.identity}: max deviation from golden samples in samples.png: 1 levels, " in caplog.text


def test_a_sheet_of_another_size_is_refused(bundle: Bundle):
    bundle.path(golden.FILE).write_bytes(fakes.grey(100, (20, 10)))
    with pytest.raises(BundleError, match="is 20 x 10 pixels; the graphs draw 64 x 32"):
        golden.check(bundle, decode_of(bundle))


def test_what_is_no_picture_is_refused(bundle: Bundle):
    bundle.path(golden.FILE).write_bytes(b"not a picture")
    with pytest.raises(BundleError, match="cannot be read as a picture"):
        golden.check(bundle, decode_of(bundle))
