from dataclasses import replace

import pytest
import torch

from training import attributes as attribute_rules
from training.adversarial import worst_case
from training.attributes import exclusion_matrix
from training.config import Config
from training.target_confidence import TargetConfidence
from training.vae import erasure, objective
from training.vae.augmentation import AugmentationParameters, augment, degrade
from training.vae.model import ConditionalVAE, Opponent

NAMES = ["Black_Hair", "Blond_Hair", "Smiling", "Male", "Young"]
CONFIG = Config.model_validate(
    {
        "name": "test",
        "data": {"image_size": 32, "attributes": NAMES},
        "model": {
            "global_size": 8,
            "map_channels": 2,
            "encoder_channels": [8, 16, 24],
            "decoder_channels": [24, 16, 8],
            "condition_size": 12,
        },
        "opponent": {"channels": [8, 16, 24]},
    }
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConditionalVAE(CONFIG.model, 32, len(NAMES))


@pytest.fixture
def opponent():
    torch.manual_seed(1)
    return Opponent(CONFIG.opponent.channels, 32, len(NAMES))


def labels(count):
    return torch.where(torch.rand(count, len(NAMES)) < 0.5, 1.0, -1.0)


def step(model, opponent):
    image, shown = torch.rand(16, 3, 32, 32) * 2 - 1, labels(16)
    draws = objective.Draws.make(torch.ones_like(shown), model.latent_size, seed=3)
    exclusion = exclusion_matrix(NAMES)
    frequencies = torch.full((len(NAMES),), 0.5)
    target_confidence, late = TargetConfidence(len(NAMES), 1.0), {"step": 10**6, "progress": 1.0}
    total, _, edits = objective.model_loss(
        model, opponent, image, shown, draws, exclusion, frequencies, target_confidence, CONFIG, **late
    )
    opponent_total, _, _ = objective.opponent_loss(opponent, image, shown, frequencies, edits.pictures, draws, CONFIG)
    return total, opponent_total


def test_every_parameter_receives_a_gradient(model, opponent):
    with torch.no_grad():  # inside both margins the hinge's pull on the last biases would cancel exactly
        opponent.critic.patches.bias.fill_(2.0)
        opponent.critic.whole.bias.fill_(2.0)
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
    assert posterior.mean.shape == posterior.log_variance.shape == (3, 8 + 2 * 8 * 8)
    assert posterior.attribute_logits.shape == posterior.attributes.shape == (3, len(NAMES))
    assert model.decode(posterior.mean, posterior.attributes).shape == (3, 3, 32, 32)


def test_unknown_attributes_are_estimated_and_known_ones_kept(model):
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    given = torch.full((2, len(NAMES)), torch.nan)
    given[:, 1] = torch.tensor([1.0, -0.3])
    posterior = model.encode(image, given)
    estimates = 2 * torch.sigmoid(posterior.attribute_logits) - 1
    assert posterior.attributes[:, 1].tolist() == pytest.approx([1.0, -0.3])
    torch.testing.assert_close(posterior.attributes[:, [0, 2, 3, 4]], estimates[:, [0, 2, 3, 4]])


def test_an_erasure_leaves_reconstructions_alone_whatever_was_given(model):
    image = torch.rand(4, 3, 32, 32) * 2 - 1

    def reconstruct(given):
        posterior = model.encode(image, given)
        return posterior.mean, model.decode(posterior.mean, posterior.attributes)

    for given in (torch.full((4, len(NAMES)), torch.nan), labels(4)):
        latent, plain = reconstruct(given)
        erasure.replace_prior(model, torch.randn(model.latent_size, len(NAMES)), torch.randn(model.latent_size))
        latent_after, plain_after = reconstruct(given)
        assert (latent - latent_after).abs().max() > 1
        torch.testing.assert_close(plain, plain_after, atol=1e-4, rtol=0)


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


def test_a_worst_case_is_worse_and_no_further_than_its_radius(opponent):
    image, shown = torch.rand(8, 3, 32, 32) * 2 - 1, labels(8)

    def loss(logits):
        return torch.nn.functional.softplus(-logits * shown).mean()

    moved, before = worst_case(opponent.classifier, image, loss, torch.linspace(0, 2.0, 8))
    distance = (moved - image).flatten(1).norm(dim=1)
    torch.testing.assert_close(distance, torch.linspace(0, 2.0, 8))
    torch.testing.assert_close(before, opponent.classifier(image).detach())

    def error(pictures):
        logits = opponent.classifier(pictures).detach()
        return torch.nn.functional.softplus(-logits * shown).mean(1)

    assert (error(moved)[1:] > error(image)[1:]).all()


def test_raw_and_residual_edits_answer_to_their_own_critic():
    realness = torch.arange(18.0).view(3, 2, 3)
    raw = torch.tensor([False, True, False])
    assert objective.own_kind(realness, raw).tolist() == [[3, 4, 5], [6, 7, 8], [15, 16, 17]]


class _LinearCritic(torch.nn.Module):
    def forward(self, image):
        return (3.0 * image[:, 0, 0, 0] ** 2)[:, None, None].expand(-1, 2, 5)


def test_the_slope_is_the_squared_gradient_of_the_critic_at_the_pictures_that_count():
    image = torch.ones(4, 3, 8, 8)
    image[1] = 2.0
    assert objective.slope(_LinearCritic(), image, torch.ones(4)).item() == pytest.approx((3 * 36 + 144) / 4)
    assert objective.slope(_LinearCritic(), image, torch.tensor([0.0, 4, 0, 0])).item() == pytest.approx(144)
    assert objective.slope(_LinearCritic(), image, torch.zeros(4)).item() == 0


def test_draws_do_not_depend_on_who_takes_which_part():
    odds = torch.rand(8, len(NAMES), generator=torch.Generator().manual_seed(1)) + 0.1
    whole = objective.Draws.make(odds, 8, seed=5)
    part = objective.Draws.make(odds[2:6], 8, seed=5, count=8, rows=slice(2, 6))
    for ours, theirs in ((part, whole.part(slice(2, 6))), (part.part(slice(1, 3)), whole.part(slice(3, 5)))):
        for name, value in vars(theirs).items():
            found = getattr(ours, name)
            values = vars(value) if isinstance(value, AugmentationParameters) else {name: value}
            for key, expected in values.items():
                assert torch.equal(
                    vars(found)[key] if isinstance(found, AugmentationParameters) else found, expected
                ), (name, key)


def test_a_third_of_the_edits_is_raw_and_a_quarter_of_the_pictures_is_steep_in_every_part():
    draws = objective.Draws.make(torch.ones(24, len(NAMES)), 8, seed=5)
    for part in (draws, draws.part(slice(0, 12)), draws.part(slice(12, 24))):
        assert part.raw.float().mean().item() == pytest.approx(1 / 3)
        assert (part.steepness > 0).float().mean().item() == 0.25
        assert part.steepness.mean().item() == pytest.approx(1)
    assert (draws.reach.min(), draws.reach.max()) == (0, 1)


def test_a_share_of_every_part_is_encoded_with_its_labels(model):
    draws = objective.Draws.make(torch.ones(24, len(NAMES)), model.latent_size, seed=5, labelled_share=0.25)
    for part in (draws, draws.part(slice(0, 12)), draws.part(slice(12, 24))):
        assert part.labelled.float().mean().item() == 0.25
    known = labels(24)
    posterior, _ = objective._sample(model, torch.rand(24, 3, 32, 32), known, draws)
    assert torch.equal(posterior.attributes[draws.labelled], known[draws.labelled])
    assert not torch.isin(posterior.attributes[~draws.labelled], torch.tensor([-1.0, 1.0])).any()


def test_an_edit_that_changes_nothing_keeps_everything(model, opponent):
    """Untouched and edited picture are looked at through the same augmentation, or no edit would have a gradient."""
    image, shown = torch.rand(16, 3, 32, 32) * 2 - 1, labels(16)
    draws = objective.Draws.make(torch.ones_like(shown), model.latent_size, seed=3)
    draws = replace(draws, strength=torch.zeros(16, 1), raw=torch.zeros(16, dtype=torch.bool))
    leaves = CONFIG.model_copy(update={"loss": CONFIG.loss.model_copy(update={"beta": 0.0, "estimate": 0.0})})
    rules = exclusion_matrix(NAMES), torch.full((len(NAMES),), 0.5), TargetConfidence(len(NAMES), 1.0)
    _, parts, _ = objective.model_loss(model, opponent, image, shown, draws, *rules, leaves, 10**6, 1.0)
    seen = degrade(augment(image, draws.answered), draws.answered)
    belief = torch.sigmoid(opponent.classifier(seen))
    entropy = -(belief * belief.log() + (1 - belief) * (1 - belief).log())
    cleared = attribute_rules.invert(shown, shown, draws.flips, exclusion_matrix(NAMES)) != shown
    assert parts["keep"].item() == pytest.approx(losses_mean(entropy, ~draws.flips & ~cleared), rel=0.05)


def losses_mean(values, counted):
    return ((values * counted).sum(1) / counted.sum(1).clamp(min=1)).mean().item()


def test_without_terms_for_edits_there_is_no_second_decode(model, opponent):
    plain = CONFIG.model_copy(
        update={"loss": CONFIG.loss.model_copy(update={"edit": 0, "keep": 0, "change": 0, "adversarial": 0})}
    )
    image, shown = torch.rand(16, 3, 32, 32) * 2 - 1, labels(16)
    draws = objective.Draws.make(torch.ones_like(shown), model.latent_size, seed=3)
    rules = exclusion_matrix(NAMES), torch.full((len(NAMES),), 0.5), TargetConfidence(len(NAMES), 1.0)
    _, parts, edits = objective.model_loss(model, opponent, image, shown, draws, *rules, plain, 0, 0.0)
    assert edits is None
    assert set(parts) == {"nll", "kl", "estimate", "mse"}


@pytest.mark.parametrize("output", ["bilinear", "shuffle"])
def test_every_parameter_of_the_decoder_receives_a_gradient(output):
    config = CONFIG.model.model_copy(update={"output": output})
    decoder = ConditionalVAE(config, 32, len(NAMES)).decoder
    decoder(torch.randn(4, 8 + 2 * 8 * 8), labels(4)).square().sum().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_partial_edits_ask_for_less(model, opponent):
    draws = objective.Draws.make(torch.ones(64, len(NAMES)), 8, seed=0)
    assert ((draws.strength > 0) & (draws.strength <= 1)).all()
    assert 0 < (draws.strength < 1).float().mean() < 0.6
    assert (draws.flips.sum(1) >= 1).all()
    assert (draws.flips.sum(1) <= 2).all()
