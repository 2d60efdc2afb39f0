"""What the command line takes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from facet.client import URL_VARIABLE

_EXAMPLES = """examples:
  facet edit photo.jpg Smiling=1 Bangs=-1 -o edited.jpg
  facet edit photos/ Eyeglasses=1 -o with-glasses/ --skip-existing
  facet sweep photo.jpg Smiling -o strip.png
  facet sweep photo.jpg Eyeglasses -o glasses.gif --layout animation
  facet generate Smiling=1 --count 4 --seed 7 -o faces.png
  facet encode photo.jpg
  facet models

The work is done in this process, unless --url or the variable FACET_URL names a service. If that asks for a key, it
is in the variable FACET_KEY."""


class UsageError(Exception):
    """The arguments make no sense; the message names the argument, its value and the rule."""


class _Command(argparse.ArgumentParser):
    """Takes pictures and attributes before, between and after options."""

    _inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        if self._inside:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; it leaves the command's name in `command`."""
    whole = argparse.ArgumentParser(
        prog="facet",
        description="Edits faces by attribute.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Command)
    shared = _shared()
    for add in (_add_edit, _add_sweep, _add_generate, _add_encode, _add_models):
        add(commands, shared)
    return whole


def _shared() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    group = shared.add_argument_group("where the work is done")
    group.add_argument("--url", help=f"a service's address; by default ${URL_VARIABLE}, or else this process")
    group.add_argument("--bundles", type=Path, metavar="DIR", help="directory of bundles for work in this process")
    group.add_argument("--model", metavar="NAME", help="a bundle other than the default one")
    group.add_argument("--timeout", type=_seconds, default=60.0, metavar="S", help="seconds for each request (60)")
    return shared


def _add_edit(commands: Any, shared: argparse.ArgumentParser) -> None:
    edit = commands.add_parser("edit", parents=[shared], help="change the attributes of faces in pictures")
    edit.add_argument(
        "given",
        nargs="+",
        metavar="PICTURE|NAME=VALUE",
        help="pictures, or folders of them, and attributes: -1 absent to 1 present, up to 2 to exaggerate",
    )
    edit.add_argument("--strength", type=float, metavar="T", help="0 changes nothing, 1 goes all the way, 2 beyond")
    edit.add_argument("--face", type=face, metavar="N|all", help="which face, 0 for the largest (0)")
    _add_picture_options(edit)
    edit.add_argument("--keep-metadata", action="store_true", default=None, help="keep EXIF data, which tell of places")
    _add_output_options(edit, "the edited picture, or a folder for several", ("png", "jpeg", "webp"))


def _add_sweep(commands: Any, shared: argparse.ArgumentParser) -> None:
    sweep = commands.add_parser("sweep", parents=[shared], help="change an attribute gradually")
    sweep.add_argument(
        "given",
        nargs="+",
        metavar="PICTURE|NAME[,NAME]",
        help="pictures, or folders of them, and last the attribute; two with a comma make a grid",
    )
    sweep.add_argument("--layout", choices=["strip", "frames", "animation"], default="strip", help="(strip)")
    sweep.add_argument("--target", type=float, metavar="VALUE", help="the attribute's value at t = 1 (1)")
    sweep.add_argument("--start", type=float, metavar="T", help="the first t; 0 is the face as it is (0)")
    sweep.add_argument("--stop", type=float, metavar="T", help="the last t (1)")
    sweep.add_argument(
        "--steps", type=positive, default=7, metavar="N", help="values of t, first and last included (7)"
    )
    sweep.add_argument("--size", type=int, metavar="PIXELS", help="longest side of each picture (256)")
    sweep.add_argument("--milliseconds", type=int, metavar="MS", help="of each frame of an animation (120)")
    sweep.add_argument("--face", type=int, metavar="N", help="which face, 0 for the largest (0)")
    sweep.add_argument("--seed", type=int, help="sweep a generated face; then no picture is given")
    _add_picture_options(sweep)
    _add_output_options(sweep, "the picture, or a folder for several and for frames", ("png", "jpeg", "webp", "gif"))


def _add_generate(commands: Any, shared: argparse.ArgumentParser) -> None:
    generate = commands.add_parser("generate", parents=[shared], help="draw faces that do not exist")
    generate.add_argument("given", nargs="*", metavar="NAME=VALUE", help="attributes; the others are drawn to match")
    generate.add_argument("--count", type=int, metavar="N", help="number of faces (1)")
    generate.add_argument("--seed", type=int, help="the same seed gives the same faces; told if left out")
    generate.add_argument("--temperature", type=float, metavar="T", help="spread, 0 (the mean face) to 2 (0.7)")
    generate.add_argument("--size", type=int, help="side of each picture in pixels (the model's own)")
    generate.add_argument("--quality", type=int, metavar="Q", help="1 to 100, for JPEG and WebP (90)")
    generate.add_argument(
        "-o", dest="out", required=True, metavar="OUT", help="one picture of all faces, or a folder for one of each"
    )


def _add_encode(commands: Any, shared: argparse.ArgumentParser) -> None:
    encode = commands.add_parser("encode", parents=[shared], help="tell what faces show")
    encode.add_argument("given", nargs="+", metavar="PICTURE", help="pictures, or folders of them")
    encode.add_argument("--face", type=face, metavar="N|all", help="which face, 0 for the largest (all)")
    encode.add_argument("--framed", action=argparse.BooleanOptionalAction, help=_FRAMED)
    encode.add_argument("--json", action="store_true", help="one JSON object for each picture, with the latents")


def _add_models(commands: Any, shared: argparse.ArgumentParser) -> None:
    models = commands.add_parser("models", parents=[shared], help="list models and their attributes")
    models.add_argument("--json", action="store_true", help="a JSON object for each model, with its evaluation")


_FRAMED = "whether the picture is a face in the model's frame already; by default its size tells"


def _add_picture_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--framed", action=argparse.BooleanOptionalAction, help=_FRAMED)
    command.add_argument("--output", choices=["photo", "face"], help="the whole photo, or the bare face (photo)")
    command.add_argument(
        "--experimental", action="store_true", default=None, help="also in directions listed as experimental"
    )


def _add_output_options(command: argparse.ArgumentParser, out: str, formats: tuple[str, ...]) -> None:
    command.add_argument("-o", dest="out", required=True, metavar="OUT", help=out)
    command.add_argument("--format", choices=formats, help="of pictures in a folder; a file's suffix tells its own")
    command.add_argument(
        "--quality", type=int, metavar="Q", help="1 to 100, for JPEG and WebP (as the file was, or 90)"
    )
    command.add_argument("--skip-existing", action="store_true", help="leave out what is there already")
    command.add_argument("--jobs", type=positive, default=4, metavar="N", help="requests at once (4)")


def face(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number, 0 for the largest, or all")
    return int(text)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds above 0")
    return value


def attributes(given: list[str]) -> tuple[list[str], dict[str, float]]:
    """What is not NAME=VALUE, and the values by name. Raises UsageError."""
    rest, values = [], {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or os.path.exists(item):
            rest.append(item)
        elif name in values:
            raise UsageError(f"{item}: {name} is given twice")
        else:
            values[name] = _value(item, text)
    return rest, values


def _value(item: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{item}: the value must be a number, -1 for absent, 1 for present") from None
