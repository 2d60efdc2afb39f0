"""API keys with scopes and limits. `python -m service.keys` creates, lists and revokes them.

A key is a token of 256 random bits, which is printed once, when it is created; the file has its SHA-256. A fast hash
without salt is sufficient: slow and salted hashes protect passwords, which can be guessed; 256 random bits cannot.
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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, get_args

from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from service import system
from service.auth.rate_limits import Limits
from service.errors import rule_of

Scope = Literal["use", "admin", "metrics"]
PREFIX = "facet_"  # by which people and secret scanners recognise a token
_RELOAD_SECONDS = 1.0
_VARIABLE = "FACET_KEYS_FILE"
log = logging.getLogger(__name__)


class KeysError(ValueError):
    """A file of keys that cannot be used; the message names the file and the rule."""


class Key(Limits):
    """One key, as stored in the file."""

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
    def _are_unique(self) -> KeyFile:
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self.keys]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"the {field} {twice[0]} stands twice")
        return self


def digest(token: str) -> str:
    """The hash of a token that the file has."""
    return hashlib.sha256(token.encode()).hexdigest()


def read(path: Path) -> KeyFile:
    """Raises KeysError."""
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise KeysError(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValidationError as exc:
        # Without the value, which may be a token in place of its hash.
        first = exc.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KeysError(f"{path}: {field}: {rule_of(first)}") from None


class Keyring:
    """The keys of a file, which is checked for changes at most once a second. If it is invalid, the last keys stay.

    Raises KeysError if it is invalid at the start. `reloads` counts reloads by result.
    """

    def __init__(self, path: Path, reloads: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._reloads, self._clock = path, reloads, clock
        self._stamp, self._checked = _stamp(path), clock()
        self._keys = read(path).keys

    def find(self, token: str) -> Key | None:
        """The key of a token, or None. The time that it takes does not depend on how many digits of a hash match."""
        self._reload_if_changed()
        offered, found = digest(token), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, offered):
                found = key
        return found

    def _reload_if_changed(self) -> None:
        now = self._clock()
        if now - self._checked < _RELOAD_SECONDS:
            return
        self._checked = now
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
    """Changes with the file; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def write(path: Path, content: KeyFile) -> None:
    """Replace the file atomically. Raises OSError."""
    text = json.dumps(content.model_dump(exclude_none=True), indent=1) + "\n"
    with system.atomic_write(path) as file:
        if not path.exists():
            os.chmod(file.name, 0o644)  # whatever the umask: hashes are no secrets, and the service may be another user
        file.write(text.encode())


def new(path: Path, **values: object) -> str:
    """Add a key with these `values` to the file, which is created if it is missing, and return the key's token.

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
    """Remove a key from the file. Raises KeysError if there is no such key, and OSError."""
    before = read(path).keys
    rest = [key for key in before if key.name != name]
    if len(rest) == len(before):
        raise KeysError(f"{path}: has no key {name}; it has {', '.join(key.name for key in before) or 'none'}")
    write(path, KeyFile(keys=rest))


def _described(key: Key) -> str:
    limits = key.model_dump(include=set(Limits.model_fields), exclude_none=True)
    return "  ".join([key.name, ",".join(sorted(key.scopes)), *(f"{name}={value:g}" for name, value in limits.items())])


def main(words: list[str] | None = None) -> int:
    """Run one command. An error gives one line on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="python -m service.keys", description="Creates, lists and revokes API keys.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("new", "create a key and print its token, which cannot be read again"),
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
            command.add_argument("--images-in-flight", type=int, help="images of requests in flight")
    params = parser.parse_args(words)
    if params.file is None:
        parser.error(f"--file is required, or the variable {_VARIABLE}")
    try:
        if params.command == "new":
            limits = {name: getattr(params, name) for name in Limits.model_fields}
            print(new(Path(params.file), name=params.name, scopes=params.scopes.split(","), **limits))
        elif params.command == "revoke":
            revoke(Path(params.file), params.name)
        else:
            print("\n".join(_described(key) for key in read(Path(params.file)).keys))
    except ValidationError as exc:
        first = exc.errors()[0]
        print(f"error: {first['loc'][0]}={first['input']!r}: {rule_of(first)}", file=sys.stderr)
    except (KeysError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
    else:
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main())
