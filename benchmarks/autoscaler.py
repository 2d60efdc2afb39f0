"""The algorithm of Kubernetes' HorizontalPodAutoscaler, as its documentation and `replica_calculator.go` describe it.

https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SYNC_SECONDS, TOLERANCE = 15.0, 0.1  # of the controller, unless its flags say otherwise


@dataclass(frozen=True)
class Rule:
    """At most that many pods, or that many percent, in so many seconds."""

    kind: str  # Pods or Percent
    value: int
    seconds: float

    def change(self, replicas: int) -> int:
        return self.value if self.kind == "Pods" else math.ceil(replicas * self.value / 100)


@dataclass(frozen=True)
class Behaviour:
    """Of one direction: the least daring recommendation of the last `window` seconds holds, and the widest rule."""

    window: float
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Policy:
    """What a HorizontalPodAutoscaler says: `targets` are averages over the pods, by metric, shares as 0 to 1."""

    least: int
    most: int
    targets: dict[str, float]
    up: Behaviour
    down: Behaviour
    sync_seconds: float = SYNC_SECONDS

    @staticmethod
    def read(path: Path) -> Policy:
        """Of the manifest of one."""
        spec = yaml.safe_load(path.read_text())["spec"]
        return Policy(
            spec["minReplicas"],
            spec["maxReplicas"],
            dict(_target(metric) for metric in spec["metrics"]),
            _behaviour(spec["behavior"]["scaleUp"]),
            _behaviour(spec["behavior"]["scaleDown"]),
        )


def _target(metric: dict[str, Any]) -> tuple[str, float]:
    if metric["type"] == "Resource":
        return metric["resource"]["name"], metric["resource"]["target"]["averageUtilization"] / 100
    value = str(metric["pods"]["target"]["averageValue"])
    return metric["pods"]["metric"]["name"], float(value[:-1]) / 1000 if value.endswith("m") else float(value)


def _behaviour(spec: dict[str, Any]) -> Behaviour:
    rules = tuple(Rule(each["type"], each["value"], each["periodSeconds"]) for each in spec["policies"])
    return Behaviour(spec["stabilizationWindowSeconds"], rules)


def proposal(values: list[float | None], target: float, replicas: int) -> int:
    """How many replicas one metric asks for; None stands for a pod that has no value yet.

    Such pods count as idle where there is too little, and as just right where there is too much.
    """
    known = [value for value in values if value is not None]
    if not known:
        return replicas
    ratio = sum(known) / len(known) / target
    missing = len(values) - len(known)
    filled = sum(known) + missing * (0.0 if ratio > 1 else target)
    again = filled / len(values) / target
    if abs(again - 1) <= TOLERANCE or (ratio > 1) != (again > 1):
        return replicas
    wanted = math.ceil(again * len(values) - 1e-9)
    return replicas if (wanted > replicas) != (again > 1) else wanted


@dataclass
class Autoscaler:
    """A HorizontalPodAutoscaler and its history of recommendations and changes."""

    policy: Policy
    _recommendations: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def wanted(self, now: float, replicas: int, values: dict[str, list[float | None]]) -> int:
        """The number of replicas to have from `now` (seconds) on, from the values of each pod by metric."""
        policy = self.policy
        recommended = max(proposal(values[name], target, replicas) for name, target in policy.targets.items())
        recommended = min(max(recommended, policy.least), policy.most)
        self._recommendations.append((now, recommended))
        least = min(count for time, count in self._recommendations if time >= now - policy.up.window)
        most = max(count for time, count in self._recommendations if time >= now - policy.down.window)
        wanted = min(max(replicas, least), most)
        if wanted > replicas:
            wanted = min(wanted, max(self._bound(now, replicas, rule, +1) for rule in policy.up.rules))
        elif wanted < replicas:
            wanted = max(wanted, min(self._bound(now, replicas, rule, -1) for rule in policy.down.rules))
        if wanted != replicas:
            self._changes.append((now, wanted - replicas))
        return wanted

    def _bound(self, now: float, replicas: int, rule: Rule, sign: int) -> int:
        """What that rule allows, counted from the replicas at the beginning of its period."""
        recent = sum(change for time, change in self._changes if time > now - rule.seconds and change * sign > 0)
        before = replicas - recent
        # Never the other way: changes of before may already be beyond what is allowed.
        return max(replicas, before + rule.change(before)) if sign > 0 else min(replicas, before - rule.change(before))
