"""How real generated faces look, how much they differ, and whether they are anybody's portrait.

Distances are KID (Binkowski et al. 2018) in features that no loss has seen, to real pictures of people whom no training
picture shows. Diversity is the mean distance of two faces in the same features, as a share of that of real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from service.bundle import vectors
from service.bundle.loader import Bundle
from service.bundle.sampler import TEMPERATURE
from service.imaging import codecs
from service.inference import golden
from training import metrics
from training.evaluation.decoder import GRADUAL_STRENGTHS
from training.evaluation.realism import split_noise
from training.evaluation.report import rounded
from training.evaluation.tally import per_attribute
from training.graphs import Graphs, encode_unknown
from training.judge import Judge

KIND = "samples"  # of a report, and its name in a manifest's evaluation
TEMPERATURES = (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
NEIGHBOURS = 64  # samples whose nearest training pictures are looked for
_SWEPT = 64  # faces to which each attribute is added gradually
_SEED, _CHUNK = 11, 2048

Features = Callable[[np.ndarray], np.ndarray]  # uint8 [N, S, S, 3] to f32 [N, F]


def evaluate(
    graphs: Graphs,
    bundle: Bundle,
    features: Features,
    held_out: np.ndarray,
    train: np.ndarray,
    count: int = 1000,
    temperatures: Sequence[float] = TEMPERATURES,
    judge: Judge | None = None,
) -> tuple[dict, np.ndarray]:
    """A JSON-ready report, and a sheet uint8 [H, W, 3] of samples, each above its nearest training picture.

    `held_out` and `train` are pictures uint8 [N, S, S, 3] in the bundle's frame. Half of the held-out ones are compared
    with, the others are reconstructed. `count` faces are drawn at each of the `temperatures`. With a `judge`, the
    report says how well gradual additions follow their order.
    """
    real, others = held_out[::2], held_out[1::2]
    target, other = features(real), features(others)
    spread = _spread(target)
    latent, attributes = encode_unknown(graphs, others, len(bundle.manifest.attributes))
    by_temperature = {}
    for temperature in temperatures:
        found = features(draw(graphs, bundle, count, temperature))
        by_temperature[f"{temperature:g}"] = {
            "kid": 1000 * metrics.kernel_distance(found, target),
            "diversity": _spread(found) / spread,
        }
    portraits, neighbours = _neighbours(graphs, bundle, latent, train)
    report = {
        "kind": KIND,
        "samples": count,
        "real": len(real),
        "default_temperature": TEMPERATURE,
        "kid": {
            "reconstructions": 1000 * metrics.kernel_distance(features(graphs.decode(latent, attributes)), target),
            "real_against_real": 1000 * metrics.kernel_distance(other, target),
            "noise": 1000 * split_noise(np.concatenate([target, other]), len(real)),
        },
        "temperatures": by_temperature,
        "neighbours": neighbours,
    }
    if judge is not None:
        report["gradual"] = gradual(graphs, bundle, judge)
    return rounded(report), portraits


def draw(graphs: Graphs, bundle: Bundle, count: int, temperature: float = TEMPERATURE, seed: int = _SEED) -> np.ndarray:
    """Faces uint8 [count, S, S, 3] as the service draws them without any attribute given."""
    return graphs.decode(*golden.inputs(bundle, graphs.learned, count, temperature, seed).values())


def gradual(graphs: Graphs, bundle: Bundle, judge: Judge, count: int = _SWEPT) -> dict:
    """By attribute, the rank correlation of its strength with the judge's logit, on faces that the service would draw.

    Each of `count` faces goes from -1 to 1 in one attribute, as in a sweep on a seed.
    """
    latent, attributes = golden.inputs(bundle, graphs.learned, count, TEMPERATURE, _SEED).values()
    names, found = bundle.manifest.attribute_names, []
    for number, name in enumerate(names):
        absent = attributes.copy()
        absent[:, number] = -1
        steps = vectors.swept(absent, name, 1.0, GRADUAL_STRENGTHS, bundle.manifest).astype(np.float32)  # [T, N, K]
        logits = [judge.predict(graphs.decode(latent, step))[0][:, number] for step in steps]
        found.append(metrics.monotonicity(GRADUAL_STRENGTHS, np.stack(logits, axis=1)))
    return per_attribute(names, np.array(found))


def _spread(features: np.ndarray) -> float:
    """The mean Euclidean distance of neighbours in f32 [N, F], whose order is random."""
    return float(np.linalg.norm(features - np.roll(features, 1, axis=0), axis=1).mean())


def _neighbours(graphs: Graphs, bundle: Bundle, real: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, dict]:
    """Samples above their nearest training pictures, uint8 [H, W, 3], and the distances of both samples and real faces.

    `real` f32 [N, Z] are the encoder's means of held-out faces, `train` uint8 [M, S, S, 3] pictures.

    Distances are Euclidean in the encoder's means, each value in units of its standard deviation over `train`.
    """
    samples = draw(graphs, bundle, NEIGHBOURS)
    known, found = (encode_unknown(graphs, each, len(bundle.manifest.attributes))[0] for each in (train, samples))
    scale = known.std(axis=0) + 1e-6
    (near, rows), (expected, _) = (nearest(each / scale, known / scale) for each in (found, real))
    pairs = np.stack([samples, train[rows]], axis=1).reshape(-1, 8, 2, *samples.shape[1:])  # [8, 8, 2, S, S, 3]
    sheet = codecs.grid(pairs.swapaxes(1, 2).reshape(-1, *samples.shape[1:]), 8)
    return sheet, {
        "samples": NEIGHBOURS,
        "training_pictures": len(train),
        "median": float(np.median(near)),
        "smallest": float(near.min()),
        "real_median": float(np.median(expected)),
        "real_smallest": float(expected.min()),
    }


def nearest(points: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of f [N, D] the Euclidean distance f [N] to the nearest of f [M, D], and its row int [N]."""
    best, rows = np.full(len(points), np.inf), np.zeros(len(points), dtype=np.int64)
    squares = np.square(points).sum(axis=1)
    for start in range(0, len(among), _CHUNK):
        part = among[start : start + _CHUNK]
        distances = squares[:, None] - 2 * points @ part.T + np.square(part).sum(axis=1)
        closest = distances.argmin(axis=1)
        smallest = distances[np.arange(len(points)), closest]
        rows = np.where(smallest < best, start + closest, rows)
        best = np.minimum(best, smallest)
    return np.sqrt(best.clip(0)), rows


