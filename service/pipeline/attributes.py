"""Attribute values of a request as vectors of its model, without those that the operator has disabled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from service.bundle import vectors
from service.bundle.vectors import AttributeValues
from service.pipeline.pipeline import ModelLease


def targets(lease: ModelLease, values: Mapping[str, AttributeValues]) -> list[np.ndarray]:
    """f32 [K] for each parameter by its name: what a face is to show, NaN for what it leaves out.

    Raises Problem 422, or 403 for a sensitive attribute that is disabled.
    """
    return [_vector(lease, each, field, exclusive=True) for field, each in values.items()]


def known(lease: ModelLease, values: AttributeValues | None, field: str = "source_attributes") -> np.ndarray:
    """f32 [K] of the parameter `field`: what a face shows already, NaN where nothing is known. Raises as `targets`."""
    return _vector(lease, values or {}, field, exclusive=False)


def _vector(lease: ModelLease, values: AttributeValues, field: str, exclusive: bool) -> np.ndarray:
    manifest, disabled = lease.model.manifest, lease.model.disabled
    if vectors.is_celeba(values, manifest):
        values, ignored = vectors.from_celeba(values, manifest, disabled)
        lease.context.ignored_attributes |= dict.fromkeys(ignored)
    vector = vectors.attribute_vector(values, manifest, field, exclusive)
    disabled.refuse(vector, field)
    return vector
