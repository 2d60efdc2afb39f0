"""Ray Serve with dynamic request batching, a replica for each core behind its HTTP proxy.

python serve_ray.py BUNDLE PORT
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import ray
from fastapi import FastAPI, Request, Response
from ray import serve

BATCH, WINDOW_SECONDS = 16, 0.005
app = FastAPI()


@serve.deployment(num_replicas=os.cpu_count(), max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
@serve.ingress(app)
class FaceService:
    def __init__(self, bundle: str, directory: str) -> None:
        sys.path.insert(0, directory)
        from faces import shared

        self.faces = shared(Path(bundle), threads=1)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WINDOW_SECONDS)
    async def generate_all(self, items: list) -> list[bytes]:
        return await asyncio.to_thread(self.faces.generate, items)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WINDOW_SECONDS)
    async def edit_all(self, items: list) -> list[bytes]:
        return await asyncio.to_thread(self.faces.edit, items)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WINDOW_SECONDS)
    async def photograph_all(self, items: list) -> list[bytes]:
        return await asyncio.to_thread(self.faces.photograph, items)

    @app.post("/v1/generate")
    async def generate(self, request: Request) -> Response:
        item = await request.json()
        return Response(await self.generate_all((item["attributes"], item["seed"])), media_type="image/png")

    @app.post("/v1/edit")
    async def edit(self, request: Request, attributes: str) -> Response:
        found = await self.edit_all((await request.body(), json.loads(attributes)))
        return Response(found, media_type="image/png")

    @app.post("/v1/photograph")
    async def photograph(self, request: Request, attributes: str) -> Response:
        found = await self.photograph_all((await request.body(), json.loads(attributes)))
        return Response(found, media_type="image/jpeg")

    @app.get("/readyz")
    def ready(self) -> dict[str, str]:
        return {"status": "ok"}


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=os.cpu_count(), object_store_memory=10**8, log_to_driver=False)
    serve.start(http_options={"port": int(sys.argv[2])})
    serve.run(FaceService.bind(str(Path(sys.argv[1]).resolve()), str(Path(__file__).resolve().parent)))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()
