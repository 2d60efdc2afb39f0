"""Which edits a step requests, and which labels the edited pictures should have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training import attributes as attribute_rules
from training import losses
from training.config import RequestsConfig

_DEFAULT = RequestsConfig()


@dataclass(frozen=True)
class Rules:
    """Which of K labels can be edited, and what goes with what."""

    editable: Tensor  # bool [K]
    taken_away: Tensor  # bool [K, K]: row k marks what adding attribute k takes away
    removed_along: Tensor  # bool [K, K]: row k marks what removing attribute k takes away
    switched_off: Tensor  # bool [K, K]: of what adding takes away, its exclusive group, of which the editor is told
    may_change: Tensor  # bool [K, K]: row k marks what an edit of attribute k may change along with it
    no_effect_on: Tensor  # bool [K, K]: row k marks what makes adding attribute k change nothing
    rare: Tensor  # f32 [2, K, K]: labels of faces from which attribute k is not removed, and to which it is not added
    facial: Tensor  # bool [K]: attributes of the face alone
    light: Tensor  # bool [K]: light hair or skin
    bare: Tensor  # bool [K]: attributes that show the skin of the head where hair was
    dark_hair: Tensor  # bool [K]: attributes that darken most hair
    emphasis: Tensor  # f32 [K]: how much more often than others each is requested

    @staticmethod
    def of(
        attributes: list[str],
        kept: list[str],
        groups: attribute_rules.Groups = None,
        config: RequestsConfig = _DEFAULT,
    ) -> Rules:
        names = [*attributes, *kept]
        return Rules(
            torch.tensor([name in attributes for name in names]),
            attribute_rules.taken_away_matrix(names, groups),
            attribute_rules.removal_takes_away_matrix(names),
            attribute_rules.exclusion_matrix(names, groups),
            attribute_rules.may_change_matrix(names),
            attribute_rules.no_effect_matrix(names),
            attribute_rules.rare_values(names),
            attribute_rules.facial(names),
            attribute_rules.light(names),
            attribute_rules.bare(names),
            attribute_rules.dark_hair(names),
            torch.tensor([config.emphasis.get(name, 1.0) for name in names]),
        )


@dataclass(frozen=True)
class Requests:
    """Edits of N pictures with K labels, of which the first E can be edited."""

    change: Tensor  # f32 [N, E], what the editor is told
    target: Tensor  # f32 [N, K], labels in -1..1 that the edited picture should have
    weight: Tensor  # f32 [N, K], of each attribute in the loss "edit"
    kept: Tensor  # bool [N, K], what must look as before
    anchored: Tensor  # bool [N], edits of no attribute that is emphasised
    facial: Tensor  # bool [N], edits of the face alone
    light: Tensor  # bool [N], light hair or skin is there, or should be
    bares: Tensor  # bool [N], edits all the way that show the skin of the head where hair was
    dyes: Tensor  # bool [N], edits that make hair dark

    def part(self, rows: slice) -> Requests:
        return Requests(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> Requests:
        return Requests(*(value.to(device) for value in vars(self).values()))


def draw(
    labels: Tensor,
    frequencies: Tensor,
    rules: Rules,
    count: int,
    rows: slice,
    seed: int,
    config: RequestsConfig = _DEFAULT,
) -> Requests:
    """Requests for the pictures `rows` of a batch of `count`, on the CPU; the same seed gives the same requests.

    `labels` f32 [N, K] in {-1, +1} are those of these pictures, `frequencies` f32 [K] the shares of +1 in the data. One
    attribute of each picture is inverted, rare values as often as common ones, in some of them a second one, and some
    edits are partial. Adding one hair colour takes away the others.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(count, 2, generator=generator)[rows]
    once = torch.rand(count, 1, generator=generator)[rows] >= config.second
    partial = torch.rand(count, 1, generator=generator)[rows] < config.partial
    amount = torch.rand(count, 1, generator=generator)[rows]
    share = torch.where(labels > 0, frequencies, 1 - frequencies).clamp(min=config.rarest)  # [N, K]
    present = labels > 0
    never_removed, never_added = (labels[:, None] == rules.rare[:, None]).any(dim=3)  # 2 x [N, K]
    never = torch.where(present, never_removed, never_added)  # [N, K]
    chosen = losses.choose(rules.editable * rules.emphasis * ~never / share, chance)  # [N, 2]
    chosen = torch.where(once, chosen[:, :1], chosen)
    flips = torch.zeros(labels.shape, dtype=torch.bool).scatter_(1, chosen, True)
    return of_flips(labels, flips, torch.where(partial, amount, 1.0), rules, config, slack=amount)


def of_flips(
    labels: Tensor,
    flips: Tensor,
    strength: Tensor,
    rules: Rules,
    config: RequestsConfig = _DEFAULT,
    slack: Tensor | None = None,
) -> Requests:
    """Requests that invert what `flips` bool [N, K] marks, `strength` f32 [N, 1] of the way.

    With `slack` f32 [N, 1] in 0..1 full edits are requested with a smaller change, of `least_full_change` at least.
    """
    present = labels > 0
    told, flips = flips, flips & (present | ~_has_any(present, rules.no_effect_on))
    added, removed = (flips & ~present).float(), (flips & present).float()  # [N, K]
    taken = (added @ rules.taken_away.float()) > 0
    along = ((removed @ rules.removed_along.float()) > 0) & present & ~flips
    gone = taken & present & ~flips | along  # [N, K]: what goes with the edit,
    off = ((added @ rules.switched_off.float()) > 0) & gone  # and of that what the editor is told
    target = torch.where(flips | gone, labels * (1 - 2 * strength), labels)
    size = (
        strength if slack is None else torch.where(strength < 1, strength, 1 - (1 - config.least_full_change) * slack)
    )
    change = torch.where(told | off, -labels * size, 0.0)
    free = ((flips.float() @ rules.may_change.float()) > 0) | gone
    # Those switched off must not outweigh the one that was requested.
    return Requests(
        change[:, rules.editable],
        target,
        torch.where(flips, 1.0, config.taken_away * (off | along).float()),
        ~flips & ~free,
        ~(told & (rules.emphasis != 1)).any(1),
        ~(told & ~rules.facial).any(1),
        (torch.maximum(labels, target) > -1)[:, rules.light].any(1),
        ((target == 1) & ~present)[:, rules.bare].any(1),
        (flips & ~present)[:, rules.dark_hair].any(1),
    )


def _has_any(present: Tensor, table: Tensor) -> Tensor:
    """Which rows of `table` bool [K, K] mark an attribute that is `present` bool [N, K]; bool [N, K]."""
    return (present.float() @ table.float().T) > 0
