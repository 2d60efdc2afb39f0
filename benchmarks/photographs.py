"""python -m benchmarks.photographs: what edits are worth once they are back on a photograph.

Labelled pictures of people whom the model has not seen are laid, turned and resized at random, on larger canvases;
the service's own parts find, encode, edit and paste. Because we know where each face was laid, we can look at the
result as the independent judge sees faces. With `--recogniser`, a directory of dlib's networks (its five-landmark
predictor and its face recognition network), we also tell how far an edit moves a person's descriptor; below 0.6 it
counts as the same one.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from tqdm import tqdm

from benchmarks import records
from benchmarks.workloads import photograph
from service.bundle import loader
from service.bundle.loader import Bundle
from service.faces.detector import Detector
from service.faces.finder import FaceFinder, FaceLocation, NoFaceError
from service.imaging import alignment, codecs, paste
from service.inference.onnx import OnnxRuntime
from service.pipeline.photo_cache import DecodedPhotoCache, Photograph
from service.settings import Settings
from training.attributes import exclusion_matrix
from training.data import dataset
from training.evaluation import inverted, residual_edit
from training.graphs import BundleGraphs, encode_unknown
from training.judge import Judge, load_judge

CANVAS = (640, 480)
_TURN, _SCALES = 30.0, (0.5, 2.0)  # degrees to either side; the aligned picture's size is 1
_SAME_PERSON = 0.6
_IDENTITY = ("Smiling", "Black_Hair", "Blond_Hair", "Brown_Hair", "Eyeglasses")


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
    """The transform f64 [2, 3] from the model's frame, were the face found without error, to the photograph."""
    return alignment.after(scene.laid, alignment.of_box(box, size))


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


class Recogniser:
    """Descriptors f64 [128] of faces, by dlib's networks."""

    def __init__(self, directory: Path) -> None:
        import dlib

        self._dlib = dlib
        self._landmarks = dlib.shape_predictor(str(directory / "shape_predictor_5_face_landmarks.dat"))
        self._network = dlib.face_recognition_model_v1(str(directory / "dlib_face_recognition_resnet_model_v1.dat"))

    def distance(self, before: np.ndarray, after: np.ndarray, location: FaceLocation) -> float:
        """Between the descriptors of one face in two photographs uint8 [H, W, 3]."""
        left, top, right, bottom = location.box
        side, x, y = (right - left + bottom - top) / 2, (left + right) / 2, (top + bottom) / 2
        box = self._dlib.rectangle(*(round(v) for v in (x - side / 2, y - side / 2, x + side / 2, y + side / 2)))
        # Landmarks of the untouched face for both: the same pixels are compared.
        shape = self._landmarks(np.ascontiguousarray(before), box)
        one, other = (
            np.array(self._network.compute_face_descriptor(np.ascontiguousarray(p), shape)) for p in (before, after)
        )
        return float(np.linalg.norm(one - other))


