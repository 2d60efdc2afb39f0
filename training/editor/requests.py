"""What edits are asked for in a step, and how the edited pictures should look."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training import attributes as attribute_rules
from training import losses

_SECOND_PROBABILITY = 0.2
_PARTIAL_PROBABILITY = 0.2
_RAREST = 0.03  # attributes that are rarer are asked for as if this was their share
# An estimate of what a face shows is seldom plain, so what is asked of the editor to go all the way is less than all.
_LEAST_FULL_CHANGE = 0.85


@dataclass(frozen=True)
class Rules:
    """Which of K labels can be edited, and what goes with what."""

    editable: Tensor  # bool [K]
    taken_away: Tensor  # bool [K, K]: row k marks what adding attribute k takes away
    switched_off: Tensor  # bool [K, K]: of these those of its exclusive group, which the editor is told
    may_change: Tensor  # bool [K, K]: row k marks what an edit of attribute k may change along with it

    @staticmethod
    def of(attributes: list[str], kept: list[str]) -> Rules:
        names = [*attributes, *kept]
        return Rules(
            torch.tensor([name in attributes for name in names]),
            attribute_rules.taken_away_matrix(names),
            attribute_rules.exclusion_matrix(names),
            attribute_rules.may_change_matrix(names),
        )


@dataclass(frozen=True)
class Requests:
    """Edits of N pictures with K labels, of which the first E can be edited."""

    change: Tensor  # f32 [N, E], what the editor is told
    target: Tensor  # f32 [N, K], labels in -1..1 that the edited picture should have
    asked: Tensor  # f32 [N, K], what each attribute weighs in "was it done?"
    kept: Tensor  # bool [N, K], what must look as before

    def part(self, rows: slice) -> Requests:
        return Requests(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> Requests:
        return Requests(*(value.to(device) for value in vars(self).values()))


def draw(labels: Tensor, frequencies: Tensor, rules: Rules, count: int, rows: slice, seed: int) -> Requests:
    """Requests for the pictures `rows` of a batch of `count`, on the CPU; the same seed gives the same requests.

    `labels` f32 [N, K] in {-1, +1} are those of these pictures, `frequencies` f32 [K] the shares of +1 in the data. One
    attribute of each picture is inverted, rare values as often as common ones, in a fifth of them a second one, and a
    fifth of the edits is partial. Adding one hair colour takes away the others.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(count, 2, generator=generator)[rows]
    once = torch.rand(count, 1, generator=generator)[rows] >= _SECOND_PROBABILITY
    partial = torch.rand(count, 1, generator=generator)[rows] < _PARTIAL_PROBABILITY
    amount = torch.rand(count, 1, generator=generator)[rows]
    share = torch.where(labels > 0, frequencies, 1 - frequencies).clamp(min=_RAREST)  # [N, K]
    chosen = losses.choose(rules.editable / share, chance)  # [N, 2]
    chosen = torch.where(once, chosen[:, :1], chosen)
    flips = torch.zeros(labels.shape, dtype=torch.bool).scatter_(1, chosen, True)
    return of_flips(labels, flips, torch.where(partial, amount, 1.0), rules, slack=amount)


def of_flips(labels: Tensor, flips: Tensor, strength: Tensor, rules: Rules, slack: Tensor | None = None) -> Requests:
    """Requests that invert what `flips` bool [N, K] marks, `strength` f32 [N, 1] of the way.

    With `slack` f32 [N, 1] in 0..1 full edits are asked for with a change that is up to 15% smaller.
    """
    added = (flips & (labels < 0)).float()  # [N, K]
    present = labels > 0
    gone = ((added @ rules.taken_away.float()) > 0) & present & ~flips  # [N, K]: what an addition takes away,
    off = ((added @ rules.switched_off.float()) > 0) & gone  # and of that what the editor is told
    target = torch.where(flips | gone, labels * (1 - 2 * strength), labels)
    size = strength if slack is None else torch.where(strength < 1, strength, 1 - (1 - _LEAST_FULL_CHANGE) * slack)
    change = torch.where(flips | off, -labels * size, 0.0)
    free = ((flips.float() @ rules.may_change.float()) > 0) | gone
    # Those switched off must not outweigh the one that was asked for.
    return Requests(change[:, rules.editable], target, torch.where(flips, 1.0, 0.5 * off.float()), ~flips & ~free)