def markdown(report: dict) -> str:
    """Tables for people and for model cards."""
    kid, near = report["kid"], report["neighbours"]
    lines = [
        f"{report['samples']} faces at each temperature, with attributes as people have them, and {report['real']} "
        "pictures of people whom no training picture shows. KID x 1,000, features of Inception V3.",
        "",
        "| | KID | diversity, of real |",
        "|---|---|---|",
    ]
    for temperature, found in report["temperatures"].items():
        default = ", the default" if float(temperature) == report["default_temperature"] else ""
        lines.append(f"| temperature {temperature}{default} | {found['kid']:.2f} | {found['diversity']:.2f} |")
    lines += [
        f"| reconstructions | {kid['reconstructions']:.2f} | |",
        f"| real against real, ± noise | {kid['real_against_real']:.2f} ± {kid['noise']:.2f} | |",
        "",
        f"Distance to the nearest of {near['training_pictures']} training pictures, in the encoder's latents: "
        f"{near['samples']} samples {near['median']:.1f} (median; the smallest {near['smallest']:.1f}), real people "
        f"{near['real_median']:.1f} ({near['real_smallest']:.1f}).",
    ]
    if gradual := report.get("gradual"):
        weakest = min((value, name) for name, value in gradual["attributes"].items())
        lines += [
            "",
            f"Attributes added gradually to generated faces, Spearman of strength and judge: {gradual['mean']:.3f} "
            f"(the weakest: {weakest[1]} {weakest[0]:.3f}).",
        ]
    return "\n".join(lines) + "\n"
