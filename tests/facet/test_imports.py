"""A client of a remote service loads neither the service nor what it runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.facet.conftest import ROOT

_REMOTE = """
import json, sys
import httpx
import facet, facet.cli
from facet import *
answer = lambda request: httpx.Response(200, json={"models": []})
with Client("http://facet.test", transport=httpx.MockTransport(answer)) as client:
    client.models()
print(json.dumps({"names": sorted(set(facet.__all__) - set(globals())),
                  "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""

_LOCAL = """
import sys
from facet import Client
client = Client.local()
print(next(model.name for model in client.models() if model.default), *{name.partition(".")[0] for name in sys.modules})
"""

_WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None
from facet.__main__ import main
code = main()
try:
    from facet import Client
except ImportError as exc:
    print(exc)
sys.exit(code)
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_remote_client_loads_no_service():
    done = python(_REMOTE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["names"] == []
    heavy = {
        "service",
        "onnxruntime",
        "fastapi",
        "starlette",
        "pydantic",
        "numpy",
        "PIL",
        "torch",
        "training",
        "export",
    }
    assert not heavy & set(found["loaded"])


def test_without_httpx_one_line_says_what_to_install():
    done = python(_WITHOUT_HTTPX, "models")
    assert done.returncode == 2
    assert done.stderr == f"facet: error: {done.stdout}"
    assert "pip install '.[client]'" in done.stdout


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "facet", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "facet edit photo.jpg" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_a_client_that_is_never_closed_does_not_keep_the_program():
    done = python(_LOCAL)
    assert done.returncode == 0, done.stderr
    name, *loaded = done.stdout.split()
    assert name == "celeba128"
    assert "service" in loaded
    assert not {"torch", "training", "export", "benchmarks", "tests"} & set(loaded)
