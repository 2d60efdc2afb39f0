import numpy as np
import pytest

from service.bundle import loader
from tests.service import fakes
from training.config import ConfigError
from training.vae import figures


class Flat:
    """Graphs whose faces show the first attribute as a level of grey, and which model drew them."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    learned = None

    def decode(self, latent, attributes):
        levels = (100 + 50 * attributes[:, 0] + self.offset).clip(0, 255).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (len(levels), 8, 8, 3)).copy()


def bundle_named(directory, name):
    fakes.write_bundle(directory / name)
    return loader.load(directory / name)


def test_operating_points_show_the_same_attributes_in_each_row(tmp_path):
    one, other = (bundle_named(tmp_path, name) for name in ("balanced", "beta4"))
    sheet = np.asarray(figures.operating_points([(Flat(0), one), (Flat(40), other)], seed=3, columns=4))
    top, bottom = sheet.shape[0] - 24, sheet.shape[0] - 8  # the middle of either row, 16 pixels high
    columns = [sheet.shape[1] - 64 + 16 * column + 8 for column in range(4)]
    for x in columns:
        assert int(sheet[bottom, x, 0]) - int(sheet[top, x, 0]) == 40
    assert len({int(sheet[top, x, 0]) for x in columns}) > 1


def test_models_with_other_attributes_cannot_stand_side_by_side(tmp_path):
    one, other = (bundle_named(tmp_path, name) for name in ("balanced", "beta4"))
    fakes.rewrite_manifest(tmp_path / "beta4", lambda values: values["attributes"][0].update(name="Grinning"))
    with pytest.raises(ConfigError, match="beta4 has other attributes or another frame than balanced"):
        figures.operating_points([(Flat(0), one), (Flat(0), loader.load(tmp_path / "beta4"))], seed=3)
    assert other.manifest.attribute_names[0] != "Grinning"
