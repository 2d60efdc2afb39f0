"""One step's losses: what the editor pays, and what its opponent pays. Pictures are f32 [N, 3, S, S] in -1..1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import losses
from training.adversarial import worst_case
from training.config import EditorConfig, EditorLossConfig, EditorOpponentConfig
from training.editor import critic as critics
from training.editor.classifiers import FeatureClassifier, RobustClassifier
from training.editor.critic import Critic
from training.editor.features import CHANNELS, Features
from training.editor.model import EditFields, Editor, apply_fields
from training.editor.requests import Requests
from training.editor.views import Views, crop, degrade
from training.target_confidence import TargetConfidence

CLASSIFIERS = ("classifier", "robust")  # of the opponent
_TINY = 1e-8  # a root has no gradient at 0
_DARK = 0.1  # of grey light added to three values in 0..1, since the colour of what is nearly black is noise
_SAME_COLOUR = 0.03  # distance of chromaticities that a real head shows as well, between highlights and shadows


class Opponent(nn.Module):
    """Critic and both classifiers, trained along with the editor and never exported. The features are not part of it,
    since nothing in them is trained."""

    def __init__(self, config: EditorOpponentConfig, label_count: int) -> None:
        super().__init__()
        self.critic = Critic(CHANNELS, label_count, config.critic_width)
        self.region_critics = nn.ModuleList(Critic(CHANNELS, label_count, config.critic_width) for _ in config.regions)
        self.classifier = FeatureClassifier(config.crop, label_count, config.classifier_width)
        self.robust = RobustClassifier(config.robust_channels, config.robust_size, label_count)


@dataclass(frozen=True)
class Batch:
    """Pictures `image`, their `labels` f32 [N, K] in {-1, +1}, `person` f32 [N, 1, S, S], 1 on the person or close by,
    `allowed` f32 [N, 1, S, S], 1 where edits may reach, `scalp` f32 [N, 1, S, S], 1 where a head may be that becomes
    bald, the requested edits, and the augmented views that the opponent sees."""

    image: Tensor
    labels: Tensor
    person: Tensor
    allowed: Tensor
    scalp: Tensor
    requests: Requests
    views: Views

    def part(self, rows: slice) -> Batch:
        return Batch(*(v.part(rows) if hasattr(v, "part") else v[rows] for v in vars(self).values()))


class OpponentInputs(NamedTuple):
    """What the opponent learns from, without gradients: features of the pictures and of their edits, first those of
    the whole, then those of each region, and what both classifiers say of the pictures, f32 [N, K] each."""

    real: list[list[Tensor]]
    edited: list[list[Tensor]]
    logits: list[Tensor]


def confidence_margins(frequencies: Tensor, weights: EditorLossConfig) -> Tensor:
    """The margin of each attribute's removal and addition in logits, f32 [2, K], from shares of +1 f32 [K].

    What most faces show needs no emphasis to be seen: with it, thinned eyebrows vanish.
    """
    usual = torch.stack([frequencies < 0.5, frequencies >= 0.5])
    return torch.where(usual, weights.usual_margin, weights.confidence_margin)


def edit(editor: Editor, image: Tensor, change: Tensor) -> tuple[Tensor, EditFields]:
    """The edited pictures, f32 [N, 3, S, S] in -1..1, and their fields."""
    unit = 0.5 * (image + 1)
    fields = editor(unit, change)
    return 2 * apply_fields(unit, fields).clamp(0, 1) - 1, fields


def editor_loss(
    editor: Editor,
    opponent: Opponent,
    features: Features,
    batch: Batch,
    confidences: list[TargetConfidence],
    config: EditorConfig,
    step: int,
    reference: Editor | None = None,
) -> tuple[Tensor, dict[str, Tensor], OpponentInputs]:
    """The editor's loss, its parts for logging, and the inputs of the opponent's step.

    `step` counts from the editor's first. `confidences` are those of the two classifiers, `reference` is the editor
    that the run began with, if edits are anchored to it.
    """
    weights, requests, views = config.loss, batch.requests, batch.views
    with torch.no_grad():
        views_real = crop(batch.image, views, config.opponent.crop)
        real = extract_features(features, batch.image, views_real, config.opponent.regions)
        before = [
            opponent.classifier(real[0]),
            opponent.robust(degrade(views_real, views, config.opponent.robust_size)),
        ]  # 2 x [N, K]
    edited, fields = edit(editor, batch.image, requests.change)
    views_edited = crop(edited, views, config.opponent.crop)
    found = extract_features(features, edited, views_edited, config.opponent.regions)
    after = [opponent.classifier(found[0]), opponent.robust(degrade(views_edited, views, config.opponent.robust_size))]
    change = (edited - batch.image).abs()
    parts = {
        "edit": _mean(
            losses.attribute_loss(logits, confidence.of(requests.target), requests.weight)
            for logits, confidence in zip(after, confidences, strict=True)
        ),
        "keep": _mean(kept_loss(now, then, requests.kept.float()) for now, then in zip(after, before, strict=True)),
        "adversarial": critics.hinge_editor(opponent.critic(found[0], requests.target)),
        "change": change.mean(),
        "outside": (change * (1 - batch.allowed)).mean(),
        "mask": fields.mask.mean(),
        "flow": fields.flow.square().sum(1).add(_TINY).sqrt().mean(),
    }
    if fields.person is not None:
        parts["person"] = F.binary_cross_entropy_with_logits(fields.person, batch.person)
    if reference is not None:
        parts["anchor"] = anchor_loss(edited, reference, batch)
    if weights.scalp:
        parts["scalp"] = scalp_loss(edited, batch, cheeks(config))
    if weights.dye:
        drawn = (fields.mask * fields.residual).abs().mean((1, 2, 3))  # [N]
        parts["dye"] = (drawn * requests.dyes).mean()
    for number, critic in enumerate(opponent.region_critics):
        parts[f"adversarial_{number}"] = critics.hinge_editor(critic(found[1 + number], requests.target))
    regions = sum(parts[f"adversarial_{number}"] for number in range(len(opponent.region_critics)))
    ramp = losses.ramp(step, weights.warmup_steps)
    total = (
        weights.edit * parts["edit"]
        + weights.keep * parts["keep"]
        + weights.adversarial * (parts["adversarial"] + weights.region * regions)
        + ramp * weights.change * parts["change"]
        + ramp * weights.outside * parts["outside"]
        + ramp * weights.mask * parts["mask"]
        + ramp * weights.flow * parts["flow"]
    )
    for name, weight in (
        ("person", weights.person),
        ("anchor", weights.anchor),
        ("scalp", weights.scalp),
        ("dye", weights.dye),
    ):
        if name in parts:
            total = total + weight * parts[name]
    return total, parts, OpponentInputs(real, [[x.detach() for x in part] for part in found], before)


def person_loss(editor: Editor, batch: Batch) -> tuple[Tensor, dict[str, Tensor], None]:
    """What the editor learns before it edits: where the person is."""
    loss = F.binary_cross_entropy_with_logits(editor.find_person(0.5 * (batch.image + 1)), batch.person)
    return loss, {"person": loss}, None


def anchor_loss(edited: Tensor, reference: Editor, batch: Batch) -> Tensor:
    """The mean absolute difference of edits to those of another editor, 0 for edits that are not anchored; a scalar.

    What a network learned before is kept by its own answers (Li & Hoiem, "Learning without Forgetting", 2016). `edited`
    f32 [N, 3, S, S] are the pictures of `batch` after their edits.
    """
    rows = batch.requests.anchored
    if not rows.any():
        return edited.new_zeros(())
    with torch.no_grad():
        expected, _ = edit(reference, batch.image[rows], batch.requests.change[rows])
    return (edited[rows] - expected).abs().mean() * (rows.sum() / len(rows))


def cheeks(config: EditorConfig) -> tuple[int, int, int, int]:
    """The box between eyes and mouth, left, top, right, bottom in pixels of the model's image."""
    points = in_frame(config)
    (left, top), (right, bottom) = points.amin(0).tolist(), points.amax(0).tolist()
    quarter = (bottom - top) / 4
    return round(left), round(top + quarter), round(right), round(bottom - quarter)


