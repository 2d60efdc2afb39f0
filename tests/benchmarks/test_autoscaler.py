"""The autoscaler decides as Kubernetes' documentation says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.autoscaler import Autoscaler, Behaviour, Policy, Rule, proposal

PATH = Path(__file__).parents[2] / "deploy" / "kubernetes" / "monitoring" / "autoscaler.yaml"
FREE = Behaviour(0, (Rule("Percent", 1000, 15),))
PLAIN = Policy(1, 100, {"cpu": 0.5}, up=FREE, down=Behaviour(0, (Rule("Percent", 100, 15),)))


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([200, 200], 100, 4),  # the documentation's own examples
        ([50, 50, 50, 50], 100, 2),
        ([105, 105], 100, 2),  # within a tenth nothing happens
        ([111, 111], 100, 3),
        ([300, None], 100, 3),  # who has no value yet counts as idle,
        ([150, None, None], 100, 3),  # and never turns the direction,
        ([40, 40, None], 100, 2),  # and as just right where there is too much
        ([None, None], 100, 2),
    ],
)
def test_what_a_metric_asks_for(values: list[float | None], target: float, expected: int):
    assert proposal(values, target, len(values)) == expected


def test_the_manifest_is_read():
    policy = Policy.read(PATH)
    assert (policy.least, policy.most) == (2, 10)
    assert policy.targets == {"facet_queue_fill": 0.1, "cpu": 0.7}
    assert policy.up == Behaviour(0, (Rule("Percent", 100, 30),))
    assert policy.down == Behaviour(300, (Rule("Pods", 1, 60),))


def test_the_metric_that_asks_for_most_decides_within_bounds():
    policy = dataclasses.replace(PLAIN, targets={"cpu": 0.5, "queue": 0.1}, most=7)
    assert Autoscaler(policy).wanted(0, 2, {"cpu": [0.2, 0.2], "queue": [0.3, 0.3]}) == 6
    assert Autoscaler(policy).wanted(0, 2, {"cpu": [0.5, 0.5], "queue": [1.0, 1.0]}) == 7


def test_it_grows_no_faster_than_its_rule():
    autoscaler = Autoscaler(dataclasses.replace(PLAIN, up=Behaviour(0, (Rule("Percent", 100, 30),))))
    replicas, seen = 2, []
    for now in (0, 15, 30, 45, 60):
        replicas = autoscaler.wanted(now, replicas, {"cpu": [1.0] * replicas})
        seen.append(replicas)
    assert seen == [4, 4, 8, 8, 16]


def test_it_shrinks_after_its_window_one_by_one():
    down = Behaviour(300, (Rule("Pods", 1, 60),))
    autoscaler = Autoscaler(dataclasses.replace(PLAIN, down=down))
    assert autoscaler.wanted(0, 4, {"cpu": [0.5] * 4}) == 4
    replicas, changes = 4, []
    for now in range(15, 600, 15):
        wanted = autoscaler.wanted(now, replicas, {"cpu": [0.01] * replicas})
        if wanted != replicas:
            changes.append((now, wanted))
        replicas = wanted
    assert changes == [(315, 3), (375, 2), (435, 1)]
