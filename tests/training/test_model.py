import pytest
import torch

from training import objective
from training.attributes import exclusion_matrix
from training.config import Config
from training.model import ConditionalVAE, Discriminator, fill_unknown

NAMES = ["Black_Hair", "Blond_Hair", "Smiling", "Male", "Young"]
CONFIG = Config.model_validate(
    {
        "name": "test",
        "data": {"image_size": 32, "attributes": NAMES},
        "model": {
            "latent_size": 8,
            "encoder_channels": [8, 16, 24],
            "decoder_channels": [24, 16, 8],
            "condition_size": 12,
        },
        "discriminator": {"channels": [8, 16, 24]},
    }
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConditionalVAE(CONFIG.model, 32, len(NAMES))


@pytest.fixture
def opponent():
    torch.manual_seed(1)
    return Discriminator(CONFIG.discriminator.channels, 32, len(NAMES))


def labels(count):
    return torch.where(torch.rand(count, len(NAMES)) < 0.5, 1.0, -1.0)


def step(model, opponent):
    image, shown = torch.rand(16, 3, 32, 32) * 2 - 1, labels(16)
    draws = objective.Draws.make(shown, torch.full((len(NAMES),), 0.5), CONFIG.model.latent_size, seed=3)
    draws = draws.part(slice(None), torch.device("cpu"))
    exclusion = exclusion_matrix(NAMES)
    total, _, edits = objective.model_loss(model, opponent, image, shown, draws, exclusion, CONFIG, step=10**6)
    opponent_total, _ = objective.opponent_loss(opponent, image, shown, edits, draws.generator, CONFIG)
    return total, opponent_total


def test_every_parameter_receives_a_gradient(model, opponent):
    with torch.no_grad():  # inside both margins the hinge's pull on the last biases would cancel exactly
        opponent.patches.bias.fill_(2.0)
        opponent.realness.bias.fill_(2.0)
    total, opponent_total = step(model, opponent)
    opponent.requires_grad_(False)
    total.backward()
    opponent.requires_grad_(True)
    opponent_total.backward()
    for module in (model, opponent):
        silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []


def test_shapes(model):
    posterior = model.encode(torch.zeros(3, 3, 32, 32), torch.zeros(3, len(NAMES)))
    assert posterior.mean.shape == posterior.log_variance.shape == (3, 8)
    assert posterior.attribute_logits.shape == posterior.attributes.shape == (3, len(NAMES))
    assert model.decode(posterior.mean, posterior.attributes).shape == (3, 3, 32, 32)


def test_unknown_attributes_are_estimated_and_known_ones_kept():
    given = torch.tensor([[1.0, torch.nan, -1.0]])
    filled = fill_unknown(given, torch.tensor([[-9.0, 0.0, 9.0]]))
    assert filled.tolist() == [[1.0, 0.0, -1.0]]
    assert fill_unknown(torch.full((1, 1), torch.nan), torch.tensor([[2.0]])).item() == pytest.approx(0.7616, abs=1e-4)


def test_calibration_moves_edits_and_leaves_reconstructions_alone(model):
    image, shown = torch.rand(4, 3, 32, 32) * 2 - 1, labels(4)
    other = shown.clone()
    other[:, 2] *= -1

    def decode_both():
        latent = model.encode(image, shown).mean
        return model.decode(latent, shown), model.decode(latent, other)

    plain, edited = decode_both()
    model.gain[2] = 3.0
    plain_again, edited_again = decode_both()
    torch.testing.assert_close(plain, plain_again)
    assert (edited - edited_again).abs().max() > 1e-4


def test_the_latent_is_what_the_conditional_prior_leaves(model):
    image, shown = torch.rand(2, 3, 32, 32) * 2 - 1, labels(2)
    total, _, _ = model.encoder(image)
    residual = model.encode(image, shown).mean
    torch.testing.assert_close(residual + model.prior_mean(shown), total)


def test_draws_do_not_depend_on_who_takes_which_part():
    shown = labels(8)
    whole = objective.Draws.make(shown, torch.full((len(NAMES),), 0.5), 8, seed=5)
    again = objective.Draws.make(shown, torch.full((len(NAMES),), 0.5), 8, seed=5)
    part = again.part(slice(4, 8), torch.device("cpu"))
    assert torch.equal(whole.noise[4:], part.noise)
    assert torch.equal(whole.flips[4:], part.flips)


def test_partial_edits_ask_for_less(model, opponent):
    shown = labels(64)
    draws = objective.Draws.make(shown, torch.full((len(NAMES),), 0.5), 8, seed=0)
    assert ((draws.strength > 0) & (draws.strength <= 1)).all()
    assert 0 < (draws.strength < 1).float().mean() < 0.6
    assert (draws.flips.sum(1) >= 1).all()
    assert (draws.flips.sum(1) <= 2).all()
