"""The pipeline runs where no web framework can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service import fakes

ROOT = Path(__file__).parents[3]

_EVERY_OPERATION = """
import asyncio, json, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fastapi", "starlette", "uvicorn") or name.startswith("service.api"):
            raise ImportError(f"{name} cannot be imported here")

sys.meta_path.insert(0, Forbid())

from pathlib import Path
from prometheus_client import CollectorRegistry
from service.pipeline.edit import edit_picture
from service.pipeline.encode import encode_picture
from service.pipeline.generate import generate_faces
from service.pipeline.parameters import EditParameters, EncodeParameters, GenerateParameters, SweepParameters
from service.pipeline.pipeline import Pipeline
from service.pipeline.sweep import sweep_face
from service.pipeline.verify import verify_picture
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.fake_runtime import FakeRuntime

async def main():
    settings = Settings(bundles=Path(sys.argv[1]), weights=Path("none"), default_model="tiny", codec_threads=2)
    runtime = lambda bundle, _: FakeRuntime(bundle.manifest)
    pipeline = Pipeline.of(settings, runtime, Metrics(CollectorRegistry()))
    async with pipeline.running():
        with pipeline.request(20) as context:
            drawn = await generate_faces(pipeline, context, GenerateParameters(count=2))
            face = drawn.pictures[0].data
            found = await encode_picture(pipeline, context, EncodeParameters(framed=True), face)
            smile = EditParameters(attributes={"Smiling": 1}, framed=True)
            edited = await edit_picture(pipeline, context, smile, face)
            steps = SweepParameters(attribute="Smiling", steps=2, framed=True)
            swept = await sweep_face(pipeline, context, steps, face)
            report = await verify_picture(pipeline, context, edited.pictures[0].data)
    counts = [len(each) for each in (drawn.pictures, found.faces, edited.pictures, swept.pictures)]
    loaded = {name.partition(".")[0] for name in sys.modules} | {name for name in sys.modules if "service.api" in name}
    print(json.dumps({"counts": counts, "facet": report.facet, "loaded": sorted(loaded)}))

asyncio.run(main())
"""


@pytest.mark.slow
def test_every_operation_runs_without_a_web_framework(settings: Settings):
    fakes.write_bundle(settings.bundles.parent / "edited" / "tiny", schema=2, editor=True)
    done = subprocess.run(
        [sys.executable, "-c", _EVERY_OPERATION, str(settings.bundles.parent / "edited")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["counts"] == [2, 1, 1, 1]
    assert found["facet"] is True
    assert not {"fastapi", "starlette", "uvicorn", "service.api"} & set(found["loaded"])


def test_the_hook_of_this_test_works():
    forbid = _EVERY_OPERATION.partition("from pathlib")[0]
    for module in ("fastapi", "starlette", "uvicorn", "service.api.faces"):
        script = f"{forbid}\nimport {module}"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
        assert f"{module.removesuffix('.faces')} cannot be imported here" in done.stderr
