"""python -m benchmarks.interactive: what a visitor of the page waits for, from one visitor and from eight at once.

A photograph of a megapixel that the service has never seen is edited and returned whole. Then a slider moves: the same
photograph at the size of the page's preview, sent once and named by its handle, with another value in each request.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from benchmarks import records
from benchmarks.capacity import generated
from benchmarks.load import Request, press
from benchmarks.processes import Instance, facet
from benchmarks.workloads import photo_edit, photograph
from service.settings import Settings

VISITORS = (1, 8)
_WHOLE, _PREVIEW = (1152, 864), (896, 672)
_PREVIEW_QUALITY = 90  # as the page asks for
_STEPS = 97  # values of a slider; a prime, so that visitors do not move in step
_COUNT = 400  # photographs of which no two have the same bytes


@dataclass(frozen=True)
class Waits:
    """Milliseconds that visitors waited."""

    workload: str
    visitors: int
    p50: float
    p99: float
    a_second: float
    cpu_milliseconds: float  # of each answer
    failures: int


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


def wait(server: Instance, workload: str, requests: list[Request], visitors: int, seconds: float) -> Waits:
    """Visitors who send their next request when the answer to the last one has come."""
    before = server.cpu_seconds
    outcome = asyncio.run(press(server.port, requests, visitors, seconds))
    spent = server.cpu_seconds - before
    return Waits(
        workload,
        visitors,
        outcome.percentile(50),
        outcome.percentile(99),
        outcome.throughput,
        1000 * spent / (outcome.throughput * (seconds + 1.0)),  # press begins with a second that it does not count
        sum(count for status, count in outcome.statuses.items() if status != 200),
    )


def report(facts: str, found: list[Waits]) -> str:
    """The waits as Markdown."""
    lines = ["# What a visitor waits for", "", f"- {facts}", ""]
    lines += ["| | visitors | p50 ms | p99 ms | a second | CPU ms each | failures |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {w.workload} | {w.visitors} | {w.p50:.1f} | {w.p99:.1f} | {w.a_second:.1f} | {w.cpu_milliseconds:.1f} "
        f"| {w.failures} |"
        for w in found
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure and write the results."""
    parser = records.parser("interactive", __doc__)
    parser.set_defaults(bundle=records.BUNDLE.with_name("celeba128"))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each workload and number of visitors")
    options = parser.parse_args()
    bundle, found = options.bundle.resolve(), []
    with facet(bundle, FACET_LATENT_CACHE_BYTES=str(Settings().latent_cache_bytes)) as server:
        face = Image.open(io.BytesIO(generated(server.port)))
        requests = never_seen(photograph(face, *_WHOLE), _COUNT)
        for visitors in VISITORS:
            found.append(wait(server, "a photograph of a megapixel", requests, visitors, options.seconds))
        for visitors in VISITORS:
            sizes = [(_PREVIEW[0] - 8 * number, _PREVIEW[1]) for number in range(visitors)]
            handles = [keep(server, photograph(face, *size)) for size in sizes]
            moves = [move for moves in zip(*map(slider, handles), strict=True) for move in moves]
            found.append(wait(server, "a step of a slider", moves, visitors, options.seconds))
    facts = f"{records.machine()}; bundle {bundle.name}; {options.seconds:g} s each."
    records.write(options.out, "interactive", report(facts, found), {"machine": facts, "waits": [*map(asdict, found)]})
    print(report(facts, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
