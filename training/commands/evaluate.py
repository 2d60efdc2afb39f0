"""evaluate, evaluate-edits and evaluate-samples: how good a bundle is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from service.bundle import loader
from service.bundle.loader import Bundle
from training import config, distributed, evaluation, files, provenance, threads
from training.commands import inputs, options
from training.data import dataset
from training.data.dataset import Faces
from training.evaluation import inception, material, photographs, photographs_tables, samples
from training.evaluation import report as reports
from training.evaluation.editing import ServiceEditor
from training.evaluation.locality import Ellipse
from training.evaluation.masks import EditorMasks
from training.graphs import BundleGraphs
from training.judge import Judge


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the protocol on a bundle's graphs."""
    bundle = loader.load(arguments.bundle)
    files.require_writable(arguments.out, "--out")
    device = distributed.start(arguments.device)
    settings = config.recorded(bundle.manifest.training.config)
    groups = dict(zip(bundle.manifest.attribute_names, bundle.manifest.attribute_groups, strict=True))
    names, made_by = bundle.manifest.attribute_names, f"{arguments.bundle}: {bundle.identity}"
    judging, facts, judge_sha256 = _judge_of_frames(arguments.judge, bundle)
    train_index, train_pixels = inputs.faces_of(arguments, settings, "train")
    if not arguments.other_data:
        digests = inputs.digests(arguments, settings, train_index)
        provenance.require_same_data(digests, bundle.manifest.training.data_sha256, arguments.data, made_by)
    index, pixels = inputs.faces_of(arguments, settings, arguments.partition)
    rows = dataset.strangers(index, train_index)
    if not rows.all():
        print(f"left out {(~rows).sum()} pictures of people in the training partition", file=sys.stderr)
    if not rows.any():
        raise dataset.DatasetError(f"{arguments.data}: the {arguments.partition} partition shows nobody new")
    if rows.sum() < 2:
        raise dataset.DatasetError(
            f"{arguments.data}: the {arguments.partition} partition has one picture; 2 are needed"
        )
    train, held_out = Faces(train_pixels, train_index.labels), Faces(pixels[rows], index.labels[rows])
    threads.choose(arguments.threads)
    report = evaluation.evaluate(BundleGraphs(bundle), judging.to(device), names, held_out, train, bundle.prior, groups)
    report = {
        "bundle": bundle.identity,
        "graphs": evaluation.graph_hashes(bundle),
        "partition": arguments.partition,
        **report,
    }
    report["judge"] |= {"seed": facts["seed"], "epochs": facts["epochs"], "sha256": judge_sha256}
    text = evaluation.markdown(report)
    reports.save(report, arguments.out, text)
    print(text)
    return 0


def _judge_of_frames(path: Path, bundle: Bundle) -> tuple[Judge, dict, str]:
    """A judge of pictures in the bundle's frame, its facts and its sha256. Raises CheckpointError, ProvenanceError."""
    judge, facts = provenance.judge_of(path, bundle.manifest.attribute_names)
    provenance.require_own_frame(judge, path, bundle.manifest.frame)
    return judge, facts, provenance.require_no_part_in(judge, path, bundle.manifest)


