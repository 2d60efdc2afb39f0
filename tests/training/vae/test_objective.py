"""One step's losses: sums of their parts, which reach what they should train and vanish where they should be zero."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from training import losses
from training.attributes import exclusion_matrix
from training.config import Config, LossConfig
from training.target_confidence import TargetConfidence
from training.vae import objective
from training.vae.augmentation import augment, degrade
from training.vae.model import ConditionalVAE, Opponent

NAMES = ["Black_Hair", "Blond_Hair", "Smiling", "Male"]
BLACK, BLOND, SMILING, MALE = range(4)
SIZE, COUNT = 16, 8
LATE = {"step": 10**6, "progress": 1.0}
CONFIG = Config.model_validate(
    {
        "name": "test",
        "data": {"image_size": SIZE, "attributes": NAMES},
        "model": {
            "global_size": 4,
            "map_channels": 1,
            "encoder_channels": [8, 12],
            "decoder_channels": [12, 8],
            "condition_size": 8,
        },
        "opponent": {"channels": [8, 12]},
        "loss": {"beta": 0.7, "estimate": 0.3, "edit": 1.1, "keep": 1.3, "change": 0.9, "adversarial": 1.7},
    }
)


def config(**weights: float) -> Config:
    return CONFIG.model_copy(update={"loss": CONFIG.loss.model_copy(update=weights)})


class Step:
    """A model, its opponent, a batch and its draws, all from fixed seeds."""

    def __init__(self, seed: int = 3, **draws) -> None:
        torch.manual_seed(0)
        self.model = ConditionalVAE(CONFIG.model, SIZE, len(NAMES))
        self.opponent = Opponent(CONFIG.opponent.channels, SIZE, len(NAMES))
        self.image = torch.rand(COUNT, 3, SIZE, SIZE) * 2 - 1
        self.labels = torch.where(torch.rand(COUNT, len(NAMES)) < 0.5, 1.0, -1.0)
        self.frequencies = torch.tensor([0.2, 0.15, 0.5, 0.4])
        self.confidence = TargetConfidence(len(NAMES), 1.0)
        self.draws = objective.Draws.make(torch.ones_like(self.labels), self.model.latent_size, seed)
        self.draws = replace(self.draws, **draws)

    def model_loss(self, settings: Config = CONFIG, rows: slice = slice(None), **options):
        rules = exclusion_matrix(NAMES), self.frequencies, self.confidence
        batch = self.image[rows], self.labels[rows], self.draws.part(rows)
        return objective.model_loss(self.model, self.opponent, *batch, *rules, settings, **LATE | options)

    def opponent_loss(self, edits: torch.Tensor, settings: Config = CONFIG, rows: slice = slice(None)):
        batch = self.image[rows], self.labels[rows], self.frequencies, edits[rows], self.draws.part(rows)
        return objective.opponent_loss(self.opponent, *batch, settings)


def none(count: int = COUNT) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.bool)


def only(attribute: int) -> torch.Tensor:
    """Flips bool [N, K] of that attribute."""
    return (torch.arange(len(NAMES)) == attribute).repeat(COUNT, 1)


def untouched(module: torch.nn.Module) -> list[str]:
    """Parameters without a gradient."""
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


# ---- the model's loss


@pytest.mark.parametrize(("step", "kl_ramp", "edit_ramp"), [(0, 1 / 10, 1 / 40), (9, 1.0, 1 / 4), (10**6, 1.0, 1.0)])
def test_the_loss_is_the_weighted_sum_of_its_parts(step: int, kl_ramp: float, edit_ramp: float):
    settings = config(kl_warmup_steps=10, edit_warmup_steps=40)
    total, parts, _ = Step().model_loss(settings, step=step)
    weights = settings.loss
    expected = parts["nll"] + kl_ramp * weights.beta * parts["kl"] / (3 * SIZE * SIZE)
    expected += weights.estimate * parts["estimate"]
    for name in ("edit", "keep", "change", "adversarial"):
        expected += edit_ramp * getattr(weights, name) * parts[name]
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(part.ndim == 0 and part.isfinite() for part in parts.values())


def test_the_parts_of_the_bound_are_their_formulas():
    step = Step(labelled=~none())
    _, parts, _ = step.model_loss()
    posterior, latent = objective._sample(step.model, step.image, step.labels, step.draws)
    reconstruction = step.model.decode(latent, step.labels)
    mse = (reconstruction - step.image).square().mean()
    assert parts["mse"].item() == pytest.approx(mse.item(), rel=1e-6)
    # With its maximum-likelihood variance the likelihood is half a nat and half the logarithm of the error.
    assert parts["nll"].item() == pytest.approx(0.5 + 0.5 * math.log(mse.item()), rel=1e-5)
    assert parts["kl"].item() == pytest.approx(losses.kl_divergence(*posterior[:2]).mean().item(), rel=1e-6)


def test_a_shared_variance_replaces_the_batchs_own():
    step = Step()
    _, parts, _ = step.model_loss(variance=torch.tensor(0.25))
    assert parts["nll"].item() == pytest.approx(0.5 * (parts["mse"].item() / 0.25 + math.log(0.25)), rel=1e-6)


@torch.no_grad()
def test_the_error_is_known_before_the_step_that_finds_it():
    step = Step()
    _, parts, _ = step.model_loss()
    error = objective.reconstruction_error(step.model, step.image, step.labels, step.draws)
    assert error.item() == pytest.approx(parts["mse"].item(), rel=1e-6)
    with torch.enable_grad():
        assert not objective.reconstruction_error(step.model, step.image, step.labels, step.draws).requires_grad


def test_passes_over_parts_of_the_batch_add_up_to_the_whole():
    step = Step()
    variance = objective.reconstruction_error(step.model, step.image, step.labels, step.draws)

    def gradient(*parts: slice) -> tuple[float, torch.Tensor]:
        step.model.zero_grad()
        totals = [step.model_loss(rows=rows, variance=variance)[0] / len(parts) for rows in parts]
        sum(totals).backward()
        return sum(totals).item(), torch.cat([p.grad.flatten() for p in step.model.parameters()])

    whole, expected = gradient(slice(None))
    cut, found = gradient(slice(0, 4), slice(4, 8))
    assert cut == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_reconstruction_alone_trains_the_whole_model():
    step = Step()
    step.model_loss(config(edit=0, keep=0, change=0, adversarial=0))[0].backward()
    assert untouched(step.model) == []
    assert untouched(step.opponent) == [name for name, _ in step.opponent.named_parameters()]


def test_estimates_of_attributes_learn_from_labels_alone():
    """The decoder would bend them to carry pixels."""
    step = Step()
    step.model_loss(config(estimate=0.0))[0].backward()
    assert {name.split(".")[1] for name in untouched(step.model)} == {"attribute_head"}
    step.model.zero_grad()
    step.model_loss(config(estimate=0.3))[0].backward()
    assert untouched(step.model) == []


@pytest.mark.parametrize("name", ["edit", "keep", "change", "adversarial"])
def test_each_term_of_the_edits_trains_the_decoder(name: str):
    step = Step(raw=~none())
    _, parts, _ = step.model_loss()
    parts[name].backward()
    # A bias of the output moves both pictures alike, so that of `change` the sum of signs, or its rounding, is left.
    assert set(untouched(step.model.decoder)) <= ({"output.colours.bias"} if name == "change" else set())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in step.model.shift.parameters())


def test_an_edit_of_no_strength_changes_nothing():
    step = Step(strength=torch.zeros(COUNT, 1), raw=none())
    _, parts, edits = step.model_loss()
    assert parts["change"].item() == pytest.approx(0, abs=1e-7)
    torch.testing.assert_close(edits.pictures, step.image, atol=1e-6, rtol=0)


def test_edits_are_raw_decodes_or_residuals_on_the_picture():
    raw = torch.arange(COUNT) % 2 == 0
    step = Step(raw=raw, labelled=~none(), flips=only(MALE), strength=torch.full((COUNT, 1), 0.5))
    _, parts, edits = step.model_loss()
    target = step.labels.clone()
    target[:, MALE] = 0.0  # half of the way from one to the other
    with torch.no_grad():
        _, latent = objective._sample(step.model, step.image, step.labels, step.draws)
        before, after = step.model.decode(latent, step.labels), step.model.decode(latent, target)
    torch.testing.assert_close(edits.pictures[raw], after[raw].clamp(-1.2, 1.2))
    torch.testing.assert_close(edits.pictures[~raw], (step.image + after - before)[~raw].clamp(-1.2, 1.2))
    assert parts["change"].item() == pytest.approx((after - before).abs().mean().item(), rel=1e-5)
    assert not edits.pictures.requires_grad
    assert not edits.logits.requires_grad


def test_edits_stay_near_the_range_of_pictures():
    step = Step(raw=none())
    with torch.no_grad():
        step.model.decoder.output.colours.weight.mul_(1000)
    assert step.model_loss()[2].pictures.abs().max().item() == pytest.approx(1.2)


class Fixed(torch.nn.Module):
    """A classifier of given logits f32 [N, K], whatever it looks at."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits + 0 * image.mean(dim=(1, 2, 3))[:, None]


