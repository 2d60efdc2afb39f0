"""How benchmarks keep what they measured: NAME.json and NAME.md in one directory, and a line about the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
BUNDLE = Path(__file__).parents[1] / "bundles" / "celeba128"


def parser(name: str, description: str, bundle: bool = True, out: bool = True) -> argparse.ArgumentParser:
    """The options of `python -m benchmarks.NAME`: --bundle where it takes one, --out where it writes results."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    if bundle:
        made.add_argument("--bundle", type=Path, default=BUNDLE)
    if out:
        made.add_argument("--out", type=Path, default=RESULTS, help="a directory")
    return made


def machine() -> str:
    """Processor, cores and Python of this machine."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write(directory: Path, name: str, text: str, record: dict | None = None) -> None:
    """Keep a report as `name`.md and, where it has figures, its `record` as `name`.json."""
    directory.mkdir(parents=True, exist_ok=True)
    if record is not None:
        (directory / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (directory / f"{name}.md").write_text(text)
