"""sheet and figures: pictures of what a bundle does."""

from __future__ import annotations

import argparse
from pathlib import Path

from service.bundle import loader
from service.bundle.loader import Bundle
from training import config, edit_sheet
from training.commands import inputs, options
from training.data import dataset
from training.data.dataset import Faces
from training.evaluation.editing import ServiceEditor
from training.graphs import BundleGraphs
from training.vae import figures


def sheet(arguments: argparse.Namespace) -> int:
    """Draw edits of a folder's photographs, a row for each."""
    bundle = loader.load(arguments.bundle)
    columns = edit_sheet.parse_columns(arguments.columns, bundle.manifest.attribute_names)
    paths = edit_sheet.pictures_in(arguments.pictures, arguments.rows)
    with ServiceEditor(bundle) as editor:
        drawn = edit_sheet.draw(editor, paths, columns, arguments.side)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(arguments.out)
    print(f"{arguments.out}: {drawn.width} x {drawn.height}, {len(paths)} pictures")
    return 0


def draw(arguments: argparse.Namespace) -> int:
    """Draw a bundle's figures; those of real pictures only with --data."""
    bundle = loader.load(arguments.bundle)
    faces = None
    if arguments.data is not None:
        faces = _bundle_faces(arguments, bundle, "validation").first(arguments.faces)
    for path in figures.draw_all(BundleGraphs(bundle), bundle, faces, arguments.out, arguments.seed):
        print(path)
    if arguments.beside:
        points = [bundle, *map(loader.load, arguments.beside)]
        drawn = figures.operating_points([(BundleGraphs(b), b) for b in points], arguments.seed)
        path = arguments.out / "operating-points.png"
        drawn.save(path)
        print(path)
    return 0


def _bundle_faces(arguments: argparse.Namespace, bundle: Bundle, partition: dataset.Partition) -> Faces:
    settings = config.recorded(bundle.manifest.training.config)
    index, pixels = inputs.faces_of(arguments, settings, partition)
    return Faces(pixels, index.labels)


def add(commands: options.Commands) -> None:
    """Describe the commands of this module to the command line."""
    command = options.command(commands, "sheet", sheet)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument("--pictures", type=Path, required=True, help="a folder of photographs with faces")
    command.add_argument(
        "--rows", type=options.at_least_one, help="the first pictures by name; all of them if left out"
    )
    command.add_argument(
        "--columns",
        nargs="+",
        metavar="NAME[=VALUE]",
        help=f"edits; without a value the attribute is turned over ({' '.join(edit_sheet.COLUMNS)})",
    )
    command.add_argument("--side", type=options.at_least_one, default=178, help="pixels of each cell (178)")
    command.add_argument("--out", type=Path, required=True, help="a PNG")

    command = options.command(commands, "figures", draw)
    options.add_data(command, required=False)
    command.add_argument("--bundle", type=Path, required=True)
    command.add_argument(
        "--beside", type=Path, action="append", default=[], help="another bundle, to compare generated faces with"
    )
    command.add_argument("--faces", type=int, default=8)
    command.add_argument("--seed", type=int, default=5, help="of the generated faces")
    command.add_argument("--out", type=Path, required=True)
