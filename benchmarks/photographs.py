"""python -m benchmarks.photographs: what edits are worth on photographs, where faces are turned and of any size.

Labelled pictures of people whom the model has not seen are laid, turned and resized at random, on larger canvases, and
go through `POST /v1/edit`, as do the same pictures upright and by themselves. Because we know where each face was laid,
its aligned picture can be taken back from the result, for the judge of edits and for a recogniser of faces.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from benchmarks import records
from benchmarks.processes import facet
from benchmarks.workloads import photograph
from facet import Client
from service.bundle import loader
from service.bundle.loader import Bundle
from service.faces.detector import Detector
from service.faces.finder import FaceFinder, NoFaceError
from service.imaging import alignment, codecs
from training.attributes import Groups
from training.data import dataset
from training.evaluation.identity import KEEPS_IDENTITY, SAME, Identity, IdentityUnavailableError
from training.evaluation.material import framing
from training.evaluation.photographs import framed
from training.evaluation.tally import EditTally, excused, per_attribute
from training.judge import Judge, load_judge

CANVAS = (640, 480)
_TURN, _SCALES = 30.0, (0.5, 2.0)  # degrees to either side; the aligned picture's size is 1
_LARGE_EDIT = {"Black_Hair": 1.0, "Smiling": 1.0}


@dataclass(frozen=True)
class Scene:
    """A photograph uint8 [H, W, 3] and the transform f64 [2, 3] from the aligned picture's pixels to its own."""

    pixels: np.ndarray
    laid: np.ndarray


def lay(picture: Image.Image, rng: np.random.Generator) -> Scene:
    """The picture somewhere on a canvas of smooth colours, turned and resized."""
    width, height = picture.size
    angle = np.deg2rad(rng.uniform(-_TURN, _TURN))
    largest = min(_SCALES[1], 0.95 * min(CANVAS) / np.hypot(width, height))
    factor = np.exp(rng.uniform(np.log(_SCALES[0]), np.log(largest)))
    turned = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reach = np.abs(turned) @ [width / 2, height / 2]
    centre = rng.uniform(reach, np.array(CANVAS) - reach)
    matrix = np.column_stack([turned, centre - turned @ [width / 2, height / 2]])
    colours = Image.fromarray(rng.integers(60, 200, (6, 8, 3), dtype=np.uint8))
    background = colours.resize(CANVAS, Image.Resampling.BICUBIC)
    shrunk = 1 / min(1.0, factor)  # antialiasing is the resampling filter's matter, so shrink first
    small = picture.resize((round(width / shrunk), round(height / shrunk)), Image.Resampling.LANCZOS)
    to_small = np.diag([small.width / width, small.height / height]) @ alignment.inverse(matrix)
    affine = (Image.Transform.AFFINE, tuple(to_small.ravel()))
    laid = small.transform(CANVAS, *affine, Image.Resampling.BICUBIC)
    inside = Image.new("L", small.size, 255).transform(CANVAS, *affine)
    background.paste(laid, (0, 0), inside)
    return Scene(np.asarray(background), matrix)


