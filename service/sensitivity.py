"""Sensitive attributes: what the operator has not enabled is taken from nobody and told to nobody.

The model goes on estimating them, since what it would not know it could not keep as it is; the estimates stay inside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from service.bundle import Manifest
from service.problems import Problem, shown

_RULE = "is a sensitive attribute, which the operator of this service has not enabled (FACET_SENSITIVE_ATTRIBUTES)"


@dataclass(frozen=True)
class Withheld:
    """The sensitive attributes of a model that are not enabled, with their places in its vectors."""

    places: dict[str, int]

    @staticmethod
    def of(manifest: Manifest, enabled: bool | Collection[str]) -> Withheld:
        """`enabled` is all of them, none, or some by name."""
        if enabled is True:
            return Withheld({})
        some = enabled or ()
        rows = enumerate(manifest.attributes)
        return Withheld({a.name: place for place, a in rows if a.sensitive and a.name not in some})

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def refuse(self, vector: np.ndarray, field: str) -> None:
        """Raises a 403 Problem where `vector` f32 [K], which stands in `field`, says anything of them but NaN."""
        for name, place in self.places.items():
            if not np.isnan(vector[place]):
                raise _refusal(f"{field}.{name}", float(vector[place]), _RULE)

    def refuse_names(self, names: Iterable[str], field: str) -> None:
        """Raises a 403 Problem where one of `names` is one of them."""
        for name in names:
            if name in self.places:
                raise _refusal(field, name, f"{name} {_RULE}")


def unknown(enabled: bool | Collection[str], manifests: Iterable[Manifest]) -> list[str]:
    """What is enabled by name and is a sensitive attribute of no model: mistyped, most likely."""
    known = {attribute.name for manifest in manifests for attribute in manifest.attributes if attribute.sensitive}
    return [] if isinstance(enabled, bool) else sorted(set(enabled) - known)


def _refusal(field: str, value: float | str, rule: str) -> Problem:
    return Problem(403, f"{field}: {rule}", [{"field": field, "value": shown(value), "rule": rule}])
