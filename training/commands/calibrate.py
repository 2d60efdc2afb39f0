"""calibrate: what a trained VAE needs before it is exported."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from training import attributes, checkpoint, config, distributed, files, provenance, threads
from training.commands import inputs, options
from training.data import dataset
from training.data.dataset import Faces
from training.graphs import TorchGraphs
from training.precision import autocast
from training.trainer import BEST, LAST, DivergedError
from training.vae import calibration, prior

CALIBRATED = "calibrated.pt"
_EXPORTED = {"config", "ema", "step", "epochs", "data_sha256", "command", "gains", "prior", "classifier_sha256"}


def calibrate(arguments: argparse.Namespace) -> int:
    """Fit the conditional prior, the gains and the sampling prior of a trained checkpoint."""
    path = arguments.workdir / (arguments.checkpoint or _calibrated_by_default(arguments.workdir))
    model, settings, state = checkpoint.load_model(path)
    files.require_writable(arguments.workdir, "--workdir")
    device = distributed.start(arguments.device)
    model.to(device)
    names, classifier = settings.data.attributes, None
    if settings.loss.edits:
        if arguments.classifier is None:
            raise config.ConfigError("--classifier: is needed to choose the gains of a model that learned to edit")
        classifier = provenance.judge_of(arguments.classifier, names)[0]
        provenance.require_own_frame(classifier, arguments.classifier, settings.data)
        state["classifier_sha256"] = provenance.weights_sha256(classifier)
    index, pixels = inputs.faces_of(arguments, settings, "train", settings.data.margin)
    provenance.require_same_data(
        inputs.digests(arguments, settings, index), state["data_sha256"], arguments.data, str(path)
    )
    faces = Faces(dataset.without_margin(pixels, settings.data.image_size), index.labels)
    threads.choose(arguments.threads)
    fitted_on = _some(faces, arguments.prior_pictures)
    calibration.erase(model, fitted_on.pixels, arguments.ridge)
    gains, groups = dict.fromkeys(names, 1.0), attributes.groups(names, settings.data.about)
    if classifier:
        sample = _balanced(faces, arguments.pictures)
        classifier.to(device)
        with autocast(device):
            gains = calibration.calibrate(model, classifier, names, sample, arguments.budget, arguments.gains, groups)
    mean, log_variance, current = TorchGraphs(model).posterior(fitted_on.pixels)
    fitted = prior.fit_prior(mean, log_variance, current, fitted_on.labels.astype(np.float64))
    state |= {"ema": model.cpu().state_dict(), "gains": gains, "prior": fitted.model_dump(mode="json")}
    calibrated = {name: value for name, value in state.items() if name in _EXPORTED}
    if bad := checkpoint.not_finite(calibrated):
        raise DivergedError(f"{path}: calibrating it gave values that are not finite: {bad[0]}")
    checkpoint.save(arguments.workdir / CALIBRATED, calibrated)
    print(f"{arguments.workdir / CALIBRATED}: " + " ".join(f"{name} {gain:g}" for name, gain in gains.items()))
    return 0


def _calibrated_by_default(workdir: Path) -> str:
    """The checkpoint with the best bound, where nothing but the bound was trained for; else the last one."""
    best = workdir / BEST
    return BEST if best.exists() and not checkpoint.load_model(best)[1].loss.edits else LAST


def _some(faces: Faces, count: int) -> Faces:
    """About `count` of them, evenly spread over their order."""
    rows = np.unique(np.linspace(0, len(faces.pixels) - 1, min(count, len(faces.pixels))).round().astype(int))
    return Faces(np.ascontiguousarray(faces.pixels[rows]), faces.labels[rows])


def _balanced(faces: Faces, count: int) -> Faces:
    """About `count` pictures, equally many for each value of each attribute, so that rare ones count as much."""
    rng = np.random.default_rng(0)
    each = max(1, count // (2 * faces.labels.shape[1]))
    rows: set[int] = set()
    for column in faces.labels.T:
        for value in (-1, 1):
            found = np.flatnonzero(column == value)
            rows.update(rng.choice(found, min(each, len(found)), replace=False).tolist())
    chosen = np.array(sorted(rows))
    return Faces(np.ascontiguousarray(faces.pixels[chosen]), faces.labels[chosen])


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "calibrate", calibrate)
    options.add_data(command)
    options.add_machine(command)
    command.add_argument("--workdir", type=Path, required=True)
    command.add_argument(
        "--checkpoint",
        help=f"in the workdir ({LAST}; {BEST}, of the best bound, for a model that does not learn to edit)",
    )
    command.add_argument("--classifier", type=Path, help="a judge, not the one that evaluates; for models that edit")
    command.add_argument(
        "--budget", type=float, default=0.03, help="extra error on other attributes that an edit may cost on average"
    )
    command.add_argument(
        "--gains",
        type=float,
        nargs="+",
        default=calibration.GAINS,
        help="to choose from; with 1 alone latents tell the attributes least",
    )
    command.add_argument("--pictures", type=int, default=600)
    command.add_argument(
        "--prior-pictures",
        type=options.at_least_two,
        default=16384,
        metavar="N",
        help="to fit the erasure and the sampling prior to",
    )
    command.add_argument("--ridge", type=float, default=0.01, help="of the last erasure; less erases more")
