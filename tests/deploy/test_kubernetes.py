"""The manifests follow Kubernetes' own schemas, fit each other, and fit the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.api import health
from service.settings import PREFIX, Settings
from tests.deploy import kustomize
from tests.deploy.conftest import DEPLOY, Exposed, needs_promtool, promtool
from tests.deploy.test_rules import check

KUBERNETES = DEPLOY / "kubernetes"
ADAPTER = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
OVERLAYS = ("base", "overlays/cpu", "overlays/gpu")
VERSIONS = ("1.30", "1.37")  # from the first that knows `sleep` to the newest
OWN_SCHEMA = {"PodMonitor"}  # of the Prometheus operator


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Every manifest by its kind."""
    found = kustomize.build(KUBERNETES / request.param)
    assert len({each["kind"] for each in found}) == len(found)
    return {each["kind"]: each for each in found}


@pytest.fixture
def pod(manifests) -> dict[str, Any]:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod) -> dict[str, Any]:
    (only,) = pod["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
def test_a_manifest_follows_the_schema_strictly(manifests, version: str):
    for kind in set(manifests) - OWN_SCHEMA:
        kubernetes_validate.validate(manifests[kind], version, strict=True)


def test_the_schema_notices_a_misspelt_key(manifests):
    manifests["Service"]["spec"]["selectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifests["Service"], VERSIONS[-1], strict=True)


def test_everything_selects_the_pods_of_the_deployment(manifests):
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert manifests["Service"]["spec"]["selector"] == labels
    for kind, key in {
        "Deployment": "selector",
        "PodDisruptionBudget": "selector",
        "NetworkPolicy": "podSelector",
        "PodMonitor": "selector",
    }.items():
        if kind in manifests:
            assert manifests[kind]["spec"][key] == {"matchLabels": labels}, kind


def test_ports_are_those_that_the_service_listens_on(manifests, container):
    set_ = {variable["name"]: variable["value"] for variable in container["env"]}
    main, admin = Settings.model_fields["port"].default, int(set_["FACET_ADMIN_PORT"])
    assert container["ports"] == [{"name": "http", "containerPort": main}, {"name": "admin", "containerPort": admin}]
    assert set_["FACET_ADMIN_HOST"] == "0.0.0.0"  # or nobody outside of the pod would reach it
    assert [port["targetPort"] for port in manifests["Service"]["spec"]["ports"]] == ["http"]
    rules = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert [rule["ports"] for rule in rules] == [[{"port": "http"}], [{"port": "admin"}]]
    assert {"podSelector": {}} not in rules[1]["from"]


def test_probes_ask_what_is_there(container):
    routes = {route.path for route in health.router.routes}
    requested = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    paths = {name: probe["path"] for name, probe in requested.items()}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    assert set(paths.values()) <= routes
    assert {probe["port"] for probe in requested.values()} == {"admin"}


def test_the_drain_has_the_time_that_it_needs(pod, container):
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    traces = 10
    drain = Settings.model_fields["request_timeout"].default + 1
    assert pod["terminationGracePeriodSeconds"] >= before + drain + traces


def test_no_variable_of_the_cluster_is_taken_for_a_setting(manifests, pod):
    service = manifests["Service"]["metadata"]["name"].upper().replace("-", "_")
    assert f"{service}_PORT" == f"{PREFIX}PORT"  # what service links would set
    assert pod["enableServiceLinks"] is False
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert {variable["name"] for variable in pod["containers"][0].get("env", [])} <= known


def test_a_pod_may_do_no_more_than_it_needs(pod, container):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text(encoding="utf-8")
    user, group = re.search(r"^USER (\d+):(\d+)$", dockerfile, flags=re.MULTILINE).groups()
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (int(user), int(group))
    assert manifests_volumes(pod) == {"/tmp"}


def manifests_volumes(pod: dict[str, Any]) -> set[str]:
    """Where something can be written."""
    volumes = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    return {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] in volumes}


def test_a_rollout_and_an_eviction_leave_replicas_at_work(manifests):
    rolling = manifests["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    scaler = manifests.get("HorizontalPodAutoscaler", {}).get("spec", {})
    least = scaler.get("minReplicas", manifests["Deployment"]["spec"].get("replicas"))
    assert least > max(rolling["maxUnavailable"], manifests["PodDisruptionBudget"]["spec"]["maxUnavailable"])
    assert rolling["maxUnavailable"] + rolling["maxSurge"] > 0


def test_only_the_gpus_overlay_asks_for_gpus():
    requested = {}
    for name in OVERLAYS:
        (deployment,) = [each for each in kustomize.build(KUBERNETES / name) if each["kind"] == "Deployment"]
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        requested[name] = (container["resources"]["limits"].get("nvidia.com/gpu"), container["image"].endswith("-cuda"))
    assert requested == {"base": (None, False), "overlays/cpu": (None, False), "overlays/gpu": (1, True)}


@pytest.mark.parametrize("overlay", OVERLAYS[1:])
def test_the_autoscaler_alone_counts_replicas_by_metrics_that_the_adapter_makes(overlay: str):
    manifests = {each["kind"]: each for each in kustomize.build(KUBERNETES / overlay)}
    scaler = manifests["HorizontalPodAutoscaler"]["spec"]
    target = manifests["Deployment"]
    assert "replicas" not in target["spec"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": "Deployment",
        "name": target["metadata"]["name"],
    }
    requested = {metric["pods"]["metric"]["name"] for metric in scaler["metrics"] if metric["type"] == "Pods"}
    assert "facet_queue_fill" in requested
    assert requested <= {rule["name"]["as"] for rule in ADAPTER}


def test_prometheus_gets_the_job_that_the_rules_ask_for(exposed: Exposed):
    (monitor,) = [each for each in kustomize.build(KUBERNETES / "monitoring") if each["kind"] == "PodMonitor"]
    (deployment,) = [each for each in kustomize.build(KUBERNETES / "base") if each["kind"] == "Deployment"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"jobLabel", "selector", "podMetricsEndpoints"}
    assert deployment["spec"]["template"]["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "facet"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    ports = [port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]]
    assert endpoint["port"] in ports
    assert endpoint["port"] == "admin"  # where the metrics are
    assert endpoint["path"] in exposed.values["endpoint"] | {"/metrics"}


def expression(rule: dict[str, Any]) -> str:
    """As prometheus-adapter asks for the pods of a namespace."""
    series = rule["seriesQuery"].partition("{")[0]
    replaced = {"Series": series, "LabelMatchers": 'namespace="default",pod=~"facet-.*"', "GroupBy": "pod"}
    text = rule["metricsQuery"]
    for name, value in replaced.items():
        text = text.replace(f"<<.{name}>>", value)
    assert "<<" not in text
    return text


@pytest.mark.parametrize("rule", ADAPTER, ids=lambda rule: rule["name"]["as"])
def test_the_adapter_asks_for_what_the_service_exposes(rule: dict[str, Any], exposed: Exposed):
    with_pods = Exposed(
        {name: labels | {"namespace", "pod"} for name, labels in exposed.labels.items()}, exposed.values
    )
    check(expression(rule), with_pods)


@needs_promtool
def test_the_adapters_metrics_are_what_they_are_called(tmp_path: Path):
    """A queue that is a tenth full, and a graph that runs three quarters of the time."""
    rules = [{"record": rule["name"]["as"], "expr": expression(rule)} for rule in ADAPTER]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": rules}]}))
    labels = 'namespace="default",pod="facet-1"'
    series = {
        f'facet_queue_images{{graph="decoder",{labels}}}': "51.2+0x10",
        f'facet_queue_images{{graph="encoder",{labels}}}': "0+0x10",
        f'facet_queue_capacity_images{{graph="decoder",{labels}}}': "512+0x10",
        f'facet_queue_capacity_images{{graph="encoder",{labels}}}': "512+0x10",
        f'facet_batch_duration_seconds_sum{{graph="decoder",{labels}}}': "0+45x10",
        f'facet_batch_duration_seconds_sum{{graph="encoder",{labels}}}': "0+15x10",
    }
    wanted = {"facet_queue_fill": 0.1, "facet_device_busy": 0.75}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": name,
                "eval_time": "10m",
                "exp_samples": [{"labels": f'{name}{{pod="facet-1"}}', "value": value}],
            }
            for name, value in wanted.items()
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [test]}))
    promtool("test", "rules", tmp_path / "tests.yml")
