"""A run whose numbers are no longer finite ends, says where, and leaves nothing that looks like a result."""

import pytest
import torch

from tests import painter
from tests.training.trainers import make_trainer
from training import checkpoint, config, judge
from training.__main__ import main
from training.data import dataset
from training.trainer import DivergedError

PRESET = "tests/training/tiny.toml"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)
    return root, tmp_path_factory.mktemp("cache")


def test_a_learning_rate_of_a_thousand_ends_with_one_line(faces, tmp_path, capsys):
    root, cache = faces
    words = ["fit", "--preset", PRESET, "--data", str(root), "--cache", str(cache), "--workdir", str(tmp_path / "run")]
    assert main([*words, "--set", "train.learning_rate=1000", "--set", "train.batch_size=8"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: step ")
    assert "training the ConditionalVAE diverged (not finite: loss, nll" in line
    assert "there is no checkpoint yet; train.learning_rate" in line
    assert not (tmp_path / "run" / "last.pt").exists()


def test_weights_that_are_not_finite_are_never_written(faces, tmp_path):
    trainer = make_trainer(*faces, tmp_path)
    trainer.save("last.pt")
    good = (tmp_path / "last.pt").read_bytes()
    with torch.no_grad():
        trainer.ema.gain[2] = float("nan")
    with pytest.raises(
        DivergedError, match=r"step 0: the weights diverged \(not finite: ema\.gain\); .*last\.pt is the"
    ):
        trainer.save("last.pt")
    assert (tmp_path / "last.pt").read_bytes() == good


def test_a_validation_that_is_not_finite_ends_the_run(faces, tmp_path):
    trainer = make_trainer(*faces, tmp_path)
    with torch.no_grad():
        trainer.ema.decoder.output.colours.bias.fill_(1e30)  # its square is not finite
    with pytest.raises(DivergedError, match=r"validation diverged \(not finite: mse, psnr, sampled_mse, score"):
        trainer._validate(trainer._open_run())


def test_an_erasure_of_latents_that_are_not_finite_ends_the_run(faces, tmp_path):
    trainer = make_trainer(*faces, tmp_path)
    with torch.no_grad():
        trainer.ema.encoder.head.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="latents diverged"):
        trainer.end_epoch()


def test_calibrating_weights_that_are_not_finite_is_refused(faces, tmp_path, capsys):
    root, cache = faces
    trainer = make_trainer(root, cache, tmp_path)
    trainer.save("last.pt")
    state = checkpoint.load(tmp_path / "last.pt")
    state["ema"]["shift.weight"].fill_(float("nan"))
    checkpoint.save(tmp_path / "last.pt", state)
    words = ["calibrate", "--data", str(root), "--cache", str(cache), "--workdir", str(tmp_path)]
    assert main(words) == 2
    assert "ema.shift.weight holds values that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "calibrated.pt").exists()


def test_a_judge_that_diverges_is_not_trained_on(faces, tmp_path):
    root, cache = faces
    settings = config.load(PRESET)
    index = dataset.read_index(root, settings.data.attributes, "train")
    pixels = dataset.load_pixels(index, settings.data, cache, 2)
    with pytest.raises(DivergedError, match=r"step \d+: training the judge diverged \(loss (nan|inf)"):
        judge.train_judge(index, pixels, settings.data, 1, 2, torch.device("cpu"), 8, learning_rate=1e30)
