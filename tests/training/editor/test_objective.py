from dataclasses import replace

import pytest
import torch

from tests.training.editor.networks import KEPT, NAMES, config, features
from training.editor import critic, objective, requests
from training.editor.model import Editor
from training.editor.views import Views, crop, degrade
from training.target_confidence import TargetConfidence

LABELS = [*NAMES, *KEPT]
CONFIG = config(model={"person_channels": 8}, opponent={"regions": [[0, 8, 32, 24]]})
CONFIDENCES = [TargetConfidence(len(LABELS), CONFIG.loss.confidence_margin) for _ in objective.CLASSIFIERS]


@pytest.fixture(scope="module")
def frozen():
    return features()


def make():
    torch.manual_seed(0)
    editor = Editor(CONFIG.model, 32, len(NAMES))
    return editor, objective.Opponent(CONFIG.opponent, len(LABELS))


def make_batch(count=8, change=True):
    generator = torch.Generator().manual_seed(0)
    labels = torch.where(torch.rand(count, len(LABELS), generator=generator) < 0.5, 1.0, -1.0)
    rules = requests.Rules.of(NAMES, KEPT)
    requested = requests.draw(labels, torch.full((len(LABELS),), 0.5), rules, count, slice(None), 0)
    if not change:
        nothing = torch.zeros_like(labels)
        requested = replace(
            requested, change=torch.zeros_like(requested.change), target=labels, weight=nothing, kept=labels < 2
        )
    image = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    return objective.Batch(image, labels, *torch.ones(3, count, 1, 32, 32), requested, Views.draw(count, 0, 0))


def silent(module):
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_everything_that_is_trained_receives_a_gradient(frozen):
    editor, opponent = make()
    with torch.no_grad():  # inside both margins the hinge's pull on the last biases would cancel exactly
        for head in [*opponent.critic.heads, *opponent.region_critics[0].heads]:
            head.patches.bias.fill_(2.0)
    batch = make_batch()
    opponent.requires_grad_(False)
    total, parts, seen = objective.editor_loss(editor, opponent, frozen, batch, CONFIDENCES, CONFIG, step=10**6)
    total.backward()
    assert set(parts) == {"edit", "keep", "adversarial", "adversarial_0", "change", "outside", "mask", "flow", "person"}
    assert silent(editor) == []
    opponent.requires_grad_(True)
    reach = torch.linspace(0, 1, 8)
    frequencies = torch.full((len(LABELS),), 0.5)
    total, parts, _ = objective.opponent_loss(opponent, batch, seen, frequencies, reach, CONFIG)
    total.backward()
    assert set(parts) == {"classifier", "robust", "critic", "critic_0"}
    assert silent(opponent) == []


def test_anchored_edits_are_those_of_the_reference(frozen):
    editor, opponent = make()
    torch.manual_seed(1)
    other = Editor(CONFIG.model, 32, len(NAMES))
    batch = make_batch()
    edited, _ = objective.edit(editor, batch.image, batch.requests.change)
    assert objective.anchor_loss(edited, editor, batch) == 0
    distance = (edited - objective.edit(other, batch.image, batch.requests.change)[0]).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(objective.anchor_loss(edited, other, batch), distance.mean())
    half = torch.arange(8) < 4
    partly = replace(batch, requests=replace(batch.requests, anchored=half))
    torch.testing.assert_close(objective.anchor_loss(edited, other, partly), (distance * half).mean())
    none = replace(batch, requests=replace(batch.requests, anchored=half & ~half))
    assert objective.anchor_loss(edited, other, none) == 0
    _, parts, _ = objective.editor_loss(editor, opponent, frozen, partly, CONFIDENCES, CONFIG, 0, reference=other)
    assert parts["anchor"] > 0


def test_without_edits_the_critic_does_not_learn(frozen):
    _, opponent = make()
    batch = make_batch()
    seen = objective.real_inputs(frozen, batch, CONFIG)
    frequencies = torch.full((len(LABELS),), 0.5)
    total, parts, _ = objective.opponent_loss(opponent, batch, seen, frequencies, torch.ones(8), CONFIG)
    total.backward()
    assert "critic" not in parts
    assert silent(opponent.classifier) == silent(opponent.robust) == []
    assert all(p.grad is None for p in [*opponent.critic.parameters(), *opponent.region_critics.parameters()])


def test_an_edit_that_changes_nothing_keeps_everything_and_reaches_nowhere(frozen):
    editor, opponent = make()
    _, parts, _ = objective.editor_loss(editor, opponent, frozen, make_batch(change=False), CONFIDENCES, CONFIG, step=0)
    assert parts["keep"].item() == pytest.approx(0, abs=1e-5)
    assert parts["change"].item() == pytest.approx(0, abs=1e-5)
    assert parts["mask"].item() == 0


def test_change_counts_as_outside_where_edits_may_not_reach(frozen):
    editor, opponent = make()
    batch = make_batch()
    _, parts, _ = objective.editor_loss(editor, opponent, frozen, batch, CONFIDENCES, CONFIG, step=0)
    assert parts["outside"].item() == 0
    nowhere = replace(batch, allowed=0 * batch.allowed)
    _, parts, _ = objective.editor_loss(editor, opponent, frozen, nowhere, CONFIDENCES, CONFIG, step=0)
    assert parts["outside"].item() == pytest.approx(parts["change"].item())


