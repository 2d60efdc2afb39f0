"""What the README prints must work as printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib

import pytest
from PIL import Image

from benchmarks.processes import ROOT, Instance

README = (ROOT / "README.md").read_text()
SHIPPED = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def server():
    """The service as `make serve` starts it, on a free port, with the bundle of the repository."""
    with Instance(os.environ) as service:
        yield service.url
        assert service.stop() == 0  # SIGTERM is a clean exit


@pytest.mark.slow
def test_the_curl_calls_work_as_printed(server, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    calls = re.findall(r"^curl .*$", README, flags=re.MULTILINE)
    assert [re.search(r"/v1/(\w+)", call)[1] for call in calls] == ["generate", "encode", "edit"]
    for call in calls:
        command = call.replace(SHIPPED, server).replace("curl ", "curl --fail-with-body --silent --show-error ", 1)
        result = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    with Image.open(tmp_path / "face.png") as face, Image.open(tmp_path / "edited.png") as edited:
        assert face.size == edited.size
        assert face.tobytes() != edited.tobytes()


def test_both_commands_stand_on_the_first_screen():
    assert "make serve" in "\n".join(README.splitlines()[:24])
    assert "make test" in "\n".join(README.splitlines()[:24])


def test_every_dependency_is_pinned_in_the_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert all("==" in line for line in lines)
    assert names - pinned == {"facet"}  # its own extra `test`
