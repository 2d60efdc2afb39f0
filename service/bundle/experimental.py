"""Experimental edits: directions that a model's evaluation found poor on photographs. They need `experimental=true`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from service.bundle.manifest import Manifest
from service.errors import invalid

_ALLOWED = "experimental=true allows it"


def refuse(
    manifest: Manifest, params: Iterable[tuple[str, str, object]], current: np.ndarray, edited: np.ndarray
) -> None:
    """Raises a 422 Problem if a requested attribute changes in an experimental direction.

    `params` lists the requested attributes: name, field of the request, and value. `current` and `edited` f32 [N, K]
    are the attributes of N faces before and after the edit. Attributes that only their exclusive group clears are not
    requested.
    """
    names = manifest.attribute_names
    for name, field, value in params:
        column = names.index(name)
        change = edited[:, column] - current[:, column]
        for direction, changed in (("added", (change > 0).any()), ("removed", (change < 0).any())):
            reason = manifest.attributes[column].experimental.get(direction)
            if changed and reason is not None:
                what = f"adding {name} to" if direction == "added" else f"removing {name} from"
                raise invalid(field, value, f"{what} a photograph is experimental: {reason}; {_ALLOWED}")


def refuse_edit(
    manifest: Manifest, params: np.ndarray, current: np.ndarray, edited: np.ndarray, field: str = "attributes"
) -> None:
    """As `refuse`, with the requested attributes as a vector f32 [K], NaN for the others, of a parameter `field`."""
    pairs = zip(manifest.attribute_names, params.tolist(), strict=True)
    named = [(name, f"{field}.{name}", value) for name, value in pairs if not np.isnan(value)]
    refuse(manifest, named, current, edited)
