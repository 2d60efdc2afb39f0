"""Replicas behind nginx, as deploy/nginx configures it: clients see nothing of one that is restarted or dies."""

from __future__ import annotations

import shutil
import signal

import pytest

from benchmarks import replicas
from tests.deploy.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[replicas.Disruption, replicas.Disruption]:
    pytest.importorskip("onnxruntime")
    bundles = tmp_path_factory.mktemp("bundles")
    shutil.copytree(ROOT / "bundles" / "celeba64", bundles / "celeba64")
    return replicas.disrupt(bundles, replicas.requests_of(bundles / "celeba64"))


def test_a_rolling_restart_loses_nothing(scenes):
    restarted, _ = scenes
    assert set(restarted.statuses) == {200}
    assert restarted.exits == [0, 0]


def test_a_replica_that_is_killed_loses_nothing_for_another_does_its_work(scenes):
    _, killed = scenes
    assert killed.exits == [-signal.SIGKILL]
    assert set(killed.statuses) == {200}
    assert killed.repeated > 0
