"""python -m benchmarks.interactive: what a visitor of the page waits for, from one visitor and from eight at once.

A photograph of a megapixel that the service has never seen is edited and returned whole. Then a slider moves: the same
photograph at the size of the page's preview, sent once and named by its handle, with another value in each request.
"""

from __future__ import annotations

import io
import sys

from PIL import Image

from benchmarks import records
from benchmarks.capacity import generated
from benchmarks.processes import facet
from benchmarks.serving import Sample, measure
from benchmarks.workloads import PREVIEW, WHOLE, in_turn, keep, kept_slider, never_seen, photo_edit, photograph
from service.settings import Settings

VISITORS = (1, 8)
_COUNT = 400  # photographs of which no two have the same bytes


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
    parser.add_argument("--seconds", type=float, default=8.0, help="of each workload and number of visitors")
    options = parser.parse_args()
    bundle = options.bundle.resolve()
    found: dict[tuple[str, int], Sample] = {}
    with facet(bundle, FACET_LATENT_CACHE_BYTES=str(Settings().latent_cache_bytes)) as server:
        face = Image.open(io.BytesIO(generated(server.port)))
        requests = [photo_edit(file) for file in never_seen(photograph(face, *WHOLE), _COUNT)]
        for visitors in VISITORS:
            found["a photograph of a megapixel", visitors] = measure(server, requests, visitors, options.seconds)
        for visitors in VISITORS:
            files = never_seen(photograph(face, *PREVIEW), visitors)
            moves = in_turn([kept_slider(keep(server, file)) for file in files])
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
