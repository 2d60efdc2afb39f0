"""A service that finds two faces."""

from __future__ import annotations

import pytest

from service.faces.finder import FaceFinder
from tests.service.api.helpers import Pair
from tests.service.fakes import TestClient


@pytest.fixture
def seeing(client: TestClient) -> TestClient:
    client.app.state.service.faces = FaceFinder(Pair())
    return client
