"""python -m benchmarks.interactive: what a visitor of the page waits for, from one visitor and from eight at once.

A photograph of a megapixel that the service has never seen is edited and returned whole. Then a slider moves: the same
photograph at the size of the page's preview, sent once and named by its handle, with another value in each request.
"""

from __future__ import annotations

import io
import json
import sys

import numpy as np
from PIL import Image

from benchmarks import records
from benchmarks.capacity import generated
from benchmarks.load import Request
from benchmarks.processes import Instance, facet
from benchmarks.serving import Sample, measure
from benchmarks.workloads import photo_edit, photograph
from service.settings import Settings

VISITORS = (1, 8)
_WHOLE, _PREVIEW = (1152, 864), (896, 672)
_PREVIEW_QUALITY = 90  # as the page asks for
_STEPS = 97  # values of a slider; a prime, so that visitors do not move in step
_COUNT = 400  # photographs of which no two have the same bytes


def never_seen(picture: bytes, count: int) -> list[Request]:
    """Edits of JPEG files with the same picture whose bytes differ in a comment, so that no cache knows them."""
    files = [picture[:2] + b"\xff\xfe\x00\x08" + b"%06d" % number + picture[2:] for number in range(count)]
    return [photo_edit(file) for file in files]


def slider(handle: str, attribute: str = "Smiling") -> list[Request]:
    """The edits of a kept photograph while a slider goes from end to end and back, each value once."""
    values = np.concatenate([np.linspace(-1, 1, _STEPS // 2 + 1), np.linspace(0.97, -0.97, _STEPS // 2)])
    bodies = [
        json.dumps({"photo": handle, "attributes": {attribute: round(float(value), 3)}, "quality": _PREVIEW_QUALITY})
        for value in values
    ]
    return [Request.post("/v1/edit", "application/json", body.encode(), {"Accept": "image/jpeg"}) for body in bodies]


def keep(server: Instance, picture: bytes) -> str:
    """The handle of a photograph that the server keeps."""
    with server.client as client:
        answer = client.post("/v1/photos", content=picture, headers={"Content-Type": "image/jpeg"})
        return answer.raise_for_status().json()["photo"]


def report(facts: str, found: dict[tuple[str, int], Sample]) -> str:
    """What visitors waited, by workload and number of visitors, as Markdown."""
    lines = ["# What a visitor waits for", "", f"- {facts}", ""]
    lines += ["| | visitors | p50 ms | p99 ms | a second | CPU ms each | failures |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {workload} | {visitors} | {sample.p50:.1f} | {sample.p99:.1f} | {sample.throughput:.1f} "
        f"| {sample.cpu_milliseconds:.1f} | {sample.failures} |"
        for (workload, visitors), sample in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write the results."""
    parser = records.parser("interactive", __doc__)
    parser.set_defaults(bundle=records.BUNDLE.with_name("celeba128"))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each workload and number of visitors")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    found: dict[tuple[str, int], Sample] = {}
    with facet(bundle, FACET_LATENT_CACHE_BYTES=str(Settings().latent_cache_bytes)) as server:
        face = Image.open(io.BytesIO(generated(server.port)))
        requests = never_seen(photograph(face, *_WHOLE), _COUNT)
        for visitors in VISITORS:
            found["a photograph of a megapixel", visitors] = measure(server, requests, visitors, options.seconds)
        for visitors in VISITORS:
            sizes = [(_PREVIEW[0] - 8 * number, _PREVIEW[1]) for number in range(visitors)]
            handles = [keep(server, photograph(face, *size)) for size in sizes]
            moves = [move for moves in zip(*map(slider, handles), strict=True) for move in moves]
            found["a step of a slider", visitors] = measure(server, moves, visitors, options.seconds)
    facts = f"{records.machine()}; bundle {bundle.name}; {options.seconds:g} s each."
    waits = [
        {"workload": workload, "visitors": visitors, **vars(sample)} for (workload, visitors), sample in found.items()
    ]
    records.write(options.out, "interactive", report(facts, found), {"machine": facts, "waits": waits})
    print(report(facts, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
