"""The protocol for encoder and decoder, on framed pictures: edits judged by a network that no loss has seen.

Everything is measured on pictures as they come, without given attributes: the encoder's estimates fill the gaps.
Labels only say in which direction an attribute is inverted and whether the judge is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from tqdm import tqdm

from service.bundle.gaussian_prior import GaussianPrior
from service.bundle.loader import Bundle
from service.bundle.sampler import Sampler
from training import attributes as attribute_rules
from training import metrics
from training.attributes import Groups
from training.data.dataset import Faces
from training.evaluation.report import formatted, rounded
from training.evaluation.tally import EditTally, column_means, per_attribute
from training.graphs import Graphs, encode_unknown
from training.judge import Judge

_BATCH = 128
_PROBE_PICTURES = 8000
_GRADUAL_PICTURES = 128
_GENERATED = 2000
GRADUAL_STRENGTHS = np.linspace(0, 1, 11)
SUBGROUPS = ("Male", "Young", "Pale_Skin")


def inverted(
    current: np.ndarray, labels: np.ndarray, attribute: int, names: list[str], groups: Groups = None
) -> np.ndarray:
    """The attributes that ask for one attribute's opposite, f32 [N, K]; groups are respected."""
    as_tensors = torch.from_numpy(current), torch.from_numpy(labels.astype(np.float32))
    return attribute_rules.invert_one(*as_tensors, attribute, attribute_rules.exclusion_matrix(names, groups)).numpy()