def test_kept_loss_is_the_divergence_of_two_beliefs():
    before, after = torch.tensor([[0.0, 2.0]]), torch.tensor([[0.0, -1.0]])
    p, q = torch.sigmoid(before[0, 1]), torch.sigmoid(after[0, 1])
    divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert objective.kept_loss(after, before, torch.ones(1, 2)).item() == pytest.approx(divergence.item() / 2, rel=1e-5)
    assert objective.kept_loss(after, before, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0, abs=1e-7)


def test_the_hinge_is_2_for_a_blind_critic_and_0_for_a_sure_one():
    blind, sure, wrong = [torch.zeros(3, 4)] * 2, [torch.full((3, 4), 2.0)] * 2, [torch.full((3, 4), -2.0)] * 2
    assert critic.hinge_critic(blind, blind).item() == 2
    assert critic.hinge_critic(sure, wrong).item() == 0
    assert critic.hinge_editor(sure).item() == -2


def test_every_head_counts_the_same_however_many_patches_it_has():
    real = [torch.zeros(2, 100), torch.full((2, 1), 1.0)]
    assert critic.hinge_critic(real, [torch.full((2, 100), -1.0), torch.full((2, 1), -1.0)]).item() == 0.5


def test_the_critic_is_told_the_attributes(frozen):
    _, opponent = make()
    found = frozen(torch.rand(2, 3, 32, 32) * 2 - 1)
    labels = torch.ones(2, len(LABELS))
    for one, other in zip(opponent.critic(found, labels), opponent.critic(found, -labels), strict=True):
        assert (one - other).abs().max() > 0


def test_neighbours_are_seen_at_one_place_and_parts_see_what_the_whole_sees():
    image = torch.rand(16, 3, 32, 32)
    views = Views.draw(16, 8, seed=3)
    seen = crop(image, views, 24)
    assert seen.shape == (16, 3, 24, 24)
    for row in range(16):
        top, left = views.corners[row].tolist()
        assert torch.equal(seen[row], image[row, :, top : top + 24, left : left + 24])
    part = slice(4, 12)
    assert torch.equal(crop(image[part], views.part(part), 24), seen[part])
    torch.testing.assert_close(degrade(seen, views, 12)[part], degrade(seen[part], views.part(part), 12))
    assert len({tuple(corner) for corner in views.corners.tolist()}) > 1


def test_edits_to_what_most_faces_show_have_their_own_margin():
    weights = CONFIG.loss.model_copy(update={"confidence_margin": 1.0, "usual_margin": 0.25})
    margins = objective.confidence_margins(torch.tensor([0.04, 0.83]), weights)  # a moustache, no beard
    torch.testing.assert_close(margins, torch.tensor([[0.25, 1.0], [1.0, 0.25]]))


@pytest.mark.parametrize("face", [(0.6, 0.2, 0.0), (-0.3, -0.56, -0.68)], ids=["light", "dark"])
def test_a_bald_head_has_the_colour_of_its_face_and_may_be_lighter_or_darker(face):
    batch = make_batch(count=2)
    skin, red = (torch.tensor(colour)[None, :, None, None] for colour in (face, (0.6, -0.4, -0.6)))
    image = torch.full((2, 3, 32, 32), -0.8)
    left, top, right, bottom = box = objective.cheeks(CONFIG)
    image[:, :, top:bottom, left:right] = skin
    scalp = torch.zeros(2, 1, 32, 32)
    scalp[0, :, :8] = 1  # the second head keeps its hair
    batch = replace(batch, image=image, scalp=scalp)

    def loss(colour):
        edited = image.clone()
        edited[:, :, :8] = colour
        return objective.scalp_loss(edited.requires_grad_(), batch, box).item()

    darker, lighter = (2 * (factor * (0.5 * (skin + 1))) - 1 for factor in (0.6, 1.2))
    assert loss(skin) == 0
    assert max(loss(darker), loss(lighter)) < 0.01 < 0.1 < loss(red)
    assert objective.scalp_loss(image, batch, box).item() == 0  # nothing changed


def test_what_is_drawn_counts_where_hair_is_dyed(frozen):
    editor, opponent = make()
    settings = CONFIG.model_copy(update={"loss": CONFIG.loss.model_copy(update={"dye": 1.0})})
    batch = make_batch(count=4)

    def loss(*dyes, drawn=1.0):
        requested = replace(batch.requests, dyes=torch.tensor(dyes))
        editor.requires_grad_(False)
        editor.sharp.bias[:12] = drawn  # of the residual's logits
        _, parts, _ = objective.editor_loss(
            editor, opponent, frozen, replace(batch, requests=requested), CONFIDENCES, settings, step=0
        )
        return parts["dye"].item()

    assert loss(False, False, False, False) == 0
    one, all_four = loss(True, False, False, False), loss(True, True, True, True)
    assert 0 < one < all_four
    assert loss(True, True, True, True, drawn=3.0) > all_four


def test_cheeks_are_between_eyes_and_mouth():
    left, top, right, bottom = objective.cheeks(CONFIG)
    (eye_left, eye, *_), mouth = objective.in_frame(CONFIG)[0].tolist(), objective.in_frame(CONFIG)[3:, 1].mean()
    assert eye < top < bottom < mouth
    assert left == round(eye_left) < right < 32
