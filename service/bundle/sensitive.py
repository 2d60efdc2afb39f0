"""Sensitive attributes: the API neither accepts nor returns those that the operator has not enabled.

The model still estimates them, because an edit can keep only what was estimated. The estimates stay in the service.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from service.bundle.manifest import Manifest
from service.errors import Problem, printable

_RULE = "is a sensitive attribute, which the operator of this service has not enabled (FACET_SENSITIVE_ATTRIBUTES)"


@dataclass(frozen=True)
class DisabledAttributes:
    """The disabled sensitive attributes of a model, with their columns in attribute vectors."""

    columns: dict[str, int]

    @staticmethod
    def of(manifest: Manifest, enabled: bool | Collection[str]) -> DisabledAttributes:
        """`enabled` is True for all of them, False for none, or the names of some."""
        if enabled is True:
            return DisabledAttributes({})
        some = enabled or ()
        columns = enumerate(manifest.attributes)
        return DisabledAttributes({a.name: column for column, a in columns if a.sensitive and a.name not in some})

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def refuse(self, vector: np.ndarray, field: str) -> None:
        """Raises a 403 Problem if `vector` f32 [K], named `field` in errors, has a value but NaN for one of them."""
        for name, column in self.columns.items():
            if not np.isnan(vector[column]):
                raise _refusal(f"{field}.{name}", float(vector[column]), _RULE)

    def refuse_names(self, names: Iterable[str], field: str) -> None:
        """Raises a 403 Problem if one of `names` is disabled."""
        for name in names:
            if name in self.columns:
                raise _refusal(field, name, f"{name} {_RULE}")


def unknown(enabled: bool | Collection[str], manifests: Iterable[Manifest]) -> list[str]:
    """Names in `enabled` that are a sensitive attribute of no model, probably misspelled; sorted."""
    known = {attribute.name for manifest in manifests for attribute in manifest.attributes if attribute.sensitive}
    return [] if isinstance(enabled, bool) else sorted(set(enabled) - known)


def _refusal(field: str, value: float | str, rule: str) -> Problem:
    return Problem(403, f"{field}: {rule}", [{"field": field, "value": printable(value), "rule": rule}])
