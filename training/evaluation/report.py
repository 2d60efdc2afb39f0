"""Reports as they are kept: rounded, as JSON beside Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training import files


def rounded(value):
    """A report with its numbers at four digits after the point, and None for NaN."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 4)
    return value


def formatted(kind: str, value: float | None) -> str:
    """A number of a report as text; `kind` is percent, points or number."""
    if value is None:
        return "-"
    return {"percent": f"{100 * value:.1f}%", "points": f"{100 * value:+.1f}", "number": f"{value:.3f}"}[kind]


def save(report: dict, directory: Path, text: str, name: str = "evaluation") -> None:
    """Write `<name>.json`, and `text` as `<name>.md`."""
    files.write_text(directory / f"{name}.json", json.dumps(report, indent=1) + "\n")
    files.write_text(directory / f"{name}.md", text)
