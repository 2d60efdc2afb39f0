"""Photographs without colours stay without."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.inference.onnx import Arrays
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.api.editor.conftest import edit, frames, noise, sweep
from tests.service.fakes import TestClient, encoded

GREYS = ["1", "L", "LA", "I;16", "RGB", "RGBA"]


def grey_picture(mode: str) -> bytes:
    """A PNG without colours."""
    levels = Image.fromarray(noise()[:, :, 0])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(levels).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = levels.convert(mode[:-1])
        image.putalpha(77)
    else:
        image = levels.convert(mode)
    assert image.mode == mode
    return encoded(image, "PNG")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("mode", GREYS)
@pytest.mark.parametrize("with_editor", [True, False])
def test_a_grey_photograph_stays_grey_and_keeps_its_mode(
    settings: Settings, tmp_path: Path, mode: str, with_editor: bool
):
    class Colourful(FakeRuntime):
        """Red faces."""

        def editor(self, inputs: Arrays) -> Arrays:
            outputs = super().editor(inputs)
            return outputs | {"residual": outputs["residual"] * np.array([2, 0, -1], dtype=np.float32)}

        def decoder(self, inputs: Arrays) -> Arrays:
            drawn = super().decoder(inputs)["image"].astype(float) * np.array([1.0, 0.6, 0.4])
            return {"image": drawn.round().astype(np.uint8)}

    directory = tmp_path / f"{mode}{with_editor}".replace(";", "") / "tiny"
    manifest = fakes.write_bundle(directory, schema=2, editor=with_editor)
    fakes.draw_samples(directory, manifest, Colourful(manifest))
    with fakes.serving(settings.model_copy(update={"bundles": directory.parent}), Colourful) as client:
        before = opened(grey_picture(mode))
        after = opened(edit(client, grey_picture(mode), attributes={"Smiling": -1}).content)
        assert after.mode == {"1": "L", "I;16": "L"}.get(mode, mode)
        if "A" in mode:
            assert after.getpixel((5, 5))[-1] == 77
        found = np.asarray(after.convert("RGB"))
        assert (found == found[:, :, :1]).all()
        middle = found[100:118, 80:98, 0].astype(int)
        source = (
            np.asarray(before).astype(int) // 257 if mode == "I;16" else np.asarray(before.convert("L")).astype(int)
        )
        assert (middle != source[100:118, 80:98]).any()
        assert np.array_equal(found[:30, :, 0], source[:30])
        swept = frames(sweep(client, grey_picture(mode), layout="frames", steps=2, size=218, target=-1))
        assert all(frame.ndim == (3 if mode.startswith("RGB") else 2) for frame in swept)
        if mode.startswith("RGB"):
            assert (swept[1] == swept[1][:, :, :1]).all()


def test_a_photograph_with_one_coloured_pixel_is_none_without_colours(client: TestClient):
    picture = np.repeat(noise()[:, :, :1], 3, axis=2)
    picture[201, 33] = (9, 10, 10)
    response = edit(client, encoded(Image.fromarray(picture), "PNG"), attributes={"Smiling": 1})
    assert opened(response.content).getpixel((33, 201)) == (9, 10, 10)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats_have_greys_as_far_as_they_know_them(client: TestClient, kind: str):
    response = edit(client, grey_picture("L"), {"Accept": f"image/{kind}"}, attributes={"Smiling": 1})
    assert opened(response.content).mode == ("L" if kind == "jpeg" else "RGB")
