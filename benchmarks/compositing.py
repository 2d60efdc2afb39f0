"""python -m benchmarks.compositing: what applying edit fields to a large photograph costs.

A photograph of twelve megapixels, one thread, medians of several turns: plain decoding and encoding as JPEG, and the
edit between them, with synthetic fields of 128 x 128 and with those of a bundle's editor, each attribute on a generated
face. Faces are as wide as the frame that the editor sees.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import records
from service.bundle import loader
from service.imaging import edit_fields
from service.imaging.compositing import FieldEdit
from service.imaging.edit_fields import EditFields
from service.inference import golden
from service.inference.session import open_session

SIZE = (4000, 3000)
_FRAME = 128


def photograph(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Smooth colours with the noise of a camera."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 210, (30, 40, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.normal(0, 4, (size[1], size[0], 1)).astype(np.float32)
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def fields(share: float, flow: float, seed: int = 0) -> EditFields:
    """Smooth fields whose mask covers about that share of the frame, and whose flow goes on in `flow` of the mask."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:_FRAME, :_FRAME] + 0.5) / _FRAME - 0.5
    distance = np.hypot(x, y)

    def disc(part: float) -> np.ndarray:
        return ((np.sqrt(part / np.pi) - distance) * 20 + 0.5).clip(0, 1).astype(np.float32)[:, :, None]

    def smooth(channels: int, largest: float) -> np.ndarray:
        coarse = rng.uniform(-largest, largest, (channels, 8, 8)).astype(np.float32)
        fine = [np.asarray(Image.fromarray(each).resize((_FRAME,) * 2, Image.Resampling.BICUBIC)) for each in coarse]
        return np.stack(fine, axis=2).clip(-1, 1)

    moving = disc(share * flow) if flow else np.zeros((_FRAME, _FRAME, 1), dtype=np.float32)
    return EditFields(disc(share), smooth(3, 0.4), smooth(3, 0.3), smooth(2, 0.03) * moving)


def laid(side: float, angle: float = 0.1, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The transform f64 [2, 3] of a frame `side` pixels wide in the middle of a photograph, a little turned."""
    factor = side / _FRAME
    turned = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turned, np.array(size) / 2 - turned @ [_FRAME / 2, _FRAME / 2]])


def median(work: Callable[[], object], turns: int) -> float:
    """Milliseconds of the processor."""
    taken = []
    for _ in range(turns):
        started = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - started))
    return statistics.median(taken)


def memory(data: bytes, side: float) -> tuple[float, float]:
    """MB that this process has with a photograph, and that an edit takes more at most. On Linux."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    edit = FieldEdit(laid(side), fields(0.35, 1.0))
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest so far
    before = _peak()
    edit.onto(picture)
    return before, _peak() - before


def _peak() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def own_edits(directory: Path) -> dict[str, tuple[np.ndarray, EditFields]]:
    """By attribute: a generated face uint8 [S, S, 3], and the fields of the bundle's editor for a full change of it."""
    bundle = loader.load(directory)
    session = open_session(bundle.path("editor.onnx"), 1)
    inputs = golden.editor_inputs(bundle)
    inputs["change"] = np.sign(inputs["change"])
    names = [output.name for output in session.get_outputs()]
    fields = edit_fields.split(dict(zip(names, session.run(None, inputs), strict=True)))
    return dict(zip(bundle.manifest.attribute_names, zip(inputs["image"], fields, strict=True), strict=True))


def measure_own(picture: Image.Image, plain: float, directory: Path, turns: int) -> list[str]:
    """Rows of a Markdown table; `plain` is what decoding and encoding the picture takes in ms."""
    sides = (1000, 1500, 2000)
    heads = " | ".join(f"frame of {side}, in times" for side in sides)
    rows = ["", f"| edit of {directory.name} | mask, share of the frame | {heads} |", "|---|---|" + "---|" * len(sides)]
    for name, (face, fields) in own_edits(directory).items():
        times = []
        for side in sides:
            edit, photo = FieldEdit(laid(side, angle=0), fields), picture.copy()
            corner = tuple(int(value) for value in edit.matrix[:, 2])
            photo.paste(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC), corner)
            copied = median(photo.copy, turns)
            taken = median(lambda edit=edit, photo=photo: edit.onto(photo.copy()), turns) - copied
            times.append(f"{1 + taken / plain:.2f}")
        share = (fields.settled().mask > 0).mean()
        rows.append(f"| {name} | {100 * share:.0f}% | " + " | ".join(times) + " |")
    return rows


def measure(turns: int, bundle: Path) -> list[str]:
    """Markdown."""
    picture = photograph()
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    decode = median(lambda: Image.open(io.BytesIO(data)).load(), turns)
    encode = median(lambda: picture.save(io.BytesIO(), "JPEG", quality=90), turns)
    rows = [
        f"A JPEG of {SIZE[0]} x {SIZE[1]} pixels and {len(data) / 1e6:.1f} MB: decoding takes {decode:.1f} ms of the",
        f"processor, encoding {encode:.1f} ms. The last column is decode, edit and encode in times of these two.",
        "",
        "| frame, pixels | mask, share of it | flow in | edit, ms | all, in times |",
        "|---|---|---|---|---|",
    ]
    for side in (500, 1000, 1500, 2500):
        for share, flow in ((0.05, 1.0), (0.35, 0.0), (0.35, 0.15), (0.35, 1.0), (0.75, 0.0)):
            edit = FieldEdit(laid(side), fields(share, flow))
            taken = median(lambda edit=edit: edit.onto(picture), turns)
            times = 1 + taken / (decode + encode)
            moving = "nothing" if not flow else f"{100 * flow:.0f}% of the mask"
            rows.append(f"| {side} | {100 * share:.0f}% | {moving} | {taken:.1f} | {times:.2f} |")
    rows += measure_own(picture, decode + encode, bundle, turns)
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        for side in (1500, 2500):
            decoded, more = fresh.submit(memory, data, side).result()
            rows += [
                "",
                f"A process with the photograph decoded has {decoded:.0f} MB. An edit of a frame of {side} pixels,",
                f"a third of it masked and in motion, takes {more:.0f} MB more at most.",
            ]
    return rows


def main() -> None:
    """Measure, print, and keep the result."""
    parser = records.parser("compositing", __doc__)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    text = "\n".join(["# Edit fields on a photograph", "", *measure(options.turns, options.bundle), ""])
    print(text)
    records.write(options.out, "compositing", text)


if __name__ == "__main__":
    main()
