"""Whether a face is still the same person."""

from __future__ import annotations

import numpy as np
import pytest

from tests import painter
from training.evaluation.identity import Identity, IdentityUnavailableError, same_person


def test_a_face_is_its_own_by_dlib():
    try:
        identity = Identity()
    except IdentityUnavailableError as exc:
        pytest.skip(str(exc))
    rng = np.random.default_rng(3)
    pixels = np.stack([np.asarray(painter.paint(painter.random_attributes(rng), rng)) for _ in range(2)])
    described = identity(pixels)
    assert described.shape == (2, 128)
    assert same_person(described, identity(pixels)).all()
