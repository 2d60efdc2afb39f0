import numpy as np
import pytest
import torch

from tests import painter
from training import checkpoint, config, judge, metrics
from training.data import dataset

DATA = config.DataConfig(image_size=96, crop_box=(0, 20, 178, 198), margin=2)


def test_the_checkpoint_carries_framing_and_thresholds(tmp_path):
    torch.manual_seed(0)
    one = judge.Judge(["Bald", "Smiling"], 96, DATA).eval()
    one.thresholds[:] = [-1.5, 0.25]
    judge.save_judge(one, tmp_path / "judge.pt", {"seed": 3})
    again, facts = judge.load_judge(tmp_path / "judge.pt")
    assert facts == {"seed": 3}
    assert again.data == DATA
    assert again.thresholds.tolist() == [-1.5, 0.25]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    np.testing.assert_allclose(again.predict(pixels)[0], one.predict(pixels)[0], atol=1e-5)


def test_a_checkpoint_from_before_thresholds_still_loads(tmp_path):
    small = judge.Judge(["Bald"], 32)
    state = {"judge": small.state_dict(), "attributes": ["Bald"], "image_size": 32, "facts": {}}
    checkpoint.save(tmp_path / "old.pt", state)
    again, _ = judge.load_judge(tmp_path / "old.pt")
    assert again.data is None
    assert again.thresholds.tolist() == [0]


def test_rare_values_weigh_as_much_as_common_ones_up_to_a_limit():
    present = np.zeros((100, 2), dtype=np.float32)
    present[:20, 0] = 1
    present[0, 1] = 1
    weights = judge.value_weights(present, largest=10)
    assert weights[:20, 0].sum() == pytest.approx(weights[20:, 0].sum())
    assert weights[0, 1] == 10  # and not 50
    assert judge.value_weights(present, largest=0).min() == judge.value_weights(present, largest=0).max() == 1


def test_thresholds_are_set_where_both_errors_are_equal(monkeypatch):
    one = judge.Judge(["Bald", "Smiling"], 32, DATA)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((1000, 2)) < [0.1, 1.0], 1, -1)  # everybody smiles
    logits = rng.standard_normal((1000, 2)) + labels - 2
    monkeypatch.setattr(one, "predict", lambda pixels: (logits, None))
    found = judge.assess(one, np.zeros((1000, 1, 1, 3), dtype=np.uint8), labels)
    assert list(found) == ["Bald"]
    assert one.thresholds[0] == pytest.approx(-2, abs=0.4)
    assert one.thresholds[1] == 0
    present, seen = labels[:, 0] > 0, logits[:, 0] > one.thresholds[0]
    assert (~seen[present]).mean() == pytest.approx(seen[~present].mean(), abs=0.02)
    assert found["Bald"]["balanced_accuracy"] == pytest.approx(0.84, abs=0.04)
    assert found["Bald"]["auc"] == metrics.auc(logits[:, 0], present)


def test_recolouring_changes_some_pictures_colour_detail_and_no_shape():
    torch.manual_seed(0)
    batch = torch.rand(64, 3, 8, 8) * 2 - 1
    changed = judge._recoloured(batch.clone(), np.random.default_rng(0))
    assert changed.shape == batch.shape
    grey = (changed.std(1).amax((1, 2)) < 1e-5).sum()
    assert 1 <= grey <= 20
    assert not torch.equal(changed, batch)


def test_a_balanced_judge_learns_a_rare_attribute():
    """One face in twelve has a bright spot; the unbalanced loss alone would be small without ever telling."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((384, 1)) < 1 / 12, 1, -1).astype(np.int8)
    pixels = rng.integers(0, 100, (384, 36, 36, 3), dtype=np.uint8)
    pixels[labels[:, 0] > 0, 10:26, 10:26] += 120
    index = dataset.FaceIndex("", [""] * 384, ["Bald"], labels, np.full(384, -1))
    data = config.DataConfig(attributes=["Bald"], image_size=32, margin=2)
    one = judge.train_judge(index, pixels, data, 1, 4, torch.device("cpu"), batch_size=32, balance=10)
    quality = judge.assess(one, dataset.without_margin(pixels, 32), labels)
    assert quality["Bald"]["auc"] > 0.99
    assert quality["Bald"]["balanced_accuracy"] > 0.95


@pytest.mark.parametrize("epochs", [1, 4, 5, 6])
def test_few_steps_and_few_pictures_are_no_error(tmp_path, epochs):
    data = painter.write_dataset(tmp_path, train=12, validation=2)
    settings = config.load("tests/training/tiny.toml").data
    index = dataset.read_index(data, settings.attributes, "train")
    pixels = dataset.load_pixels(index, settings, tmp_path / "cache", 1)
    trained = judge.train_judge(index, pixels, settings, 1, epochs, torch.device("cpu"))  # batches of 128 by default
    assert all(value.isfinite().all() for value in trained.state_dict().values())