def frame_of(scene: Scene, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The transform f64 [2, 3] from a box of the aligned picture, `size` pixels wide and high, to the photograph."""
    return alignment.after(scene.laid, alignment.of_box(box, size))


def aligned(scene: Scene, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The aligned picture, uint8 [H, W, 3] of width and height `size`, taken back from a photograph of a scene."""
    width, height = size
    side = max(size)
    left, top = (side - width) // 2, (side - height) // 2
    matrix = frame_of(scene, (-left, -top, side - left, side - top), side)
    return alignment.sample(Image.fromarray(pixels), matrix, side)[top : top + height, left : left + width]


def seam(before: np.ndarray, after: np.ndarray) -> float:
    """Gradient energy after against before, on the ring where the change of uint8 [H, W, 3] ends; NaN without one."""
    changed = (before != after).any(axis=2)
    ring = ndimage.binary_dilation(changed, iterations=3) & ~ndimage.binary_erosion(changed, iterations=3)
    if not ring.any():
        return np.nan
    energies = []
    for pixels in (before, after):
        down, across = np.gradient(pixels.astype(float), axis=(0, 1))
        energies.append((down**2 + across**2).sum(2)[ring].mean())
    return energies[1] / max(energies[0], 1e-9)


@dataclass
class _Edits:
    """Aligned pictures before and after, uint8 [H, W, 3] each, in order."""

    before: list[np.ndarray]
    after: list[np.ndarray]


def measure(bundle: Bundle, judge: Judge | None, data: Path, weights: Path, count: int) -> dict:
    """All figures for the first `count` strangers of the validation partition, an attribute each in turn.

    Without a judge, all but what it sees.
    """
    names, frame = bundle.manifest.attribute_names, bundle.manifest.frame
    held_out = dataset.read_index(data, names, "validation")
    rows = np.flatnonzero(dataset.strangers(held_out, dataset.read_index(data, names, "train")))[:count]
    finder, rng = FaceFinder(Detector(weights)), np.random.default_rng(0)
    errors, seams, exact, chosen, labels = [], [], [], [], []
    laid, upright = _Edits([], []), _Edits([], [])
    directory = bundle.directory
    serving = {"default_model": directory.name, "weights": str(weights), "sensitive_attributes": True}
    with Client.local(str(directory.parent), **serving) as client:
        for number, row in enumerate(tqdm(rows, leave=False)):
            picture = Image.open(held_out.path(row)).convert("RGB")
            scene = lay(picture, rng)
            try:
                face = finder.frame(Image.fromarray(scene.pixels), frame, framed=False, largest=True)[0]
            except NoFaceError:
                continue
            right = frame_of(scene, frame.crop_box, frame.image_size)
            found, true = (alignment.corners(matrix, frame.image_size) for matrix in (face.location.matrix, right))
            off = np.sqrt(np.square(found - true).sum(1).mean()) / alignment.scale(right)
            if off > frame.image_size / 4:  # something else than this face
                continue
            errors.append(off)
            attribute = number % len(names)
            change = {names[attribute]: -1.0 if held_out.labels[row, attribute] > 0 else 1.0}
            result = _edited(client, scene.pixels, change)
            exact.append(np.array_equal(_edited(client, scene.pixels, change, strength=0), scene.pixels))
            seams.append(seam(scene.pixels, result))
            laid.before.append(aligned(scene, scene.pixels, picture.size))
            laid.after.append(aligned(scene, result, picture.size))
            upright.before.append(np.asarray(picture))
            upright.after.append(_edited(client, np.asarray(picture), change))
            chosen.append(attribute)
            labels.append(held_out.labels[row])
    edits = {"upright": upright, "photo": laid}
    groups = dict(zip(names, bundle.manifest.attribute_groups, strict=True))
    return {
        "bundle": bundle.identity,
        "pictures": len(rows),
        "found": len(errors) / len(rows),
        "frame_error_pixels": {"median": float(np.median(errors)), "p95": float(np.percentile(errors, 95))},
        "zero_edit_identical": float(np.mean(exact)),
        "seam": {"median": float(np.nanmedian(seams)), "p95": float(np.nanpercentile(seams, 95))},
        "large_file": large_file(bundle, Image.open(held_out.path(rows[0])).convert("RGB")),
        "judge": {}
        if judge is None
        else {
            name: _judged(judge, each, names, np.stack(labels), np.array(chosen), groups)
            for name, each in edits.items()
        },
        "same_person": {name: _same_person(each, names, chosen) for name, each in edits.items()},
    }


def _edited(client: Client, pixels: np.ndarray, change: dict[str, float], strength: float = 1.0) -> np.ndarray:
    picture = codecs.encode(pixels, "png", codecs.QUALITY)
    answer = client.edit(picture, change, format="png", experimental=True, strength=strength)
    return np.asarray(answer.image().convert("RGB"))


def _judged(
    judge: Judge, edits: _Edits, names: list[str], labels: np.ndarray, chosen: np.ndarray, groups: Groups
) -> dict[str, float]:
    """Means over the attributes: edits that show, and extra errors on the others; `chosen` int [N] were inverted."""
    box = framing(judge).crop_box
    before, after = (
        judge.predict(framed(np.stack(pictures), box, judge.image_size))[0] for pictures in (edits.before, edits.after)
    )
    tally = EditTally(names, labels, before, judge.thresholds, excused(names, groups))
    for attribute in range(len(names)):
        rows = np.flatnonzero(chosen == attribute)
        tally.add(attribute, after[rows], rows)
    removed, added = (per_attribute(names, values)["mean"] for values in tally.by_direction(tally.done))
    return {"added": added, "removed": removed, "side_effects": float(np.nanmean(tally.extra))}


def _same_person(edits: _Edits, names: list[str], chosen: list[int]) -> dict[str, float] | str:
    """Whom the recogniser takes for the same after edits that should leave that alone; or why there is none."""
    try:
        identity = Identity()
    except IdentityUnavailableError as exc:
        return str(exc)
    some = [number for number, attribute in enumerate(chosen) if names[attribute] in KEEPS_IDENTITY]
    if not some:
        return "-"
    before, after = (
        identity(np.stack([pictures[number] for number in some])) for pictures in (edits.before, edits.after)
    )
    distances = np.linalg.norm(before - after, axis=1)
    return {"edits": len(some), "share": float((distances < SAME).mean()), "median": float(np.median(distances))}


def large_file(bundle: Bundle, picture: Image.Image, rounds: int = 15) -> dict[str, Any]:
    """An edit of a photograph of 4000 x 3000 pixels, in times of decoding and encoding that file, taken in turns.

    The one is Pillow alone: open, load, save as JPEG at quality 90 into memory. The other is a server of its own, from
    the request to the answer, by the wall's clock and by the processor's. All figures are medians over the rounds.
    """
    data = photograph(picture)
    plain, edits, stages = [], [], {}
    with facet(bundle.directory) as server, server.client as client:
        for turn in range(rounds + 1):
            begin = time.perf_counter(), time.process_time()
            image = Image.open(io.BytesIO(data))
            image.load()
            image.save(io.BytesIO(), "JPEG", quality=90)
            plain.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
            begin = time.perf_counter(), server.cpu_seconds
            answer = _posted(client, data)
            edits.append((time.perf_counter() - begin[0], server.cpu_seconds - begin[1]))
            if turn == 0:  # a server's first
                plain, edits = [], []
                continue
            for part in answer.headers["server-timing"].split(", "):
                name, _, milliseconds = part.partition(";dur=")
                stages.setdefault(name, []).append(float(milliseconds))
    plain_seconds, edit_seconds = np.array(plain), np.array(edits)
    over = np.median(edit_seconds / plain_seconds, axis=0)
    return {
        "megabytes": len(data) / 1e6,
        "plain_ms": float(1000 * np.median(plain_seconds[:, 0])),
        "edit_over_plain": float(over[0]),
        "edit_over_plain_processor": float(over[1]),
        "stages_ms": {name: float(np.median(taken)) for name, taken in stages.items()},
    }


def _posted(client: httpx.Client, data: bytes) -> httpx.Response:
    fields = {"attributes": json.dumps(_LARGE_EDIT), "quality": "90"}
    answer = client.post("/v1/edit", data=fields, files={"image": ("photo.jpg", data, "image/jpeg")})
    return answer.raise_for_status()


def table(report: dict) -> str:
    """The report as Markdown."""
    large = report["large_file"]
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in large["stages_ms"].items())
    lines = [
        f"# Edits on photographs, {report['bundle']}",
        "",
        f"{report['pictures']} held-out pictures of people whom the model has not seen, each on a canvas of "
        f"{CANVAS[0]} x {CANVAS[1]}, turned by up to {_TURN:g} degrees, at {_SCALES[0]:g} to {_SCALES[1]:g} times "
        "their size, one attribute inverted by `POST /v1/edit`.",
        "",
        "| | |",
        "|---|---|",
        f"| faces found | {report['found']:.1%} |",
        f"| frame, root mean square error of its corners, in its own pixels | median "
        f"{report['frame_error_pixels']['median']:.2f}, 95th percentile {report['frame_error_pixels']['p95']:.2f} |",
        f"| an edit of strength 0 gives the same pixels | {report['zero_edit_identical']:.1%} |",
        f"| seam: gradient energy on the ring where the change ends, after against before | median "
        f"{report['seam']['median']:.3f}, 95th percentile {report['seam']['p95']:.3f} |",
        f"| an edit of a JPEG of 4000 x 3000 pixels and {large['megabytes']:.1f} MB ({', '.join(_LARGE_EDIT)}), in "
        f"times of decoding and encoding it ({large['plain_ms']:.0f} ms) | "
        f"{large['edit_over_plain']:.2f} by the clock, {large['edit_over_plain_processor']:.2f} of the processor's |",
        f"| of which, in milliseconds by the clock | {stages} |",
        "",
        "| edits | show, added | removed | extra error on the other attributes | the same person |",
        "|---|---|---|---|---|",
    ]
    for name, text in (("upright", "of the pictures by themselves"), ("photo", "on the photographs")):
        seen = report["judge"].get(name)
        judged = "- | - | -"
        if seen:
            judged = f"{seen['added']:.1%} | {seen['removed']:.1%} | {100 * seen['side_effects']:+.1f} points"
        same = report["same_person"][name]
        share = same if isinstance(same, str) else f"{same['share']:.1%} of {same['edits']}"
        lines.append(f"| {text} | {judged} | {share} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write JSON and Markdown."""
    parser = records.parser("photographs", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="a directory in CelebA's layout")
    parser.add_argument("--judge", type=Path, help="from `python -m training judge`; without, nothing is judged")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="from `make weights`")
    parser.add_argument("--pictures", type=int, default=1000)
    options = parser.parse_args()
    judge = load_judge(options.judge)[0] if options.judge else None
    report = measure(loader.load(options.bundle.resolve()), judge, options.data, options.weights, options.pictures)
    records.write(options.out, "photographs", table(report), report)
    print(table(report))


if __name__ == "__main__":
    main()
