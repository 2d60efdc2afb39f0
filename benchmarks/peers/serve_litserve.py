"""LitServe with its own batching: a worker process for each core and endpoint, and the faster queue.

python serve_litserve.py BUNDLE PORT
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import litserve
from faces import shared
from fastapi import Response

BATCH, WINDOW_SECONDS = 16, 0.005


class Generate(litserve.LitAPI):
    media_type = "image/png"

    def setup(self, device: str) -> None:
        self.faces = shared(Path(sys.argv[1]), threads=1)

    def decode_request(self, request):
        return request["attributes"], request["seed"]

    def predict(self, batch):
        return self.faces.generate(list(batch))

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return Response(output, media_type=self.media_type)


class Edit(Generate):
    def decode_request(self, request):
        return base64.b64decode(request["image"]), request["attributes"]

    def predict(self, batch):
        return self.faces.edit(list(batch))


class Photograph(Edit):
    media_type = "image/jpeg"

    def predict(self, batch):
        return self.faces.photograph(list(batch))


if __name__ == "__main__":
    server = litserve.LitServer(
        [
            Generate(max_batch_size=BATCH, batch_timeout=WINDOW_SECONDS, api_path="/v1/generate"),
            Edit(max_batch_size=BATCH, batch_timeout=WINDOW_SECONDS, api_path="/v1/edit"),
            Photograph(max_batch_size=BATCH, batch_timeout=WINDOW_SECONDS, api_path="/v1/photograph"),
        ],
        accelerator="cpu",
        workers_per_device=os.cpu_count(),
        fast_queue=True,
    )
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
