"""Metrics of a test's own."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())
