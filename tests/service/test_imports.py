"""The service imports nothing else of the project, runs without torch, and loads no tracing by default."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Imports every module and makes the application in a process where torch cannot be imported.
_SCRIPT = """
import importlib, json, pkgutil, sys

attempted = []

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "training", "export"):
            attempted.append(name)
            raise ImportError(f"{name} cannot be imported here")

sys.meta_path.insert(0, Forbid())
try:
    import torch
except ImportError:
    assert attempted.pop() == "torch"
else:
    sys.exit("the hook does not work")

import service
names = sorted(module.name for module in pkgutil.walk_packages(service.__path__, "service."))
for name in names:
    importlib.import_module(name)
from service.app import create_app
paths = sorted(create_app().openapi()["paths"])
loaded = sorted({name.partition(".")[0] for name in sys.modules})
tracing = [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
print(json.dumps(dict(imported=names, loaded=loaded, attempted=attempted, paths=paths, tracing=tracing)))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_importing_the_whole_service_loads_neither_torch_nor_the_rest_of_the_project(found: dict[str, list[str]]):
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "service").rglob("*.py"))
    modules = {".".join(file.parts).removesuffix(".__init__") for file in files} - {"service"}
    assert set(found["imported"]) == modules
    assert not set(found["loaded"]) & {"torch", "training", "export", "benchmarks", "tests", "onnx"}
    assert found["attempted"] == []


def test_the_service_starts_where_torch_cannot_be_imported(found: dict[str, list[str]]):
    assert "/v1/edit" in found["paths"]


def test_without_tracing_nothing_of_it_is_imported(found: dict[str, list[str]]):
    """FastAPI itself imports OpenTelemetry's interface, which does nothing; not what makes and sends spans."""
    assert found["tracing"] == []
