"""What `fit` writes for TensorBoard."""

import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import painter
from tests.training.trainers import make_trainer
from training import trainer as trainers
from training.scalars import Interval


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)
    return root, tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch):
    monkeypatch.setattr(trainers, "REPORT_EVERY", 3)


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """By name and step, of all files of a run together, as TensorBoard shows them."""
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {name: {e.step: e.value for e in found.Scalars(name)} for name in found.Tags()["scalars"]}


def recorded(trainer):
    """Let the trainer note what each step lost."""
    losses, step = [], trainer.train_step

    def noting():
        losses.append(step())
        return losses[-1]

    trainer.train_step = noting
    return losses


def test_a_scalar_is_the_mean_of_the_steps_since_the_last(faces, tmp_path):
    trainer = make_trainer(*faces, tmp_path, "train.epochs=1", "train.warmup_steps=2")
    losses = recorded(trainer)
    assert trainer.fit()
    found = scalars(tmp_path)
    assert set(found["train/mse"]) == {3, 4}  # every third step, and the last
    assert found["train/mse"][3] == pytest.approx(float(torch.stack([one["mse"] for one in losses[:3]]).mean()))
    assert found["train/mse"][4] == pytest.approx(float(losses[3]["mse"]))
    for name in ("gradient_norm", "opponent_gradient_norm"):
        assert found[f"train/{name}"][3] == pytest.approx(float(torch.stack([one[name] for one in losses[:3]]).mean()))
    assert found["train/images_per_second"][3] > 0
    rate = trainer.optimiser.param_groups[0]["lr"]
    assert found["train/learning_rate"][4] == pytest.approx(rate)
    assert found["train/opponent_learning_rate"][4] == pytest.approx(rate / 2)  # tiny.toml has half of it


def test_resuming_keeps_the_scalars_of_the_step_it_resumes_at(faces, tmp_path):
    first = make_trainer(*faces, tmp_path, "train.epochs=1")
    assert first.fit()
    time.sleep(1.1)  # TensorBoard reads files in the order of their names, which hold whole seconds
    longer = make_trainer(*faces, tmp_path, "train.epochs=2")
    longer.resume(tmp_path / "last.pt")
    assert longer.fit()
    assert set(scalars(tmp_path)["train/mse"]) == {3, 4, 6, 8}
    assert set(scalars(tmp_path)["validation/mse"]) == {4, 8}


def test_terms_that_not_every_step_has_are_averaged_over_those_that_have():
    interval = Interval()
    interval.add({"a": torch.tensor(1.0)})
    interval.add({"a": torch.tensor(3.0), "b": torch.tensor(5.0)})
    assert {name: float(value) for name, value in interval.means().items()} == {"a": 2.0, "b": 5.0}
