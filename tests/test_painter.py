"""The painter's readers must read what it painted, or the tests that rely on them mean nothing."""

import numpy as np

from service.imaging import codecs
from tests import painter


def test_readers_recover_every_painted_attribute():
    rng = np.random.default_rng(9)
    wrong = []
    for _ in range(300):
        present = painter.random_attributes(rng)
        face = codecs.crop_resize(painter.paint(present, rng), painter.CROP, 32)
        wrong += [name for name, value in painter.read(face).items() if value != present[name]]
    assert wrong == []
