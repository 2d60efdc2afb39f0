"""Presets and recorded configurations: from TOML, or from what checkpoints and bundles carry, to checked values."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from training.config.base import ConfigError, Run
from training.config.editor import EditorConfig
from training.config.flow import FlowConfig
from training.config.generator import GeneratorConfig
from training.config.vae import Config

PRESETS = Path(__file__).parents[1] / "presets"

STAGES: dict[str, type[Run]] = {
    "vae": Config,
    "editor": EditorConfig,
    "prior": FlowConfig,
    "generator": GeneratorConfig,
}


AnyConfig = Config | EditorConfig | FlowConfig | GeneratorConfig


def parse(values: dict) -> AnyConfig:
    """Check `values` against the schema of their `stage`, which is "vae" if they do not say.

    Raises ConfigError; an unknown key is answered with the nearest known one.
    """
    stage = values.get("stage", "vae")
    if stage not in STAGES:
        raise ConfigError(f"stage = {stage!r}: must be one of {', '.join(STAGES)}")
    schema = STAGES[stage]
    try:
        return schema.model_validate(values)
    except ValidationError as exc:
        raise ConfigError("; ".join(_explain(error, schema) for error in exc.errors())) from exc


# Keys that checkpoints and bundles of older code have, and what they are called now; None: there is no such thing.
_FORMER = {
    "vae": {("loss", "plainness_margin"): ("loss", "confidence_margin")},
    "editor": {("loss", "certainty"): None},
}


def recorded(values: dict) -> AnyConfig:
    """As `parse`, for the configuration that a checkpoint or a bundle carries, which older code may have written."""
    values = {name: dict(part) if isinstance(part, dict) else part for name, part in values.items()}
    for (section, key), now in _FORMER.get(values.get("stage", "vae"), {}).items():
        if key in values.get(section, {}):
            value = values[section].pop(key)
            if now:
                values[now[0]].setdefault(now[1], value)
    return parse(values)


def path_of(preset: str) -> Path:
    """The file of a preset that is given by name, or by path, which ends in .toml."""
    return Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"


def load(preset: str, overrides: list[str] = ()) -> AnyConfig:
    """Read a preset by name or a TOML file by path, then apply `section.key=value` overrides (values in TOML).

    A preset may name another one as its `base` (by a path relative to its own), and then says only what differs.
    Raises ConfigError for a file that is missing or not TOML, an unknown key, or a value outside its range.
    """
    values = _read(path_of(preset), preset)
    for override in overrides:
        _apply(values, override)
    return parse(values)


def _read(path: Path, preset: str, above: tuple[Path, ...] = ()) -> dict:
    """What the file at `path` says, over what its base says. `preset` is how it was named, `above` whose base it is."""
    if not path.is_file():
        known = sorted(p.stem for p in PRESETS.glob("*.toml"))
        raise ConfigError(f"preset {preset!r}: no file {path}; known presets: {', '.join(known)}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:  # of the encoding too
        raise ConfigError(f"{path}: not TOML: {exc}") from exc
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base = {base!r}: must be a preset's name, or the path of a .toml file")
    found = path.parent / base if base.endswith(".toml") else path_of(base)
    if found.resolve() in (chain := (*above, path.resolve())):
        raise ConfigError(f"{path}: base = {base!r}: is based on this preset itself")
    inherited = _read(found, base, chain)
    inherited.pop("name", None)  # or a preset without one would overwrite its base's bundle
    return _merge(inherited, values)


def _merge(base: dict, values: dict) -> dict:
    """`values` over `base`, section by section; a table [attributes] replaces that of the base."""
    merged = base | values
    for name in base.keys() & values.keys() - {"attributes"}:
        if isinstance(base[name], dict) and isinstance(values[name], dict):
            merged[name] = _merge(base[name], values[name])
    return merged


def _apply(values: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r}: must be section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
    values[last] = value


def _explain(error: dict, schema: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in error["loc"])
    between_keys = error["type"] == "value_error" and isinstance(error["input"], dict)
    message = error["msg"].removeprefix("Value error, ")
    if not location or between_keys:  # the message names them
        return message
    if error["type"] == "missing":
        return f"{location}: is missing"
    if error["type"] != "extra_forbidden":
        return f"{location} = {error['input']!r}: {message}"
    model: Any = schema
    for part in error["loc"][:-1]:
        model = model.model_fields[part].annotation if isinstance(model, type) else get_args(model)[1]  # of a dict
    near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1, cutoff=0.0)
    return f"unknown key {location!r}; did you mean {near[0]!r}?"
