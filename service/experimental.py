"""Edits that a model is not good at, by its own evaluation: photographs get them only where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from service.bundle import Manifest
from service.problems import invalid

_ALLOWED = "experimental=true allows it"


def refuse(manifest: Manifest, asked: Iterable[tuple[str, str, object]], shown: np.ndarray, after: np.ndarray) -> None:
    """Raises a 422 Problem where one of the attributes that are asked for moves in an experimental direction.

    `asked` has, of each, its name, the field that asks for it and the value there. `shown` f32 [N, K] moves to `after`
    f32 [N, K]. What a group switches off by itself is not asked for.
    """
    names = manifest.attribute_names
    for name, field, value in asked:
        place = names.index(name)
        moves = after[:, place] - shown[:, place]
        for direction, moved in (("added", (moves > 0).any()), ("removed", (moves < 0).any())):
            reason = manifest.attributes[place].experimental.get(direction)
            if moved and reason is not None:
                what = f"adding {name} to" if direction == "added" else f"removing {name} from"
                raise invalid(field, value, f"{what} a photograph is experimental: {reason}; {_ALLOWED}")


def refuse_edit(manifest: Manifest, asked: np.ndarray, shown: np.ndarray, after: np.ndarray) -> None:
    """As `refuse`, for the attributes that a vector f32 [K] asks for; NaN for the rest."""
    pairs = zip(manifest.attribute_names, asked.tolist(), strict=True)
    named = [(name, f"attributes.{name}", value) for name, value in pairs if not np.isnan(value)]
    refuse(manifest, named, shown, after)
