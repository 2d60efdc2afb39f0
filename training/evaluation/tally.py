"""What a judge sees after edits of single attributes: how often they show, and what else changes with them."""

from __future__ import annotations

import numpy as np

from training import attributes as attribute_rules

REMOVED, ADDED = 0, 1
DIRECTIONS = ("removed", "added")  # by index


def excused(names: list[str], groups: attribute_rules.Groups = None) -> np.ndarray:
    """bool [2, K, K]: what may change with an edit of attribute k in a direction and is no side effect of it.

    Only what adding ends by necessity: the other hair colours, and "no beard" where a beard or a moustache is added.
    """
    found = np.zeros((2, len(names), len(names)), dtype=bool)
    found[ADDED] = attribute_rules.exclusion_matrix(names, groups).numpy()
    if "No_Beard" in names:
        for name in _BEARDS & set(names):
            found[ADDED, names.index(name), names.index("No_Beard")] = True
    return found


_BEARDS = {"5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns"}


class EditTally:
    """What the judge sees after inverting attributes of pictures, picture by picture.

    `unedited_logits` f32 [N, K] are the judge's on the same pictures with nothing edited: reconstructions for raw
    decodes, the pictures themselves for edits of them. An attribute counts as seen above its threshold f32 [K].
    `no_side_effect` bool [2, K, K] says which others do not count, by direction; without it those of the same group.
    """

    def __init__(
        self,
        names: list[str],
        labels: np.ndarray,
        unedited_logits: np.ndarray,
        thresholds: np.ndarray | float = 0.0,
        no_side_effect: np.ndarray | None = None,
    ) -> None:
        self.names, self.present, self.thresholds = names, labels > 0, thresholds
        self.unedited_error = (unedited_logits > thresholds) != self.present
        if no_side_effect is None:
            no_side_effect = np.stack([attribute_rules.exclusion_matrix(names).numpy()] * 2)
        # The edited attribute itself is no side effect either.
        self.counted = ~(no_side_effect | np.eye(len(names), dtype=bool))
        self.done = np.full(labels.shape, np.nan)  # f64 [N, K]: 1 where the inversion of attribute k shows
        self.extra = np.full(labels.shape, np.nan)  # f64 [N, K]: share of the others wrong, beyond what was before
        self.matrix = np.full((2, len(names), len(names)), np.nan)  # that by direction, k, and each of the others

    def add(self, attribute: int, logits: np.ndarray, rows: np.ndarray | None = None) -> None:
        """`logits` f32 [M, K] after inverting `attribute` on the pictures int [M] `rows`, or on all of them."""
        rows = np.arange(len(self.present)) if rows is None else rows
        predicted, present = logits > self.thresholds, self.present[rows]
        self.done[rows, attribute] = predicted[:, attribute] != present[:, attribute]
        error = (predicted != present).astype(float) - self.unedited_error[rows]
        for direction, edited in ((REMOVED, present[:, attribute]), (ADDED, ~present[:, attribute])):
            others = self.counted[direction, attribute]
            if edited.any():
                self.extra[rows[edited], attribute] = error[edited][:, others].mean(1) if others.any() else 0
                self.matrix[direction, attribute, others] = error[edited][:, others].mean(0)

    def by_direction(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means f64 [K] of `values` f64 [N, K] over the pictures from which an attribute was removed, and added to."""
        return tuple(column_means(np.where(which, values, np.nan)) for which in (self.present, ~self.present))

    def report(self) -> dict:
        """Accuracy and side effects by attribute, where every picture had every attribute inverted."""
        removed, added = self.by_direction(self.done)
        measures = {
            # Weighted by how often each direction was requested: the share of all pictures on which the edit shows.
            "accuracy": self.done.mean(0),
            "balanced_accuracy": column_means(np.stack([added, removed])),
            "added": added,
            "removed": removed,
            "side_effects": self.extra.mean(0),
        }
        return {name: per_attribute(self.names, values) for name, values in measures.items()}

    def subgroup(self, rows: np.ndarray) -> dict:
        """Means over the pictures where bool [N] `rows` holds, and over all attributes."""
        return {"accuracy": float(self.done[rows].mean()), "side_effects": float(self.extra[rows].mean())}


def column_means(values: np.ndarray) -> np.ndarray:
    """Means over the rows that are not NaN; NaN for a column that has none."""
    known = ~np.isnan(values)
    return np.divide(np.nansum(values, axis=0), known.sum(0), out=np.full(values.shape[1], np.nan), where=known.any(0))


def per_attribute(names: list[str], values: np.ndarray) -> dict:
    """`values` f [K] by name, and their mean; NaN where nothing was measured."""
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    return {"mean": mean, "attributes": dict(zip(names, map(float, values), strict=True))}