def measure(
    bundle: Bundle, judge: Judge | None, data: Path, weights: Path, count: int, recogniser: Recogniser | None
) -> dict:
    """All figures for the first `count` strangers of the validation partition, an attribute each in turn.

    Without a judge, all but what it sees.
    """
    manifest, graphs = bundle.manifest, BundleGraphs(bundle)
    names, frame = manifest.attribute_names, manifest.frame
    held_out = dataset.read_index(data, names, "validation")
    rows = np.flatnonzero(dataset.strangers(held_out, dataset.read_index(data, names, "train")))
    finder = FaceFinder(Detector(weights))
    exclusion = exclusion_matrix(names).numpy()
    rng = np.random.default_rng(0)
    errors, seams, exact, seconds, distances = [], [], [], [], []
    views: dict[str, list[np.ndarray]] = {"before": [], "photo": [], "frame": []}
    chosen, labels = [], []  # the inverted attribute of each picture, and the labels
    for number, row in enumerate(tqdm(rows[:count], leave=False)):
        scene = lay(Image.open(held_out.path(row)).convert("RGB"), rng)
        picture = Image.fromarray(scene.pixels)
        try:
            face = finder.frame(picture, frame, framed=False, largest=True)[0]
        except NoFaceError:
            continue
        right = frame_of(scene, frame.crop_box, frame.image_size)
        found, true = (alignment.corners(matrix, frame.image_size) for matrix in (face.location.matrix, right))
        off = np.sqrt(np.square(found - true).sum(1).mean()) / alignment.scale(right)
        if off > frame.image_size / 4:  # something else than this face
            continue
        errors.append(off)
        attribute, label = number % len(names), held_out.labels[row : row + 1]
        latent, estimates = encode_unknown(graphs, face.pixels[None], len(names))
        target = inverted(estimates, label, attribute, names)
        plain, edited = graphs.decode(np.repeat(latent, 2, axis=0), np.concatenate([estimates, target]))
        begin = time.perf_counter()
        pasted = paste.paste(picture, [(face.location.matrix, plain, edited)])
        seconds.append(time.perf_counter() - begin)
        result, untouched = np.asarray(pasted), paste.paste(picture, [(face.location.matrix, plain, plain)])
        exact.append(np.array_equal(np.asarray(untouched), scene.pixels))
        seams.append(seam(scene.pixels, result))
        views["before"].append(alignment.sample(picture, right, frame.image_size))
        views["photo"].append(alignment.sample(pasted, right, frame.image_size))
        views["frame"].append(residual_edit(face.pixels[None], plain[None], edited[None])[0])
        chosen.append(attribute)
        labels.append(label[0])
        if recogniser and names[attribute] in _IDENTITY:
            distances.append(recogniser.distance(scene.pixels, result, face.location))
    present, chosen = np.stack(labels) > 0, np.array(chosen)
    seen = {name: judge.predict(np.stack(pictures))[0] > 0 for name, pictures in views.items()} if judge else {}
    return {
        "bundle": bundle.identity,
        "pictures": len(rows[:count]),
        "found": len(errors) / len(rows[:count]),
        "frame_error_pixels": {"median": float(np.median(errors)), "p95": float(np.percentile(errors, 95))},
        "zero_edit_identical": float(np.mean(exact)),
        "seam": {"median": float(np.nanmedian(seams)), "p95": float(np.nanpercentile(seams, 95))},
        "paste_ms": float(1000 * np.median(seconds)),
        "large_file": large_file(bundle, weights, Image.open(held_out.path(rows[0])).convert("RGB")),
        "judge": {
            name: _seen(seen[name], seen["before"], present, chosen, exclusion) for name in ("frame", "photo") if seen
        },
        "same_person": (
            {
                "edits": len(distances),
                "below_0.6": float(np.mean(np.array(distances) < _SAME_PERSON)),
                "median": float(np.median(distances)),
            }
            if distances
            else None
        ),
    }


def large_file(bundle: Bundle, weights: Path, picture: Image.Image, rounds: int = 25) -> dict[str, Any]:
    """An edit of a photograph of 4000 x 3000 pixels, in times of decoding and encoding that file, taken in turns.

    The one is Pillow alone: open, load, save as JPEG at quality 90 into memory. The other is all that the service does
    to the file between reading the request and writing the answer, with its own graphs, every attribute inverted.
    Both in one thread, by the wall's clock and by the processor's; the ratios are medians over the rounds.
    """
    manifest, finder = bundle.manifest, FaceFinder(Detector(weights))
    runtime = OnnxRuntime(bundle, Settings(device="cpu"))
    data, size = photograph(picture), 4000 * 3000 * 3
    unknown = np.full((1, len(manifest.attributes)), np.nan, dtype=np.float32)
    cache = DecodedPhotoCache(size)
    stages: dict[str, list[float]] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        begin = time.process_time()
        yield
        stages.setdefault(name, []).append(time.process_time() - begin)

    def plain() -> None:
        with stage("plain decode"):
            image = Image.open(io.BytesIO(data))
            image.load()
        with stage("plain encode"):
            image.save(io.BytesIO(), "JPEG", quality=90)

    def edit() -> None:
        photo = Photograph(data, size, cache)
        with stage("decode"):
            preview, whole_size = photo.preview()
        with stage("find"):
            face = finder.frame(preview, manifest.frame, None, whole_size, largest=True)[0]
        with stage("graphs"):
            found = runtime.encoder({"image": face.pixels[None], "attributes": unknown})
            estimates = found["attribute_estimates"]
            both = np.concatenate([estimates, -estimates])
            drawn = runtime.decoder({"latent": np.repeat(found["mean"], 2, axis=0), "attributes": both})["image"]
        with stage("paste"):
            whole = photo.whole()
            paste.paste_into(whole.image, [(face.location.matrix, *drawn)])
        with stage("encode"):
            codecs.encode_photo(whole, "jpeg", 90)
        photo.close()

    seconds: dict[Callable[[], None], list[tuple[float, float]]] = {plain: [], edit: []}
    for _ in range(rounds):
        for work, taken in seconds.items():
            begin = time.perf_counter(), time.process_time()
            work()
            taken.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    plain_seconds, edit_seconds = (np.array(taken) for taken in seconds.values())
    over = np.median(edit_seconds / plain_seconds, axis=0)
    return {
        "megabytes": len(data) / 1e6,
        "plain_seconds": float(np.median(plain_seconds[:, 0])),
        "plain_processor_seconds": float(np.median(plain_seconds[:, 1])),
        "edit_over_plain": float(over[0]),
        "edit_over_plain_processor": float(over[1]),
        "processor_ms": {name: float(1000 * np.median(taken)) for name, taken in stages.items()},
    }


