"""A run's record as one HTML page: what it was, its curves, its sheets and its figures; two runs beside each other."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training import checkpoint
from training.checkpoint import CheckpointError
from training.config import AnyConfig
from training.trainer import LAST

_COLOURS = ("#0f7a6c", "#c2571a")
_WIDTH, _HEIGHT, _LEFT, _BELOW = 420, 170, 58, 20  # of a curve in pixels, and room for its axes
_SHEET_WIDTH = 1400  # pixels to which wide sheets are made smaller
_REPORTS = ("evaluation.json", "photographs.json")

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Run:
    """What a run directory holds. `curves` are values by step, `sheets` PNG files in order, `figures` evaluations'."""

    directory: Path
    config: AnyConfig
    facts: dict[str, str]
    curves: dict[str, Curve]
    sheets: list[Path]
    figures: dict[str, float]


def read(directory: Path) -> Run:
    """Raises CheckpointError where there is no run."""
    path = directory / LAST
    state = checkpoint.load(path)
    config = checkpoint.config_of(state, path)
    with checkpoint.damaged(path):
        facts = {
            "command": state["command"],
            "step": f"{state['step']:,}",
            "epochs": f"{state['epochs']:.2f}",
            "data": f"sha256 {state['data_sha256'][:16]}...",
        }
    return Run(
        directory,
        config,
        facts,
        _curves(directory / "tensorboard"),
        sorted((directory / "samples").glob("*.png")),
        _figures(directory),
    )


def _curves(directory: Path) -> dict[str, Curve]:
    if not directory.is_dir():
        return {}
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def _figures(directory: Path) -> dict[str, float]:
    """The means of the evaluations that lie in the run's directory or below it, by their paths in the reports."""
    found: dict[str, float] = {}
    for name in _REPORTS:
        for path in sorted(directory.rglob(name)):
            try:
                report = json.loads(path.read_text())
            except (OSError, ValueError) as exc:
                raise CheckpointError(f"{path}: is not a readable report") from exc
            found |= dict(_numbers(report, path.stem))
    return found


def _numbers(part: object, name: str) -> Iterable[tuple[str, float]]:
    """Numbers of a report, of those by attribute the mean alone."""
    if isinstance(part, bool) or part is None:
        return
    if isinstance(part, int | float):
        yield name, float(part)
    elif isinstance(part, dict):
        inner = {"mean": part["mean"]} if "mean" in part and "attributes" in part else part
        for key, value in inner.items():
            if key not in ("faces", "validation", "matrix", "attributes", "experimental", "judge"):
                yield from _numbers(value, name if key == "mean" else f"{name} / {key}")


def page(runs: list[Run], sheets: int) -> str:
    """The whole page; of each run at most so many sheets, evenly spread, the last among them."""
    title = " and ".join(str(run.directory) for run in runs)
    parts = [
        f"<h1>{escape(title)}</h1>",
        _legend(runs) if len(runs) > 1 else "",
        "<h2>Runs</h2>" if len(runs) > 1 else "<h2>Run</h2>",
        _table(["", *(str(run.directory) for run in runs)], _facts(runs)),
        "<h2>Figures</h2>",
        _table(["", *(f"{run.directory}: last" for run in runs)], _last_values(runs)),
        "<h2>Curves</h2>",
        '<div class="curves">' + "".join(_curve(name, runs) for name in _names(runs)) + "</div>",
        "<h2>Sheets</h2>",
        _sheets(runs, sheets),
    ]
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def _legend(runs: list[Run]) -> str:
    entries = (
        f'<span style="color:{colour}">&#9632;</span> {escape(str(run.directory))}' for run, colour in _coloured(runs)
    )
    return f"<p>{' &nbsp; '.join(entries)}</p>"


def _coloured(runs: list[Run]) -> list[tuple[Run, str]]:
    return list(zip(runs, _COLOURS, strict=False))


