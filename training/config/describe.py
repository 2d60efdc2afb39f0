"""A whole configuration as a preset: every value, what it means, and its default where that is another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_WIDTH = 34  # before the descriptions


def describe(settings: BaseModel) -> str:
    """TOML that `config.load` reads back as `settings`."""
    sections = {name: value for name, value in settings if isinstance(value, BaseModel)}
    fields = type(settings).model_fields
    lines = [_line(name, value, fields[name]) for name, value in settings if name not in sections]
    for name, section in sections.items():
        lines += ["", f"[{name}]", *_section(section)]
    return "\n".join(lines) + "\n"


def _section(section: BaseModel) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        yield _line(name, getattr(section, name), field)


def _line(name: str, value: Any, field: FieldInfo) -> str:
    default = None if field.default is PydanticUndefined else field.default
    note = field.description or ""
    if value != default and field.default is not PydanticUndefined:
        note += f" (default {toml(default) if default is not None else 'none'})"
    # TOML has no null: what is not set stands as a comment.
    setting = f"{name} = {toml(value)}" if value is not None else f"# {name} is not set"
    return f"{setting:<{_WIDTH}} # {note}"


def toml(value: Any) -> str:
    """A value as TOML writes it, which for numbers, text and truth values is as JSON does."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(entry) for entry in value) + "]"
    return json.dumps(value)