def test_what_an_added_attribute_takes_away_counts_half_where_it_was_there():
    """Black hair is added to one blond face and to seven that are neither."""
    step = Step(flips=only(BLACK), strength=torch.ones(COUNT, 1), labelled=~none())
    step.labels = -torch.ones(COUNT, 4)
    step.labels[0, BLOND] = 1.0
    logits = torch.tensor([[1.0, 2.0, 0.0, 0.0]]).repeat(COUNT, 1)
    step.opponent.classifier = Fixed(logits)
    _, parts, _ = step.model_loss()
    targets = step.confidence.of(torch.tensor([[1.0, -1.0, -1.0, -1.0]])).repeat(COUNT, 1)
    errors = losses.attribute_errors(logits, targets)
    blond_face = (errors[0, BLACK] + 0.5 * errors[0, BLOND]) / 1.5
    assert parts["edit"].item() == pytest.approx(((blond_face + 7 * errors[0, BLACK]) / COUNT).item(), rel=1e-5)
    # All others have to look as they did before, to the same classifier; then the loss is the entropy of its belief.
    undecided, sure = _entropy(0.0), _entropy(2.0)
    assert parts["keep"].item() == pytest.approx((undecided + 7 * (sure + 2 * undecided) / 3) / COUNT, rel=1e-5)