def _facts(runs: list[Run]) -> list[list[str]]:
    """What the runs were, and the values in which they differ from each other, or one from the defaults."""
    rows = [[name, *(run.facts[name] for run in runs)] for name in runs[0].facts]
    values = [_values(run.config) for run in runs]
    others = values[1:] or [_values(type(runs[0].config)(stage=runs[0].config.stage, name=runs[0].config.name))]
    for name in dict.fromkeys(key for one in (*values, *others) for key in one):
        shown = [repr(one.get(name)) for one in values]
        if shown[0] != repr(others[0].get(name)):
            rows.append([name, *shown])
    return rows


def _values(config: AnyConfig) -> dict[str, object]:
    sections = config.model_dump(mode="json").items()
    return {f"{s}.{k}": v for s, section in sections if isinstance(section, dict) for k, v in section.items()}


def _names(runs: list[Run]) -> list[str]:
    """Of all curves, those of validation first."""
    return sorted({name for run in runs for name in run.curves}, key=lambda name: (not name.startswith("val"), name))


def _last_values(runs: list[Run]) -> list[list[str]]:
    rows = [[name, *(_shown(dict(run.curves.get(name, [])).values()) for run in runs)] for name in _names(runs)]
    figures = dict.fromkeys(name for run in runs for name in run.figures)
    return rows + [
        [name, *(_shown([run.figures[name]] if name in run.figures else []) for run in runs)] for name in figures
    ]


def _shown(values: Iterable[float]) -> str:
    found = list(values)
    return f"{found[-1]:.4g}" if found else "-"


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _curve(name: str, runs: list[Run]) -> str:
    """One scalar over the steps as SVG, a line for each run."""
    drawn = [(run.curves[name], colour) for run, colour in _coloured(runs) if run.curves.get(name)]
    steps, values = (np.array([point[axis] for curve, _ in drawn for point in curve]) for axis in (0, 1))
    low, high, last = values.min(), values.max(), max(1, steps.max())
    span = high - low or abs(high) or 1.0

    def to_svg(step: int, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT - 8) * step / last
        y = 8 + (_HEIGHT - _BELOW - 16) * (1 - (value - low) / span)
        return f"{x:.1f},{y:.1f}"

    def line(curve: Curve, colour: str) -> str:
        points = [to_svg(*point) for point in curve]
        x, y = points[-1].split(",")
        path = f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        return f'{path}<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'

    lines = "".join(line(*one) for one in drawn)
    labels = (
        f'<text x="{_LEFT - 6}" y="14" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BELOW - 6}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 4}" text-anchor="end">step {last:,}</text>'
    )
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{labels}{lines}</svg></figure>'
    )


def _sheets(runs: list[Run], most: int) -> str:
    """A row for each step that is shown, a column for each run."""
    columns = [_spread(run.sheets, most) for run in runs]
    rows = []
    for row in range(max(map(len, columns))):
        cells = (_sheet(column[row]) if row < len(column) else "" for column in columns)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<table class="sheets">{"".join(rows)}</table>' if rows else "<p>There is none yet.</p>"


def _spread(sheets: list[Path], most: int) -> list[Path]:
    rows = np.unique(np.linspace(0, len(sheets) - 1, min(most, len(sheets))).round().astype(int)) if sheets else []
    return [sheets[row] for row in rows]


def _sheet(path: Path) -> str:
    image = Image.open(path).convert("RGB")
    image.thumbnail((_SHEET_WIDTH, image.height))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p>{escape(path.stem)}</p><img alt="{escape(path.stem)}" src="data:image/jpeg;base64,{data}">'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222 }}
table {{ border-collapse: collapse }} td, th {{ text-align: left; padding: .15em 1em .15em 0; vertical-align: top }}
tr:nth-child(even) {{ background: #f4f6f6 }} .curves {{ display: flex; flex-wrap: wrap; gap: 1em }}
figure {{ margin: 0 }} figcaption {{ font-weight: 600 }}
svg {{ background: #f8f9f9 }} text {{ font-size: 11px; fill: #666 }}
.sheets img {{ max-width: 100% }}
</style></head><body>
{body}
</body></html>
"""