def in_frame(config: EditorConfig) -> Tensor:
    """`data.landmarks` in pixels of the model's image, f32 [P, 2]."""
    left, top, right, _ = config.data.crop_box
    scale = config.data.image_size / (right - left)
    return (torch.tensor(config.data.landmarks) - torch.tensor([left, top])) * scale


def scalp_loss(edited: Tensor, batch: Batch, face: tuple[int, int, int, int]) -> Tensor:
    """How far the colour of what became bald is from that of the box `face` of the picture; a scalar.

    Most bald heads of the data are in bright light, and without this those that are drawn are red. Chromaticities are
    compared, so that a head may be lighter or darker than its face; pixels count by how much they changed.
    """
    left, top, right, bottom = face
    expected = _chromaticity(batch.image[:, :, top:bottom, left:right].mean((2, 3), keepdim=True))  # [N, 3, 1, 1]
    distance = F.relu((_chromaticity(edited) - expected).abs().sum(1, keepdim=True) - _SAME_COLOUR)
    changed = batch.scalp * (edited.detach() - batch.image).abs().mean(1, keepdim=True)
    axes = (1, 2, 3)
    return ((distance * changed).sum(axes) / changed.sum(axes).clamp(min=_TINY)).mean()


def _chromaticity(image: Tensor) -> Tensor:
    """Each channel's share of the light, f32 [N, 3, H, W], of pictures f32 [N, 3, H, W] in -1..1; of black a third."""
    unit = 0.5 * (image + 1)
    return (unit + _DARK / 3) / (unit.sum(1, keepdim=True) + _DARK)


