import numpy as np
import pytest
import torch

from training import checkpoint
from training.config import load, parse
from training.flow import source as flow_source
from training.flow.source import Posteriors, PosteriorSource
from training.flow.trainer import FlowTrainer
from training.vae.model import ConditionalVAE

TINY = load("tests/training/tiny.toml")
COUNT = len(TINY.data.attributes)


def vae():
    torch.manual_seed(0)
    return ConditionalVAE(TINY.model, TINY.data.image_size, COUNT).eval()


def posteriors(count, seed, model):
    rng = np.random.default_rng(seed)
    mean, log_variance = rng.standard_normal((2, count, model.latent_size)).astype(np.float32)
    estimates = rng.uniform(-1, 1, (count, COUNT)).astype(np.float32)
    return Posteriors(mean, log_variance - 2, estimates, np.sign(estimates))


def make(directory, **train):
    settings = parse(
        {
            "stage": "prior",
            "name": "tiny",
            "data": TINY.data.model_dump(),
            "model": {"width": 16, "blocks": 1, "condition_size": 8, "steps": 2},
            "train": {"steps": 6, "batch_size": 8, "validate_every": 3} | train,
        }
    )
    model = vae()
    source = PosteriorSource(posteriors(40, 0, model), TINY.data.attributes)
    return FlowTrainer(settings, source, posteriors(16, 1, model), model, directory, torch.device("cpu"))


def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path):
    def run(trainer, steps):
        return [{name: float(value) for name, value in trainer.train_step().items()} for _ in range(steps)]

    expected = run(make(tmp_path), 5)
    interrupted = make(tmp_path)
    run(interrupted, 3)
    interrupted.save("last.pt")
    resumed = make(tmp_path)
    resumed.resume(tmp_path / "last.pt")
    assert run(resumed, 2) == expected[3:]


def test_fit_writes_a_prior_that_draws_latents(tmp_path):
    trainer = make(tmp_path)
    assert trainer.fit()
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step-0000003.png", "step-0000006.png"]
    size = vae().latent_size
    prior, settings, _ = checkpoint.load_prior(tmp_path / "last.pt", size)
    assert prior(torch.zeros(2, size), torch.zeros(2, COUNT)).shape == (2, size)
    assert settings.name == "tiny"


def test_a_prior_of_other_latents_is_refused(tmp_path):
    trainer = make(tmp_path)
    trainer.save("last.pt")
    with pytest.raises(checkpoint.CheckpointError, match="the latent has 7"):
        checkpoint.load_prior(tmp_path / "last.pt", 7)


def test_latents_are_standardised_by_their_total_variance(tmp_path):
    trainer = make(tmp_path)
    found = trainer.source.posteriors
    labels = torch.from_numpy(found.labels)
    latent = torch.from_numpy(found.mean) - trainer.vae.explained(labels)
    spread = torch.from_numpy(np.exp(found.log_variance)).mean(0)
    torch.testing.assert_close(trainer.prior.scale, (latent.var(0) + spread).sqrt())


def test_pictures_are_encoded_as_they_are_and_mirrored():
    model, rng = vae(), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, TINY.data.image_size, TINY.data.image_size, 3), dtype=np.uint8)
    labels = np.ones((3, COUNT), dtype=np.int8)
    found = flow_source.encode(model, np.concatenate([pixels, pixels[:, :, ::-1]]), np.tile(labels, (2, 1)))
    assert len(found) == 12
    np.testing.assert_allclose(found.mean[:3], found.mean[9:], atol=1e-5)
    with torch.no_grad():
        image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        whole, _, _ = model.encoder(image)
    np.testing.assert_allclose(found.mean[:3], whole.numpy(), atol=1e-4)
