"""compare: runs of the VAE that differ in one value, judged beside each other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from training import attributes, checkpoint, distributed, provenance, threads
from training.attributes import Groups
from training.commands import inputs, options
from training.data.dataset import Faces
from training.evaluation import decoder, report
from training.evaluation.report import formatted
from training.graphs import Graphs, TorchGraphs, encode_unknown
from training.judge import Judge
from training.metrics import psnr, sharpness
from training.precision import autocast
from training.trainer import LAST

RARE = 0.06  # of the training pictures at most have a value that is rare


def compare(arguments: argparse.Namespace) -> int:
    """Judge the last checkpoints of several VAE runs on the first held-out pictures, uncalibrated: for ablations."""
    device = distributed.start(arguments.device)
    threads.choose(arguments.threads)
    rows = report.rounded({str(run): _figures(run, arguments, device) for run in arguments.runs})
    text = _table(rows)
    if arguments.out:
        report.save(rows, arguments.out, text, "comparison")
    print(text)
    return 0


def _figures(run: Path, arguments: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Means over attributes, by the judge and of the reconstructions."""
    model, settings, state = checkpoint.load_model(run / LAST)
    names = settings.data.attributes
    judge, _ = provenance.judge_of(arguments.judge, names)
    provenance.require_own_frame(judge, arguments.judge, settings.data)
    model.to(device)
    judge.to(device)
    index, pixels = inputs.faces_of(arguments, settings, "validation")
    faces = Faces(pixels, index.labels).first(arguments.pictures)
    groups = attributes.groups(names, settings.data.about)
    with autocast(device):
        return {"step": int(state["step"])} | judged(TorchGraphs(model), judge, names, faces, groups)


@torch.no_grad()
def judged(graphs: Graphs, judge: Judge, names: list[str], faces: Faces, groups: Groups = None) -> dict[str, float]:
    """What the judge sees of edits of `faces`, shares in 0..1, and how pictures are reconstructed.

    NaN where no attribute is rare, or in a group.
    """
    latent, current = encode_unknown(graphs, faces.pixels, len(names))
    reconstruction = graphs.decode(latent, current)
    edits = decoder.judge_edits(graphs, judge, names, faces, latent, current, reconstruction, groups)["edit"]
    present = faces.labels > 0
    rare = [k for k in range(len(names)) if 0 < present[:, k].mean() <= RARE]
    grouped = [k for members in attributes.exclusive_groups(names, groups).values() for k in members]
    added = np.array([edits["raw"]["added"]["attributes"][name] for name in names])
    return {
        "reconstruction_db": psnr(reconstruction, faces.pixels),
        "sharpness_of_real": sharpness(reconstruction) / sharpness(faces.pixels),
        "rare_estimates": _mean([current[present[:, k], k].mean() for k in rare]),
        "rare_added": _mean(added[rare]),
        "grouped_added": _mean(added[grouped]),
    } | {
        f"{kind}_{measure}": edits[kind][measure]["mean"]
        for kind in ("raw", "residual")
        for measure in ("added", "removed", "side_effects")
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _table(rows: dict[str, dict[str, float | None]]) -> str:
    """The figures as Markdown, a row for each run."""
    heads = [
        "run",
        "step",
        "reconstruction",
        "sharpness",
        "estimate of rare attributes where present",
        "raw, added: rare, of a group",
        "raw: added / removed / side effects",
        "residual: added / removed / side effects",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, found in rows.items():
        shares = {key: formatted("percent", value) for key, value in found.items()}
        kinds = [
            f"{shares[f'{kind}_added']} / {shares[f'{kind}_removed']} / "
            + formatted("points", found[f"{kind}_side_effects"])
            for kind in ("raw", "residual")
        ]
        values = [
            name,
            f"{found['step']}",
            f"{found['reconstruction_db']:.2f} dB",
            f"{found['sharpness_of_real']:.2f}",
            formatted("number", found["rare_estimates"]),
            f"{shares['rare_added']}, {shares['grouped_added']}",
            *kinds,
        ]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def add(commands: options.Commands) -> None:
    """Describe the command of this module to the command line."""
    command = options.command(commands, "compare", compare)
    options.add_data(command)
    options.add_machine(command)
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="directories of runs of the VAE")
    command.add_argument("--judge", type=Path, required=True, help="of the runs' attributes and size")
    command.add_argument("--pictures", type=options.at_least_two, default=512, help="held-out ones (512)")
    command.add_argument("--out", type=Path, help="a directory for comparison.json and comparison.md")