def residual_edit(pixels: np.ndarray, reconstruction: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """The picture plus the difference of two decodes, uint8 [N, S, S, 3], clipped (Brock et al. 2017)."""
    return (pixels.astype(np.int16) + edited - reconstruction.astype(np.int16)).clip(0, 255).astype(np.uint8)


def evaluate(
    graphs: Graphs,
    judge: Judge,
    names: list[str],
    held_out: Faces,
    train: Faces,
    prior: GaussianPrior,
    groups: Groups = None,
) -> dict:
    """The whole protocol; a JSON-ready report. `train` feeds only the fresh probes and the Frechet floor."""
    latent, current = encode_unknown(graphs, held_out.pixels, len(names))
    reconstruction = graphs.decode(latent, current)
    edits = judge_edits(graphs, judge, names, held_out, latent, current, reconstruction, groups)
    report = {
        "pictures": len(held_out.pixels),
        **edits,
        "leakage": _leakage(graphs, names, train, latent, held_out.labels),
        "reconstruction": {
            "psnr_db": metrics.psnr(reconstruction, held_out.pixels),
            "ssim": metrics.ssim(reconstruction, held_out.pixels),
            "sharpness_of_real": metrics.sharpness(reconstruction) / metrics.sharpness(held_out.pixels),
        },
        "estimates": per_attribute(names, ((current > 0) == (held_out.labels > 0)).mean(0)),
        "gradual": _gradual(graphs, judge, names, held_out.first(_GRADUAL_PICTURES), groups),
        "generation": _generation(graphs, judge, names, held_out, train, prior),
    }
    return rounded(report)


def _each(names: list[str], what: str) -> Iterable[int]:
    """The indices of attributes, while a bar shows progress."""
    return tqdm(range(len(names)), desc=what, unit="attribute", leave=False)


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return ((logits > 0) == (labels > 0)).mean(0)


def _by_value(names: list[str], logits: np.ndarray, labels: np.ndarray) -> dict:
    """The judge's accuracy on real faces that have an attribute, and on those that have it not."""
    right = (logits > 0) == (labels > 0)
    return {
        f"real_{kind}": per_attribute(names, column_means(np.where(labels == value, right, np.nan)))
        for kind, value in (("present", 1), ("absent", -1))
    }


def judge_edits(
    graphs: Graphs,
    judge: Judge,
    names: list[str],
    faces: Faces,
    latent: np.ndarray,
    current: np.ndarray,
    reconstruction: np.ndarray,
    groups: Groups = None,
) -> dict:
    """What the judge sees on the pictures, on their reconstructions, and after inverting each attribute.

    `latent` f32 [N, Z], `current` f32 [N, K] and `reconstruction` uint8 [N, S, S, 3] are those of `faces`.
    """
    real_logits, _ = judge.predict(faces.pixels)
    unedited_logits, _ = judge.predict(reconstruction)
    same_group = np.stack([attribute_rules.exclusion_matrix(names, groups).numpy()] * 2)
    tallies = {
        "raw": EditTally(names, faces.labels, unedited_logits, no_side_effect=same_group),
        "residual": EditTally(names, faces.labels, real_logits, no_side_effect=same_group),
    }
    for attribute in _each(names, "edits"):
        edited = graphs.decode(latent, inverted(current, faces.labels, attribute, names, groups))
        tallies["raw"].add(attribute, judge.predict(edited)[0])
        tallies["residual"].add(attribute, judge.predict(residual_edit(faces.pixels, reconstruction, edited))[0])
    return {
        "judge": {
            "real": per_attribute(names, _accuracy(real_logits, faces.labels)),
            # What to hold edits against: of many rare attributes the judge misses half, where they are really there.
            **_by_value(names, real_logits, faces.labels),
            "reconstructions": per_attribute(names, _accuracy(unedited_logits, faces.labels)),
        },
        "edit": {kind: tally.report() for kind, tally in tallies.items()},
        "subgroups": _subgroups(names, faces.labels, tallies),
    }


def _subgroups(names: list[str], labels: np.ndarray, tallies: dict[str, EditTally]) -> list[dict]:
    """Edits for each combination of the perceived traits that SUBGROUPS names, as far as the model knows them."""
    traits = [name for name in SUBGROUPS if name in names]
    columns = labels[:, [names.index(name) for name in traits]] > 0
    found = []
    for combination in itertools.product((True, False), repeat=len(traits)):
        rows = (columns == combination).all(1)
        if rows.any() and traits:
            quality = {kind: tally.subgroup(rows) for kind, tally in tallies.items()}
            traits_shown = dict(zip(traits, combination, strict=True))
            found.append({"traits": traits_shown, "pictures": int(rows.sum()), **quality})
    return found


def _leakage(graphs: Graphs, names: list[str], train: Faces, latent: np.ndarray, labels: np.ndarray) -> dict:
    train = train.first(_PROBE_PICTURES)
    train_latent, _ = encode_unknown(graphs, train.pixels, len(names))
    return {
        kind: per_attribute(names, metrics.probe_auc(train_latent, train.labels, latent, labels, kind))
        for kind in tqdm(("linear", "mlp"), desc="probes", unit="kind", leave=False)
    }


def _gradual(graphs: Graphs, judge: Judge, names: list[str], faces: Faces, groups: Groups) -> dict:
    latent, current = encode_unknown(graphs, faces.pixels, len(names))
    reconstruction = graphs.decode(latent, current)
    rank = {"raw": np.zeros(len(names)), "residual": np.zeros(len(names))}
    for attribute in _each(names, "gradual edits"):
        target = inverted(current, faces.labels, attribute, names, groups)
        logits: dict[str, list[np.ndarray]] = {"raw": [], "residual": []}
        for strength in GRADUAL_STRENGTHS:
            edited = graphs.decode(latent, (current + strength * (target - current)).astype(np.float32))
            logits["raw"].append(judge.predict(edited)[0][:, attribute])
            residual = residual_edit(faces.pixels, reconstruction, edited)
            logits["residual"].append(judge.predict(residual)[0][:, attribute])
        direction = -faces.labels[:, [attribute]]
        for kind, values in logits.items():
            rank[kind][attribute] = metrics.monotonicity(GRADUAL_STRENGTHS, np.stack(values, axis=1) * direction)
    return {kind: per_attribute(names, values) for kind, values in rank.items()}


def _generation(
    graphs: Graphs, judge: Judge, names: list[str], held_out: Faces, train: Faces, prior: GaussianPrior
) -> dict:
    count = min(_GENERATED, len(held_out.labels), len(train.labels))
    requested = held_out.labels[:count].astype(np.float32)
    rng = np.random.default_rng(0)
    latent = Sampler(prior, [None] * len(names)).latents(0, requested, learned=graphs.learned)
    fitted = graphs.decode(latent, requested)
    standard = graphs.decode(rng.standard_normal((count, len(prior.latent_mean))).astype(np.float32), requested)
    logits, features = judge.predict(fitted)
    _, standard_features = judge.predict(standard)
    _, real = judge.predict(held_out.pixels[:count])
    _, other_real = judge.predict(train.pixels[:count])
    present = requested > 0
    predicted = logits > 0
    recall = np.array(
        [predicted[present[:, k], k].mean() if present[:, k].any() else np.nan for k in range(len(names))]
    )
    return {
        "asked_seen": per_attribute(names, (predicted == present).mean(0)),
        "asked_present_seen": per_attribute(names, recall),
        "frechet_judge_features": {
            "fitted_prior": metrics.frechet_distance(features, real),
            "standard_normal": metrics.frechet_distance(standard_features, real),
            "real_against_real": metrics.frechet_distance(other_real, real),
        },
    }


def markdown(report: dict) -> str:
    """The report as Markdown tables for a model card."""
    edit, generation = report["edit"], report["generation"]
    raw, residual = edit["raw"], edit["residual"]
    rows = [
        ("edit accuracy, mean", "percent", raw["accuracy"]["mean"], residual["accuracy"]["mean"]),
        ("- both directions weighted equally", "percent", *(e["balanced_accuracy"]["mean"] for e in (raw, residual))),
        ("- added", "percent", raw["added"]["mean"], residual["added"]["mean"]),
        ("- removed", "percent", raw["removed"]["mean"], residual["removed"]["mean"]),
        ("extra error on the other attributes", "points", *(e["side_effects"]["mean"] for e in (raw, residual))),
        ("gradual edits, Spearman", "number", *(report["gradual"][kind]["mean"] for kind in ("raw", "residual"))),
    ]
    lines = [f"Measured on {report['pictures']} held-out pictures.", ""]
    lines += ["| | raw decode | residual edit on the picture |", "|---|---|---|"]
    lines += [f"| {name} | {formatted(kind, a)} | {formatted(kind, b)} |" for name, kind, a, b in rows]
    reconstruction, distance = report["reconstruction"], generation["frechet_judge_features"]
    lines += [
        "",
        "| | |",
        "|---|---|",
        f"| judge on real pictures | {formatted('percent', report['judge']['real']['mean'])} |",
        f"| - of attributes that are there | {formatted('percent', report['judge']['real_present']['mean'])} |",
        f"| - of attributes that are not | {formatted('percent', report['judge']['real_absent']['mean'])} |",
        f"| judge on plain reconstructions | {formatted('percent', report['judge']['reconstructions']['mean'])} |",
        f"| reconstruction | {reconstruction['psnr_db']:.2f} dB, SSIM {reconstruction['ssim']:.3f} |",
        f"| sharpness, of real | {reconstruction['sharpness_of_real']:.2f} |",
        f"| leakage AUC, linear probe | {report['leakage']['linear']['mean']:.3f} |",
        f"| leakage AUC, MLP | {report['leakage']['mlp']['mean']:.3f} |",
        f"| encoder's own attribute estimates | {formatted('percent', report['estimates']['mean'])} |",
        f"| generation: requested attributes seen | {formatted('percent', generation['asked_seen']['mean'])} |",
        f"| - of those requested to be present | {formatted('percent', generation['asked_present_seen']['mean'])} |",
        f"| Frechet distance in judge features, fitted prior | {distance['fitted_prior']:.2f} |",
        f"| - latents from N(0, I) | {distance['standard_normal']:.2f} |",
        f"| - real against real | {distance['real_against_real']:.2f} |",
        "",
        "The last two columns are the judge's accuracy on real faces that have the attribute, and that have it not: an "
        "edit that is seen more often outdoes the average real face.",
        "",
        "| attribute | raw: added | removed | residual: added | removed | side effects (residual) "
        "| real: present | absent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in raw["added"]["attributes"]:
        cells = [
            formatted("percent", e[way]["attributes"][name]) for e in (raw, residual) for way in ("added", "removed")
        ]
        cells.append(formatted("points", residual["side_effects"]["attributes"][name]))
        cells += [
            formatted("percent", report["judge"][kind]["attributes"][name]) for kind in ("real_present", "real_absent")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if report["subgroups"]:
        lines += [
            "",
            "| perceived as | pictures | raw: accuracy | side effects | residual: accuracy | side effects |",
            "|---|---|---|---|---|---|",
        ]
    for group in report["subgroups"]:
        traits = ", ".join(name if present else f"not {name}" for name, present in group["traits"].items())
        cells = [
            cell
            for kind in ("raw", "residual")
            for cell in (
                formatted("percent", group[kind]["accuracy"]),
                formatted("points", group[kind]["side_effects"]),
            )
        ]
        lines.append(f"| {traits} | {group['pictures']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def graph_hashes(bundle: Bundle) -> dict[str, str]:
    """sha256 of each graph, by which a report names what it is about."""
    return {name: bundle.manifest.files[name].sha256 for name in bundle.manifest.graphs}
