"""What several tests of formats need."""

from __future__ import annotations

import pytest
from PIL import ImageFile, TiffImagePlugin


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pixel is decoded: what is refused costs nothing."""
    for parser in (ImageFile.ImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(parser, "load", lambda *_: pytest.fail("pixels were decoded"))
