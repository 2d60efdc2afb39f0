"""The wheel holds the whole product: it is built, installed into a clean environment, and served from there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import Instance
from tests.service import fakes

ROOT = Path(__file__).parents[1]
PACKAGES = ("export", "facet", "facet_ray", "service", "training")
OFFLINE = ("--no-index", "--no-deps", "--disable-pip-version-check", "--quiet")

pytestmark = pytest.mark.slow


def run(*command: str | Path) -> str:
    # Ray sets PYTHONPATH to this source tree for its workers, and pip would take the tree for the installed package.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves files in its source tree."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", directory, source)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, and with the dependencies that are installed here."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", *OFFLINE, wheel)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # Of the directory itself and not of its .pth files, or an editable installation of the project would be found.
    paths = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    Path(own, "dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    return python


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path):
    found = set(zipfile.ZipFile(wheel).namelist())
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    expected = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"service/api/static/studio/index.html", "service/inference/batcher.py", "facet/py.typed"} <= expected
    assert expected <= found
    assert {name.partition("/")[0] for name in found - expected} == {
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    }


def test_every_module_of_service_and_client_is_imported_from_the_wheel(python: Path):
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in ("service", "facet")
        for path in (ROOT / name).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    )
    assert {"service.imaging.codecs.decoding", "service.pipeline.edit", "facet.client"} <= set(modules)
    script = "import importlib, sys; print({importlib.import_module(name).__file__ for name in sys.argv[1:]})"
    found = run(python, "-I", "-c", script, *modules)
    assert str(ROOT) not in found
    assert "service/imaging/codecs/decoding.py" in found


def test_the_service_starts_from_the_wheel(python: Path):
    pytest.importorskip("onnxruntime")
    command = [str(python), "-I", "-m", "service"]  # -I: nothing comes from the working directory or from PYTHONPATH
    origin = run(python, "-I", "-c", "import service, facet; print(service.__file__, facet.__file__)")
    assert str(ROOT) not in origin
    variables = {"FACET_MAX_BATCH": "1", "FACET_DEVICE": "cpu", "FACET_BUNDLES": str(ROOT / "bundles")}
    with Instance(fakes.environment(**variables), command=command) as service:
        with httpx.Client(base_url=service.url, timeout=fakes.PATIENCE) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            page = client.get("/")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            # The addresses of the page's files have a digest of their content.
            found = re.sub(r'"studio/[0-9a-f]{16}/', '"studio/', page.text)
            assert found == (ROOT / "service/api/static/studio/index.html").read_text(encoding="utf-8")
            assert client.get("/studio/studio.js").status_code == 200
            assert client.get("/docs/swagger-ui-bundle.js").status_code == 200
        assert service.stop() == 0