def _entropy(logit: float) -> float:
    share = 1 / (1 + math.exp(-logit))
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def test_where_everything_is_turned_over_nothing_has_to_be_kept():
    step = Step(flips=torch.ones(COUNT, 4, dtype=torch.bool))
    assert step.model_loss()[1]["keep"].item() == 0


def test_raw_edits_answer_more_to_the_critic_late_in_a_run():
    settings = config(sharpening=5.0)
    raw, residual = Step(raw=~none()), Step(raw=none())
    early, late = (raw.model_loss(settings, progress=share)[1]["adversarial"].item() for share in (0.4, 1.0))
    assert late == pytest.approx(5 * early, rel=1e-5)
    early, late = (residual.model_loss(settings, progress=share)[1]["adversarial"].item() for share in (0.4, 1.0))
    assert late == early


@pytest.mark.parametrize("part", ["image", "labels", "frequencies"])
def test_shapes_that_do_not_belong_together_are_refused(part: str):
    step = Step()
    setattr(step, part, getattr(step, part)[..., :-1])
    with pytest.raises((RuntimeError, ValueError)):
        step.model_loss()


# ---- the opponent's loss


class Whiteness(torch.nn.Module):
    """A critic of realness f32 [N, 2, 2]: white is real, black is not."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 100 * image.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 2, 2)


def test_a_sure_opponent_loses_nothing_but_its_slope():
    step = Step()
    step.image = torch.ones_like(step.image)
    step.opponent.critic, step.opponent.classifier = Whiteness(), Fixed(60 * step.labels)
    total, parts, logits = step.opponent_loss(-step.image)
    assert parts["critic"].item() == 0
    assert parts["classifier"].item() == pytest.approx(0, abs=1e-9)
    assert torch.equal(logits, 60 * step.labels)
    # Each value of a picture moves realness by 100 / values, so the squared gradient is 100^2 / values.
    assert parts["slope"].item() == pytest.approx(100**2 / (3 * SIZE * SIZE), rel=1e-5)
    assert total.item() == pytest.approx(0.5 * CONFIG.loss.slope * parts["slope"].item(), rel=1e-6)


def test_a_blind_opponent_loses_two_and_as_much_as_chance():
    step = Step()
    with torch.no_grad():
        for parameter in step.opponent.parameters():
            parameter.zero_()
    step.frequencies = torch.full((4,), 0.5)
    _, parts, _ = step.opponent_loss(step.image)
    assert parts["critic"].item() == 2
    assert parts["slope"].item() == 0
    assert parts["classifier"].item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("raw_every", [1, 2, 4])
def test_the_critic_of_each_kind_of_edit_sees_as_many_real_pictures_as_edits(raw_every: int):
    step = Step(raw=torch.arange(COUNT) % raw_every == raw_every - 1)
    with torch.no_grad():
        for parameter in step.opponent.critic.parameters():
            parameter.zero_()
    parts = step.opponent_loss(step.image, config(raw_every=raw_every, even_kinds=True))[1]
    bias = step.opponent.critic.patches.bias  # of a blind critic, pulled up by real pictures and down by edits
    (pull,) = torch.autograd.grad(parts["critic"], bias)
    assert torch.allclose(pull, torch.zeros(2), atol=1e-7)


def test_the_opponents_loss_is_the_sum_of_its_parts_and_trains_all_of_it():
    step = Step()
    with torch.no_grad():  # inside both margins the hinge's pull on the last biases would cancel exactly
        step.opponent.critic.patches.bias.fill_(2.0)
        step.opponent.critic.whole.bias.fill_(2.0)
    edits = step.image.flip(0).requires_grad_()
    total, parts, logits = step.opponent_loss(edits, config(slope=0.8))
    assert total.item() == pytest.approx(
        (parts["critic"] + 0.4 * parts["slope"] + parts["classifier"]).item(), rel=1e-6
    )
    total.backward()
    assert untouched(step.opponent) == []
    seen = degrade(augment(step.image, step.draws.real), step.draws.real)
    torch.testing.assert_close(logits, step.opponent.classifier(seen).detach())


def test_the_classifier_learns_from_worse_cases_than_it_was_shown():
    step = Step(reach=torch.ones(COUNT))
    plain, robust = (
        step.opponent_loss(step.image, config(robustness=radius))[1]["classifier"].item() for radius in (0.0, 1.0)
    )
    assert robust > plain


def test_the_opponents_passes_add_up_too():
    step = Step()
    edits = step.image.flip(0)
    whole = step.opponent_loss(edits)[0].item()
    halves = [step.opponent_loss(edits, rows=rows)[0].item() for rows in (slice(0, 4), slice(4, 8))]
    assert sum(halves) / 2 == pytest.approx(whole, rel=1e-5)


# ---- the draws of a step


def test_the_same_seed_gives_the_same_draws_and_another_one_others():
    odds = torch.ones(64, len(NAMES))
    first, again, other = (objective.Draws.make(odds, 6, seed) for seed in (5, 5, 6))
    for name in ("noise", "flips", "strength", "labelled", "raw", "reach", "steepness"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    for name in ("noise", "flips", "strength"):
        assert not torch.equal(getattr(first, name), getattr(other, name)), name
    assert torch.equal(first.edited.seeds, again.edited.seeds)
    assert not torch.equal(first.edited.seeds, first.real.seeds)


def test_attributes_are_flipped_by_their_odds_and_a_second_one_in_a_part():
    draws = objective.Draws.make(torch.tensor([[3.0, 1.0, 0.0, 0.0]]).repeat(4000, 1), 2, seed=0)
    assert not draws.flips[:, 2:].any()
    both = (draws.flips.sum(1) == 2).float().mean().item()
    # The second draw follows the same odds: another attribute than the first in 2 x 3/4 x 1/4 of the cases.
    assert both == pytest.approx(LossConfig().second_edit * 0.375, abs=0.02)
    once = draws.flips[draws.flips.sum(1) == 1]
    assert once[:, 0].float().mean().item() == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_is_encoded_with_its_labels(share: float):
    draws = objective.Draws.make(torch.ones(16, 4), 2, seed=0, labelled_share=share)
    assert draws.labelled.float().mean().item() == share


def test_noise_is_standard_normal():
    noise = objective.Draws.make(torch.ones(500, 4), 40, seed=1).noise
    assert noise.shape == (500, 40)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.var().item() == pytest.approx(1, abs=0.03)
