"""The report on edits of photographs as Markdown, for people and for model cards."""

from __future__ import annotations

from training.evaluation.report import formatted

KIND = "photographs"  # of a report, and its name in a manifest's evaluation


def markdown(report: dict) -> str:
    """Tables: what matters in all, then each attribute and direction."""
    faces = [count for way in report["faces"].values() for count in way.values()]
    lines = [
        f"{sum(faces)} edits at strength {report.get('strength', 1):g} of {report['pictures']} held-out photographs of "
        "people whom no training picture shows, through `POST /v1/edit`.",
        "",
        *_overall(report),
        "",
        "The realism ratio is that of the kernel distances (x 1,000) to real pictures: edited / untouched ± noise.",
        "",
        *_by_attribute(report),
    ]
    if report["experimental"]:
        lines += ["", "Not offered by default:", ""]
        lines += [
            f"- {name}, {way}: {reason}"
            for name, reasons in report["experimental"].items()
            for way, reason in reasons.items()
        ]
    return "\n".join(lines) + "\n"


def _overall(report: dict) -> list[str]:
    edits, effects, realism = report["edits"], report["side_effects"], report["realism"]
    rows = [
        ("edits that show", *(formatted("percent", edits[way]["mean"]) for way in ("balanced", "added", "removed"))),
        ("side effects, points", *(formatted("points", effects[way]["mean"]) for way in ("both", "added", "removed"))),
    ]
    if "skipped" in realism:
        rows.append((f"realism ratio: skipped, {realism['skipped']}", "-", "-", "-"))
    else:
        sums = (f"{_ratio(realism[way]['ratio_of_sums'], realism[way]['noise'])}" for way in ("added", "removed"))
        rows.append(("realism ratio, of sums", "-", *sums))
    names = {
        "locality": "mean change outside the face, levels",
        "identity": "same person",
        "detail": "variance of the Laplacian where nothing was edited, after / before",
        "gradual": "gradual edits, Spearman",
    }
    for part, title in names.items():
        found = report[part]
        if "skipped" in found:
            rows.append((f"{title}: skipped, {found['skipped']}", "-", "-", "-"))
            continue
        kind = "percent" if part == "identity" else "number"
        rows.append((title, *(formatted(kind, found[way]["mean"]) for way in ("both", "added", "removed"))))
    return ["| | both | added | removed |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def _by_attribute(report: dict) -> list[str]:
    columns = ["shows", "side effects", "realism ratio", "outside", "same person", "gradual"]
    heading = " | ".join(f"{way}: {columns[0]} | {' | '.join(columns[1:])}" for way in ("added", "removed"))
    lines = [f"| attribute | {heading} |", "|---|" + "---|" * (2 * len(columns))]
    for name in report["edits"]["added"]["attributes"]:
        cells = [cell for way in ("added", "removed") for cell in _cells(report, way, name)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cells(report: dict, way: str, name: str) -> list[str]:
    def value(part: str) -> float | None:
        return None if "skipped" in report[part] else report[part][way]["attributes"][name]

    ratio = report["realism"].get(way, {"attributes": {}})["attributes"].get(name)
    return [
        formatted("percent", report["edits"][way]["attributes"][name]),
        formatted("points", report["side_effects"][way]["attributes"][name]),
        _distances(ratio) if ratio else "-",
        formatted("number", value("locality")),
        formatted("percent", value("identity")),
        formatted("number", value("gradual")),
    ]


def _distances(entry: dict) -> str:
    """A ratio with what it is made of: where the untouched pictures are hardly off zero, it says little by itself."""
    parts = f"{entry['kid_edited']:.1f} / {entry['kid_untouched']:.1f} ± {entry['kid_noise']:.1f}"
    return parts if entry["ratio"] is None else f"{entry['ratio']:.2f} ({parts})"


def _ratio(value: float | None, noise: float | None) -> str:
    return "-" if value is None or noise is None else f"{value:.2f} ± {noise:.2f}"