def _seen(
    after: np.ndarray, before: np.ndarray, present: np.ndarray, chosen: np.ndarray, exclusion: np.ndarray
) -> dict[str, float]:
    """Edits that show, and extra errors on the other attributes; bool [N, K] each, `chosen` int [N]."""
    pictures = np.arange(len(chosen))
    done = after[pictures, chosen] != present[pictures, chosen]
    others = ~exclusion[chosen]
    others[pictures, chosen] = False
    extra = ((after != present).astype(float) - (before != present))[others]
    adding = ~present[pictures, chosen]
    return {
        "accuracy": float(done.mean()),
        "added": float(done[adding].mean()),
        "removed": float(done[~adding].mean()),
        "side_effects": float(extra.mean()),
    }


def table(report: dict) -> str:
    """The report as Markdown."""
    judged, large = report["judge"], report["large_file"]
    stages = ", ".join(f"{name} {ms:.1f}" for name, ms in large["processor_ms"].items())
    lines = [
        f"# Edits on photographs, {report['bundle']}",
        "",
        f"{report['pictures']} held-out pictures of people whom the model has not seen, each on a canvas of "
        f"{CANVAS[0]} x {CANVAS[1]}, turned by up to {_TURN:g} degrees, at {_SCALES[0]:g} to {_SCALES[1]:g} times "
        "their size, one attribute inverted.",
        "",
        "| | |",
        "|---|---|",
        f"| faces found | {report['found']:.1%} |",
        f"| frame, root mean square error of its corners, in its own pixels | median "
        f"{report['frame_error_pixels']['median']:.2f}, 95th percentile {report['frame_error_pixels']['p95']:.2f} |",
        f"| an edit that changes nothing gives the same pixels | {report['zero_edit_identical']:.1%} |",
        f"| seam: gradient energy on the ring where the change ends, after against before | median "
        f"{report['seam']['median']:.3f}, 95th percentile {report['seam']['p95']:.3f} |",
        f"| pasting | {report['paste_ms']:.1f} ms |",
        f"| an edit of a JPEG of 4000 x 3000 pixels and {large['megabytes']:.1f} MB, in times of decoding and encoding "
        f"it ({1000 * large['plain_processor_seconds']:.0f} ms of one processor), every attribute inverted | "
        f"{large['edit_over_plain_processor']:.2f} of the processor's time, "
        f"{large['edit_over_plain']:.2f} by the clock |",
        f"| of which, in milliseconds of the processor | {stages} |",
    ]
    if same := report["same_person"]:
        lines.append(
            f"| the same person (descriptor nearer than {_SAME_PERSON}), {same['edits']} edits of smile, hair and "
            f"glasses | {same['below_0.6']:.1%}, median distance {same['median']:.2f} |"
        )
    if not judged:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "| judged | edits that show | added | removed | extra error on the other attributes |",
        "|---|---|---|---|---|",
    ]
    for name, text in (("frame", "in the model's frame"), ("photo", "on the photograph")):
        seen = judged[name]
        lines.append(
            f"| {text} | {seen['accuracy']:.1%} | {seen['added']:.1%} | {seen['removed']:.1%} "
            f"| {100 * seen['side_effects']:+.1f} points |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write JSON and Markdown."""
    parser = records.parser("photographs", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="a directory in CelebA's layout")
    parser.add_argument("--judge", type=Path, help="from `python -m training judge`; without, nothing is judged")
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="from `make weights`")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--recogniser", type=Path, help="directory of dlib's networks; needs the package dlib")
    options = parser.parse_args()
    recogniser = Recogniser(options.recogniser) if options.recogniser else None
    judge = load_judge(options.judge)[0] if options.judge else None
    bundle = loader.load(options.bundle)
    report = measure(bundle, judge, options.data, options.weights, options.pictures, recogniser)
    records.write(options.out, "photographs", table(report), report)
    print(table(report))


if __name__ == "__main__":
    main()
