"""Which edits are not good enough to be offered, and the reason for it, with its figures."""

from __future__ import annotations

FEWEST_SEEN = 0.5  # of the faces, those on which an edit shows
_FEWEST_FACES = 10  # from which something can be said


def experimental(report: dict) -> dict[str, dict[str, str]]:
    """By attribute and direction ("added", "removed"), why a report's edits are not offered; empty where all are.

    Not offered is what fewer than half of the faces show, and what leads pictures away from real ones by more than
    twice the noise of the measure.
    """
    found: dict[str, dict[str, str]] = {}
    for direction in ("added", "removed"):
        for name, accuracy in report["edits"][direction]["attributes"].items():
            faces = report["faces"][direction][name]
            ratio = (report["realism"].get(direction) or {"attributes": {}})["attributes"].get(name)
            reasons = []
            if faces >= _FEWEST_FACES and accuracy is not None and accuracy < FEWEST_SEEN:
                reasons.append(f"an independent judge sees it on {100 * accuracy:.0f}% of {faces} faces")
            if ratio and ratio["spoils"]:
                reasons.append(
                    "edited pictures are farther from real ones than untouched: a kernel distance (x 1,000) of "
                    f"{ratio['kid_edited']:.1f} instead of {ratio['kid_untouched']:.1f}, noise {ratio['kid_noise']:.1f}"
                )
            if reasons:
                found.setdefault(name, {})[direction] = "; ".join(reasons)
    return found
