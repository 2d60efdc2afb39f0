"""The peer everybody writes first: FastAPI, one onnxruntime session for each graph, a thread pool, no batching.

python plain.py BUNDLE PORT
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import uvicorn
from fastapi import Body, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from PIL import Image

bundle = Path(sys.argv[1])
manifest = json.loads((bundle / "manifest.json").read_text())
names = [attribute["name"] for attribute in manifest["attributes"]]
frame, latent_size = manifest["frame"], manifest["latent_size"]
encoder = onnxruntime.InferenceSession(str(bundle / "encoder.onnx"), providers=["CPUExecutionProvider"])
decoder = onnxruntime.InferenceSession(str(bundle / "decoder.onnx"), providers=["CPUExecutionProvider"])
app = FastAPI()


def png(face: np.ndarray) -> Response:
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png")


def vector(attributes: dict[str, float], empty: float) -> np.ndarray:
    return np.array([[attributes.get(name, empty) for name in names]], dtype=np.float32)


@app.post("/v1/generate")
def generate(attributes: Annotated[dict[str, float], Body()], seed: Annotated[int, Body()] = 0) -> Response:
    latent = np.random.default_rng(seed).standard_normal((1, latent_size), dtype=np.float32)
    return png(decoder.run(None, {"latent": latent, "attributes": vector(attributes, -1.0)})[0][0])


@app.post("/v1/edit")
async def edit(request: Request, attributes: str) -> Response:
    data, wanted = await request.body(), json.loads(attributes)

    def work() -> Response:
        size = frame["image_size"]
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        face = picture.resize((size, size), Image.Resampling.BICUBIC, box=frame["crop_box"], reducing_gap=None)
        unknown = np.full((1, len(names)), np.nan, dtype=np.float32)
        mean, _, shown = encoder.run(None, {"image": np.asarray(face)[None], "attributes": unknown})
        target = np.where(np.isnan(vector(wanted, np.nan)), shown, vector(wanted, np.nan)).astype(np.float32)
        return png(decoder.run(None, {"latent": mean, "attributes": target})[0][0])

    return await run_in_threadpool(work)


@app.get("/readyz")
def ready() -> dict[str, str]:
    return {"status": "ok"}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