def _mean(values) -> Tensor:
    return torch.stack(list(values)).mean()


def kept_loss(logits: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """How far attributes moved: the divergence KL(before || after) of each, in nats, averaged by `weight` f32 [N, K].

    Unlike a cross-entropy it is 0 where nothing changed, and its gradient is the same.
    """
    belief = torch.sigmoid(before)
    divergence = F.binary_cross_entropy_with_logits(
        logits, belief, reduction="none"
    ) - F.binary_cross_entropy_with_logits(before, belief, reduction="none")
    return ((divergence * weight).sum(1) / weight.sum(1).clamp(min=1.0)).mean()


def extract_features(
    features: Features, image: Tensor, view: Tensor, regions: list[tuple[int, int, int, int]]
) -> list[list[Tensor]]:
    """Features of `view` f32 [N, 3, C, C], a part of each picture, then of each region of `image` at twice its size."""
    found = [features(view)]
    for left, top, right, bottom in regions:
        region = image[:, :, top:bottom, left:right]
        found.append(features(F.interpolate(region, scale_factor=2.0, mode="bilinear", align_corners=False)))
    return found


def real_inputs(features: Features, batch: Batch, config: EditorConfig) -> OpponentInputs:
    """What the classifiers need before there are edits."""
    with torch.no_grad():
        return OpponentInputs([features(crop(batch.image, batch.views, config.opponent.crop))], [], [])


def opponent_loss(
    opponent: Opponent, batch: Batch, inputs: OpponentInputs, frequencies: Tensor, reach: Tensor, config: EditorConfig
) -> tuple[Tensor, dict[str, Tensor], None]:
    """The critic's loss, real pictures with their labels against edits with their targets, and both classifiers'.

    Without edits in `inputs` the critic does not learn. `frequencies` f32 [K] are the shares of +1 in the data, `reach`
    f32 [N] shares of the worst cases' radius.
    """
    classifier_loss = partial(losses.weighted_attribute_loss, labels=batch.labels, frequencies=frequencies)
    small = degrade(crop(batch.image, batch.views, config.opponent.crop), batch.views, config.opponent.robust_size)
    hard, _ = worst_case(opponent.robust, small, classifier_loss, config.opponent.robustness * reach)
    parts = {
        "classifier": classifier_loss(opponent.classifier(inputs.real[0])),
        "robust": classifier_loss(opponent.robust(hard)),
    }
    if inputs.edited:
        every = [opponent.critic, *opponent.region_critics]
        parts |= critics.hinge_of_all(every, inputs.real, batch.labels, inputs.edited, batch.requests.target)
    return sum(parts.values()), parts, None
