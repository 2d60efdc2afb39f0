"""API keys: who may call, for what, and how much of it. `python -m service.keys` makes, lists and revokes them.

A key is a token of 256 random bits, shown once, when it is made; the file holds its SHA-256. A plain, fast hash is
right here: slow and salted ones protect passwords, which can be guessed, and nobody guesses 256 random bits, however
many hashes a second they try.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, get_args

from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from service.limits import Limits

Scope = Literal["use", "admin", "metrics"]
PREFIX = "facet_"  # so that whoever finds one, a scanner of repositories too, knows what it is
_SECONDS_BETWEEN_LOOKS = 1.0
_VARIABLE = "FACET_KEYS_FILE"
log = logging.getLogger(__name__)


class KeysError(ValueError):
    """A file of keys that cannot be used; the message names the file and the rule."""


class Key(Limits):
    """One key, as the file has it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: frozenset[Scope] = Field(min_length=1)

    @field_serializer("scopes")
    def _in_order(self, scopes: frozenset[Scope]) -> list[str]:
        return sorted(scopes)


class KeyFile(BaseModel):
    """The file: JSON with a list of keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: list[Key]

    @model_validator(mode="after")
    def _each_is_one(self) -> KeyFile:
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self.keys]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"the {field} {twice[0]} stands twice")
        return self


def digest(token: str) -> str:
    """What the file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read(path: Path) -> KeyFile:
    """Raises KeysError."""
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise KeysError(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        # Without the value: somebody may have put a token where its hash belongs.
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KeysError(f"{path}: {place}: {first['msg']}") from None


class Keyring:
    """The keys of a file, which is looked at again every second; while it cannot be used, the last good ones stay.

    Raises KeysError where it cannot be used to begin with. `reloads` counts by result.
    """

    def __init__(self, path: Path, reloads: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._reloads, self._clock = path, reloads, clock
        self._stamp, self._looked = _stamp(path), clock()
        self._keys = read(path).keys

    def find(self, token: str) -> Key | None:
        """The key of a token. How long that takes tells nothing of how much of a hash agrees."""
        self._look()
        offered, found = digest(token), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, offered):
                found = key
        return found

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = read(self._path).keys
        except KeysError as exc:
            self._reloads.labels("failed").inc()
            log.error("the keys stay as they were: %s", exc)
        else:
            self._reloads.labels("ok").inc()
            log.info("the file of keys has changed: %d keys", len(self._keys))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def write(path: Path, content: KeyFile) -> None:
    """Replace the file at once, so that no reader sees a half of it. Raises OSError."""
    text = json.dumps(content.model_dump(exclude_none=True), indent=1) + "\n"
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(file, "w") as opened:
            opened.write(text)
        # Hashes are no secrets, and the service may run as somebody else.
        os.chmod(name, path.stat().st_mode if path.exists() else 0o644)
        os.replace(name, path)
    except OSError:
        os.unlink(name)
        raise


def new(path: Path, **values: object) -> str:
    """Add a key with these `values` to the file, which is made if need be, and return its token.

    Raises KeysError, pydantic.ValidationError, or OSError.
    """
    before = read(path).keys if path.exists() else []
    token = PREFIX + secrets.token_urlsafe(32)
    key = Key(sha256=digest(token), **values)
    if any(other.name == key.name for other in before):
        raise KeysError(f"{path}: has a key {key.name} already; revoke it first, or choose another name")
    write(path, KeyFile(keys=[*before, key]))
    return token


def revoke(path: Path, name: str) -> None:
    """Take a key out of the file. Raises KeysError where it is not there, or OSError."""
    before = read(path).keys
    rest = [key for key in before if key.name != name]
    if len(rest) == len(before):
        raise KeysError(f"{path}: has no key {name}; it has {', '.join(key.name for key in before) or 'none'}")
    write(path, KeyFile(keys=rest))


def _described(key: Key) -> str:
    limits = key.model_dump(include=set(Limits.model_fields), exclude_none=True)
    return "  ".join([key.name, ",".join(sorted(key.scopes)), *(f"{name}={value:g}" for name, value in limits.items())])


def main(words: list[str] | None = None) -> int:
    """Run one command; what is refused is one line on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="python -m service.keys", description="Makes, lists and revokes API keys.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("new", "make a key and print its token, which nobody can read again"),
        ("list", "print names, scopes and limits"),
        ("revoke", "take a key away; a service that runs notices within a second"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--file", type=Path, default=os.environ.get(_VARIABLE), help=f"default: ${_VARIABLE}")
        if name != "list":
            command.add_argument("--name", required=True, help="of the key, as the log shows it")
        if name == "new":
            choices = ", ".join(get_args(Scope))
            command.add_argument("--scopes", required=True, help=f"some of {choices}, with commas between them")
            command.add_argument("--images-per-second", type=float)
            command.add_argument("--burst", type=int, help="images at once after a pause; default: 64, or a second's")
            command.add_argument("--images-in-flight", type=int, help="images of requests under way")
    asked = parser.parse_args(words)
    if asked.file is None:
        parser.error(f"--file is required, or the variable {_VARIABLE}")
    try:
        if asked.command == "new":
            limits = {name: getattr(asked, name) for name in Limits.model_fields}
            print(new(Path(asked.file), name=asked.name, scopes=asked.scopes.split(","), **limits))
        elif asked.command == "revoke":
            revoke(Path(asked.file), asked.name)
        else:
            print("\n".join(_described(key) for key in read(Path(asked.file)).keys))
    except ValidationError as exc:
        first = exc.errors()[0]
        print(f"error: {first['loc'][0]}={first['input']!r}: {first['msg']}", file=sys.stderr)
    except (KeysError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
    else:
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main())
