"""The studio's files as browsers get them: modules joined into one, under addresses that tell their contents.

A page of thirty modules would take as many requests, six at a time over HTTP/1.1. Joined, everything that the page
needs is asked for at once, and kept for good: another edition of the files has other addresses.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

PAGE, SCRIPT = "index.html", "studio.js"
PREFIX = "studio"  # of the files' addresses, as the page names them
_IMPORT = re.compile(r'^import (?:(\* as \w+|\{[^}]*\}) from )?"\./([\w-]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|class|function|async function) (\w+))", re.MULTILINE)
_UNJOINED = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


@dataclass(frozen=True)
class Edition:
    """One state of all files: its `version`, a digest of them; the page; and its modules as one `script`."""

    version: str
    page: bytes
    script: bytes


def edition(directory: Path) -> Edition:
    """The files of `directory` as they are now. Raises ValueError for modules that `joined` cannot join."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.suffix != ".md"):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    version = digest.hexdigest()[:16]
    page = (directory / PAGE).read_text(encoding="utf-8").replace(f'"{PREFIX}/', f'"{PREFIX}/{version}/')
    return Edition(version, page.encode(), joined(directory, SCRIPT).encode())


def joined(directory: Path, entry: str) -> str:
    """The ECMAScript module `entry` and all that it imports, as one module.

    Each becomes a function that is called once, after those that it imports, and that returns what it exports. Raises
    ValueError for imports in a circle, and for forms of import and export that this does not know.
    """
    done: dict[str, str] = {}
    _join(directory, entry.removesuffix(".js"), done, ())
    return "".join(done.values())


def _join(directory: Path, name: str, done: dict[str, str], importers: tuple[str, ...]) -> None:
    if name in importers:
        raise ValueError(f"modules import each other: {' -> '.join([*importers, name])}")
    if name in done:
        return
    text = (directory / f"{name}.js").read_text(encoding="utf-8")
    for imported in _IMPORT.finditer(text):
        _join(directory, imported[2], done, (*importers, name))
    exports = ", ".join(_EXPORT.findall(text))
    body = _EXPORT.sub("", _IMPORT.sub(_binding, text))
    if strange := _UNJOINED.search(body):
        raise ValueError(f"{name}.js: {strange[0]!r} is no form of import or export that can be joined")
    done[name] = f"const {_variable(name)} = (() => {{\n{body}return {{ {exports} }};\n}})();\n"


def _binding(found: re.Match[str]) -> str:
    names, module = found.groups()
    if names is None:
        return ""
    names = names.removeprefix("* as ") if names.startswith("*") else names.replace(" as ", ": ")
    return f"const {names} = {_variable(module)};"


def _variable(module: str) -> str:
    return f"${module.replace('-', '_')}"
