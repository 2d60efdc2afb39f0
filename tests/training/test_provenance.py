"""Runs, pictures, classifiers and judges that do not belong together are refused, with hashes or sizes."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from service.bundle import loader
from tests import painter
from tests.training.trainers import make_trainer
from training import checkpoint, judge, provenance
from training.__main__ import main
from training.config import DataConfig
from training.data import shards
from training.provenance import ProvenanceError

SHIPPED = Path(__file__).parents[2] / "bundles" / "celeba64"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Pictures, a cache, an untrained run and a judge of its attributes."""
    root = tmp_path_factory.mktemp("work")
    data = painter.write_dataset(root / "data", train=32, validation=8)
    trainer = make_trainer(data, root / "cache", root / "run", "train.batch_size=8")
    (root / "run").mkdir()
    trainer.save("last.pt")
    torch.manual_seed(0)
    one = judge.Judge(trainer.config.data.attributes, 32, trainer.config.data)
    judge.save_judge(one, root / "classifier.pt", {"seed": 1, "epochs": 1})
    return root


def calibrate(work, *, data=None, classifier=None):
    words = ["--workdir", str(work / "run"), "--cache", str(work / "cache")]
    words += ["--data", str(data or work / "data"), "--classifier", str(classifier or work / "classifier.pt")]
    return main(["calibrate", *words, "--gains", "1", "--pictures", "12"])


def test_calibrating_on_other_pictures_is_refused_with_both_hashes(work, tmp_path, capsys):
    other = painter.write_dataset(tmp_path / "other", train=32, validation=8, seed=5)
    assert calibrate(work, data=other) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    expected = checkpoint.load(work / "run" / "last.pt")["data_sha256"]
    assert f"--data {other}: its training pictures and labels have the sha256 " in line
    assert f"last.pt learned from those of sha256 {expected}" in line
    assert not (work / "run" / "calibrated.pt").exists()


def test_a_classifier_of_another_size_is_refused(work, tmp_path, capsys):
    names = checkpoint.load(work / "classifier.pt")["attributes"]
    judge.save_judge(judge.Judge(names, 64), tmp_path / "large.pt", {})
    assert calibrate(work, classifier=tmp_path / "large.pt") == 2
    assert "large.pt: judges pictures of 64 pixels; the model's have 32" in capsys.readouterr().err


def test_calibrating_says_who_chose_the_gains(work):
    assert calibrate(work) == 0
    state = checkpoint.load(work / "run" / "calibrated.pt")
    assert state["classifier_sha256"] == provenance.weights_sha256(judge.load_judge(work / "classifier.pt")[0])
    (work / "run" / "calibrated.pt").unlink()


def test_a_run_on_shards_is_calibrated_on_its_shards(work, tmp_path):
    shards.write(work / "data", tmp_path / "shards", pictures=10)
    shutil.copytree(work / "run", tmp_path / "run")
    shutil.copy(work / "classifier.pt", tmp_path)
    trainer = make_trainer(tmp_path / "shards", work / "cache", tmp_path / "run", "train.batch_size=8")
    trainer.save("last.pt")
    words = ["--workdir", str(tmp_path / "run"), "--cache", str(tmp_path / "cache"), "--gains", "1"]
    words += ["--classifier", str(tmp_path / "classifier.pt"), "--pictures", "12", "--data", str(tmp_path / "shards")]
    assert main(["calibrate", *words]) == 0


def test_the_classifier_that_chose_the_gains_may_not_judge_them():
    torch.manual_seed(0)
    one, other = judge.Judge(["Bald"], 32), judge.Judge(["Bald"], 32)
    training = SimpleNamespace(classifier_sha256=provenance.weights_sha256(one))
    manifest = SimpleNamespace(name="mine", training=training)
    with pytest.raises(ProvenanceError, match=rf"judge\.pt: .*sha256 {training.classifier_sha256}.* gains of mine"):
        provenance.require_no_part_in(one, Path("judge.pt"), manifest)
    assert provenance.require_no_part_in(other, Path("judge.pt"), manifest) == provenance.weights_sha256(other)


def test_a_judge_with_another_framing_is_refused():
    data = DataConfig(image_size=64)
    one = judge.Judge(["Bald"], 64, data)
    provenance.require_own_frame(one, Path("judge.pt"), data)
    other = data.model_copy(update={"crop_box": (0.0, 20.0, 178.0, 198.0)})
    with pytest.raises(ProvenanceError, match=r"crop_box \(15\.0, .*; the model's have \(0\.0, "):
        provenance.require_own_frame(one, Path("judge.pt"), other)


def test_a_judge_that_sees_less_than_the_bundle_draws_is_refused():
    small, large = DataConfig(image_size=64), DataConfig(image_size=128, crop_box=(0, 20, 178, 198))
    with pytest.raises(
        ProvenanceError, match=r"sees 0\.43 pixels .*\(64 in all\); the bundle draws 0\.72 .*\(128 in all"
    ):
        provenance.require_sees_as_much(judge.Judge(["Bald"], 64, small), Path("judge.pt"), large)
    provenance.require_sees_as_much(judge.Judge(["Bald"], 128, large), Path("judge.pt"), small)


@pytest.fixture(scope="module")
def shipped_judge(tmp_path_factory):
    """An untrained judge of the shipped bundle, and the first pictures with labels of its attributes."""
    manifest = loader.load(SHIPPED).manifest
    root = tmp_path_factory.mktemp("shipped")
    rng = np.random.default_rng(0)
    (root / "data" / "img_align_celeba").mkdir(parents=True)
    rows = []
    for number in range(6):
        name = f"{number:06d}.png"
        painter.paint(painter.random_attributes(rng), rng).save(root / "data" / "img_align_celeba" / name)
        rows.append(f"{name} " + " ".join(rng.choice(["1", "-1"], len(manifest.attributes))))
    header = f"6\n{' '.join(manifest.attribute_names)}\n"
    (root / "data" / "list_attr_celeba.txt").write_text(header + "\n".join(rows) + "\n")
    parts = "".join(f"{number:06d}.png {number // 3}\n" for number in range(6))
    (root / "data" / "list_eval_partition.txt").write_text(parts)
    settings = DataConfig(attributes=manifest.attribute_names)
    judge.save_judge(judge.Judge(manifest.attribute_names, 64, settings), root / "judge.pt", {"seed": 1, "epochs": 1})
    return root


def test_evaluating_on_other_pictures_is_refused_with_both_hashes(shipped_judge, capsys):
    where = ["--data", str(shipped_judge / "data"), "--cache", str(shipped_judge / "cache")]
    words = [*where, "--bundle", str(SHIPPED), "--judge", str(shipped_judge / "judge.pt")]
    assert main(["evaluate", *words, "--out", str(shipped_judge / "out")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert loader.load(SHIPPED).manifest.training.data_sha256 in line
    assert "its training pictures and labels have the sha256 " in line
    assert not (shipped_judge / "out").exists()
