"""The peer everybody writes first: FastAPI, one onnxruntime session for each graph, a thread pool, no batching.

python serve_plain.py BUNDLE PORT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from faces import shared
from fastapi import Body, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

faces = shared(Path(sys.argv[1]))
app = FastAPI()


@app.post("/v1/generate")
def generate(attributes: Annotated[dict[str, float], Body()], seed: Annotated[int, Body()] = 0) -> Response:
    return Response(faces.generate([(attributes, seed)])[0], media_type="image/png")


@app.post("/v1/edit")
async def edit(request: Request, attributes: str) -> Response:
    data, wanted = await request.body(), json.loads(attributes)
    found = await run_in_threadpool(faces.edit, [(data, wanted)])
    return Response(found[0], media_type="image/png")


@app.post("/v1/photograph")
async def photograph(request: Request, attributes: str) -> Response:
    data, wanted = await request.body(), json.loads(attributes)
    found = await run_in_threadpool(faces.photograph, [(data, wanted)])
    return Response(found[0], media_type="image/jpeg")


@app.get("/readyz")
def ready() -> dict[str, str]:
    return {"status": "ok"}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