def evaluate_edits(arguments: argparse.Namespace) -> int:
    """Judge a bundle's edits of photographs, as the service makes them."""
    bundle = loader.load(arguments.bundle)
    files.require_writable(arguments.out, "--out")
    device = distributed.start(arguments.device)
    names = bundle.manifest.attribute_names
    judging, facts = provenance.judge_of(arguments.judge, names)
    frame = material.framing(judging)
    provenance.require_sees_as_much(judging, arguments.judge, bundle.manifest.editor_frame or bundle.manifest.frame)
    judge_sha256 = provenance.require_no_part_in(judging, arguments.judge, bundle.manifest)
    # All training pictures, whatever the bundle was trained on: none of their people are held out for the judge either.
    settings = config.Config(name="judge", data=frame)
    held_out, train = (inputs.partition_of(arguments, settings, part) for part in (arguments.partition, "train"))
    faces, selected = material.photographs(held_out, train, max(1, arguments.pictures // 2))
    threads.choose(arguments.threads)
    judges = material.judges(judging.to(device), held_out, train, arguments.networks, arguments.cache)
    groups = dict(zip(names, bundle.manifest.attribute_groups, strict=True))
    ellipse = Ellipse(semi_axes=tuple(arguments.ellipse))
    with ServiceEditor(bundle, arguments.strength) as editor:
        found = photographs.evaluate(editor, judges, names, faces, selected, ellipse, EditorMasks.of(bundle), groups)
    report = {
        "kind": photographs_tables.KIND,
        "bundle": bundle.identity,
        "graphs": evaluation.graph_hashes(bundle),
        "partition": arguments.partition,
        "pictures": len(faces.files),
        "strength": arguments.strength,
        "judge": {
            **{name: facts.get(name) for name in ("seed", "epochs", "balance", "validation")},
            "sha256": judge_sha256,
        },
        **found,
    }
    text = photographs_tables.markdown(report)
    reports.save(report, arguments.out, text, photographs_tables.KIND)
    print(text)
    return 0


def evaluate_samples(arguments: argparse.Namespace) -> int:
    """Measure the faces that a bundle generates: distance to real ones, diversity, nearest training pictures."""
    bundle = loader.load(arguments.bundle)
    files.require_writable(arguments.out, "--out")
    settings = config.recorded(bundle.manifest.training.config)
    train_index, train = inputs.faces_of(arguments, settings, "train")
    index, pixels = inputs.faces_of(arguments, settings, arguments.partition)
    held_out = pixels[dataset.strangers(index, train_index)]
    if len(held_out) < 4:
        raise dataset.DatasetError(
            f"{arguments.data}: the {arguments.partition} partition shows {len(held_out)} new people; 4 are needed"
        )
    judging = None
    if arguments.judge:
        judging, _, _ = _judge_of_frames(arguments.judge, bundle)
        judging = judging.to(distributed.start(arguments.device))
    threads.choose(arguments.threads)
    features = inception.Features.load(arguments.networks)
    found, sheet = samples.evaluate(
        BundleGraphs(bundle),
        bundle,
        features,
        held_out,
        train[: arguments.neighbours],
        arguments.samples,
        judge=judging,
    )
    report = {
        "kind": samples.KIND,
        "bundle": bundle.identity,
        "graphs": evaluation.graph_hashes(bundle),
        "partition": arguments.partition,
        **found,
    }
    text = samples.markdown(report)
    reports.save(report, arguments.out, text, samples.KIND)
    Image.fromarray(sheet).save(arguments.out / "neighbours.png")  # shows training pictures: for looking only
    print(text)
    return 0


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "evaluate", evaluate)
    options.add_data(command)
    options.add_machine(command)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--judge", type=Path, required=True)
    command.add_argument("--partition", choices=("validation", "test"), default="validation")
    command.add_argument(
        "--other-data",
        action="store_true",
        help="allow other training pictures than the bundle's own",
    )
    command.add_argument("--out", type=Path, required=True)

    command = options.command(commands, "evaluate-edits", evaluate_edits)
    options.add_data(command)
    options.add_machine(command)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--judge", type=Path, required=True, help="one that was trained with --balance")
    command.add_argument("--partition", choices=("validation", "test"), default="validation")
    command.add_argument(
        "--pictures",
        type=options.at_least_one,
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
    command.add_argument(
        "--strength", type=options.strength, default=1.0, help="of the edits, to compare gains of an editor (1)"
    )
    options.add_networks(command)
    command.add_argument("--out", type=Path, required=True)

    command = options.command(commands, "evaluate-samples", evaluate_samples)
    options.add_data(command)
    options.add_machine(command)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--judge", type=Path, help="looks at attributes that are added gradually; without it none are")
    command.add_argument("--partition", choices=("validation", "test"), default="validation")
    command.add_argument("--samples", type=options.at_least_one, default=1000, help="faces at each temperature (1000)")
    command.add_argument(
        "--neighbours",
        type=options.at_least_one,
        default=10_000,
        help="training pictures among which the nearest is looked for (10000)",
    )
    options.add_networks(command)
    command.add_argument("--out", type=Path, required=True)
