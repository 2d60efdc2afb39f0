"""MLServer with adaptive batching and its parallel workers, speaking the Open Inference Protocol.

python serve_mlserver.py BUNDLE PORT
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from pathlib import Path

from faces import shared
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

BATCH, WINDOW_SECONDS = 16, 0.005


class Generate(MLModel):
    async def load(self) -> bool:
        self.faces = shared(Path(os.environ["PEER_BUNDLE"]), threads=1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {each.name: StringCodec.decode_input(each) for each in payload.inputs}
        found = [base64.b64encode(data).decode() for data in self.answer(**columns)]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("image", found)])

    def answer(self, attributes: list[str], seed: list[str]) -> list[bytes]:
        return self.faces.generate([(json.loads(a), int(s)) for a, s in zip(attributes, seed, strict=True)])


class Edit(Generate):
    def answer(self, attributes: list[str], image: list[str]) -> list[bytes]:
        return self.faces.edit(_pairs(attributes, image))


class Photograph(Generate):
    def answer(self, attributes: list[str], image: list[str]) -> list[bytes]:
        return self.faces.photograph(_pairs(attributes, image))


def _pairs(attributes: list[str], image: list[str]) -> list[tuple[bytes, dict[str, float]]]:
    return [(base64.b64decode(i), json.loads(a)) for a, i in zip(attributes, image, strict=True)]


if __name__ == "__main__":
    directory = Path(tempfile.mkdtemp(prefix="mlserver-"))
    ports = {"http_port": int(sys.argv[2]), "grpc_port": 0, "metrics_port": 0, "metrics_endpoint": None}
    (directory / "settings.json").write_text(json.dumps({**ports, "parallel_workers": os.cpu_count()}))
    for name in ("generate", "edit", "photograph"):
        (directory / name).mkdir()
        settings = {
            "name": name,
            "implementation": f"{Path(__file__).stem}.{name.capitalize()}",
            "max_batch_size": BATCH,
            "max_batch_time": WINDOW_SECONDS,
        }
        (directory / name / "model-settings.json").write_text(json.dumps(settings))
    os.environ |= {"PEER_BUNDLE": str(Path(sys.argv[1]).resolve()), "PYTHONPATH": str(Path(__file__).resolve().parent)}
    command = str(Path(sys.executable).with_name("mlserver"))
    os.execv(command, [command, "start", str(directory)])
