"""The service imports nothing else of the project, and runs where torch cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_IMPORT_ALL = """
import importlib, json, pkgutil, sys
import service
names = sorted("service." + module.name for module in pkgutil.iter_modules(service.__path__))
for name in names:
    importlib.import_module(name)
print(json.dumps({"imported": names, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""

_FORBID_TORCH = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "training", "export"):
            raise ImportError(f"{name} cannot be imported here")

sys.meta_path.insert(0, Forbid())
try:
    import torch
except ImportError:
    pass
else:
    sys.exit("the hook does not work")
"""

_START = """
from service.app import create_app
print(sorted(create_app().openapi()["paths"]))
"""


def python(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_whole_service_loads_neither_torch_nor_the_rest_of_the_project():
    found = json.loads(python(_IMPORT_ALL))
    modules = {f"service.{path.stem}" for path in (ROOT / "service").glob("*.py")} - {"service.__init__"}
    assert set(found["imported"]) == modules
    assert not set(found["loaded"]) & {"torch", "training", "export", "benchmarks", "tests", "onnx"}


def test_the_service_starts_where_torch_cannot_be_imported():
    assert "/v1/edit" in python(_FORBID_TORCH + _IMPORT_ALL + _START)
