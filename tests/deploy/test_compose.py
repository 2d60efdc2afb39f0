"""What docker-compose.yml mounts exists, its parts know each other, and none has more rights than it needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.deploy.conftest import DEPLOY, ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROVISIONING = DEPLOY / "grafana" / "provisioning"


def mounts(service: str) -> dict[str, Path]:
    """Where in the container each mounted file or folder of the checkout lies."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target, *options = volume.split(":")
        if source.startswith("."):
            assert options == ["ro"], volume
            found[target] = ROOT / source
        else:
            assert source in COMPOSE["volumes"], volume
    return found


def inside(service: str, path: str) -> Path:
    """The file of the checkout that the container sees as `path`."""
    for target, source in mounts(service).items():
        if PurePosixPath(path).is_relative_to(target):
            return source / PurePosixPath(path).relative_to(target)
    raise AssertionError(f"{service} does not see {path}")


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists(name: str):
    for source in mounts(name).values():
        assert source.exists()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_no_more_rights_than_it_needs(name: str):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_reachable_from_this_machine_only(name: str):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_built_from_a_target_that_exists_or_is_pinned(name: str):
    service = SERVICES[name]
    if "build" in service:
        assert f" AS {service['build']['target']}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    else:
        assert re.fullmatch(rf"\$\{{FACET_{name.upper()}_IMAGE:-[\w/]+:v?\d+\.\d+\.\d+\}}", service["image"])


def test_prometheus_finds_its_rules_and_the_service():
    (option,) = [text for text in SERVICES["prometheus"]["command"] if text.startswith("--config.file=")]
    path = option.partition("=")[2]
    configuration = yaml.safe_load(inside("prometheus", path).read_text(encoding="utf-8"))
    for name in configuration["rule_files"]:
        assert inside("prometheus", str(PurePosixPath(path).parent / name)).is_file()
    (scraped,) = configuration["scrape_configs"]
    (target,) = scraped["static_configs"][0]["targets"]
    assert target == f"facet:{Settings.model_fields['port'].default}"
    assert "facet" in SERVICES


def test_grafana_finds_its_source_and_its_dashboard():
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "facet.yml").read_text())["providers"]
    assert list(inside("grafana", provider["options"]["path"]).glob("*.json"))
    for folder in ("datasources", "dashboards"):
        assert inside("grafana", f"/etc/grafana/provisioning/{folder}").is_dir()
    assert inside("grafana", SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()


def test_the_gpu_is_requested_by_profile_only_and_takes_the_place_of_the_cpu():
    gpu = SERVICES["facet-cuda"]
    assert gpu["profiles"] == ["nvidia"]
    assert gpu["networks"]["default"]["aliases"] == ["facet"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["facet-cuda"]
    assert not any("facet" in service.get("depends_on", []) for service in SERVICES.values())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose (Debian's package) is not installed")
def test_compose_accepts_the_file(tmp_path: Path):
    assert compose(ROOT / "docker-compose.yml").returncode == 0
    assert compose(ROOT / "docker-compose.yml", DEPLOY / "compose.built.yml").returncode == 0
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(yaml.safe_dump({**COMPOSE, "services": {"facet": {"image": "facet", "mem_limits": "2g"}}}))
    assert "mem_limits" in compose(broken).stderr


def compose(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = ["docker-compose", *(f"--file={path}" for path in paths), "config", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
