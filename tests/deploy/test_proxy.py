"""Replicas behind nginx, as deploy/nginx configures it: clients see nothing of one that is restarted or dies."""

from __future__ import annotations

import re
import shutil
import signal

import pytest

from benchmarks import replicas
from benchmarks.workloads import facet_workloads
from service.settings import Settings
from tests.deploy.conftest import ROOT

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def directive(name: str) -> float:
    """A number of the shipped configuration, in bytes or seconds."""
    text = replicas.CONFIGURATION.read_text(encoding="utf-8")
    (number, unit) = re.search(rf"^ *{name} (\d+)([sm]);$", text, flags=re.MULTILINE).groups()
    return int(number) * {"s": 1, "m": 2**20}[unit]


def test_nginx_leaves_limits_to_the_service():
    settings = Settings()
    assert directive("client_max_body_size") > settings.max_body_bytes
    assert directive("proxy_read_timeout") > settings.request_timeout
    assert directive("keepalive_timeout") < settings.keep_alive


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[replicas.Disruption, replicas.Disruption]:
    pytest.importorskip("onnxruntime")
    bundle = tmp_path_factory.mktemp("bundles") / "celeba64"
    shutil.copytree(ROOT / "bundles" / "celeba64", bundle)
    return replicas.disrupt(bundle, facet_workloads(bundle)["mixed"])


@needs_nginx
@pytest.mark.slow
def test_a_rolling_restart_loses_nothing(scenes):
    restarted, _ = scenes
    assert set(restarted.statuses) == {200}
    assert restarted.exits == [0, 0]


@needs_nginx
@pytest.mark.slow
def test_a_replica_that_is_killed_loses_nothing_for_another_does_its_work(scenes):
    _, killed = scenes
    assert killed.exits == [-signal.SIGKILL]
    # Whose answer was on its way when it was killed is beyond saving.
    assert killed.statuses.total() - killed.statuses[200] == killed.statuses[0] == killed.cut
    assert killed.repeated > 0
