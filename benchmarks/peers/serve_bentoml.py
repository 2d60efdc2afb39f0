"""BentoML with adaptive batching, a worker process for each core.

python serve_bentoml.py BUNDLE PORT
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import bentoml
from faces import shared
from pydantic import BaseModel

BATCH, LATENCY_MILLISECONDS = 16, 1000
# It answers 503 to what would take longer, and a queue of photographs does.
PICTURE_LATENCY_MILLISECONDS = 30_000


class Face(BaseModel):
    attributes: dict[str, float]
    seed: int = 0


class Picture(BaseModel):
    image: str  # base64
    attributes: dict[str, float]

    @property
    def pair(self) -> tuple[bytes, dict[str, float]]:
        return base64.b64decode(self.image), self.attributes


@bentoml.service(workers=os.cpu_count(), traffic={"timeout": 60})
class FaceService:
    def __init__(self) -> None:
        self.faces = shared(Path(os.environ["PEER_BUNDLE"]), threads=1)

    @bentoml.api(route="/v1/generate", batchable=True, max_batch_size=BATCH, max_latency_ms=LATENCY_MILLISECONDS)
    def generate(self, items: list[Face]) -> list[str]:
        return _text(self.faces.generate([(face.attributes, face.seed) for face in items]))

    @bentoml.api(route="/v1/edit", batchable=True, max_batch_size=BATCH, max_latency_ms=PICTURE_LATENCY_MILLISECONDS)
    def edit(self, items: list[Picture]) -> list[str]:
        return _text(self.faces.edit([each.pair for each in items]))

    @bentoml.api(
        route="/v1/photograph", batchable=True, max_batch_size=BATCH, max_latency_ms=PICTURE_LATENCY_MILLISECONDS
    )
    def photograph(self, items: list[Picture]) -> list[str]:
        return _text(self.faces.photograph([each.pair for each in items]))


def _text(found: list[bytes]) -> list[str]:
    return [base64.b64encode(data).decode() for data in found]


if __name__ == "__main__":
    os.environ["PEER_BUNDLE"] = sys.argv[1]
    os.chdir(Path(__file__).parent)
    command = ["-m", "bentoml", "serve", f"{Path(__file__).stem}:FaceService", "--port", sys.argv[2]]
    os.execv(sys.executable, [sys.executable, *command])
