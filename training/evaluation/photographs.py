"""The protocol for edits of photographs: aligned pictures go through the service, and others judge what comes back.

Each attribute is inverted, as often added as removed. Labels say in which direction it goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from service.imaging import codecs
from training import metrics
from training.attributes import Groups
from training.data.dataset import MAX_PIXELS, Pictures
from training.evaluation import offering, realism
from training.evaluation.editing import Editor, side_by_side
from training.evaluation.identity import KEEPS_IDENTITY, Identity, same_person
from training.evaluation.inception import SIZE, Features
from training.evaluation.locality import Ellipse, change_outside, detail_kept
from training.evaluation.masks import Masks
from training.evaluation.realism import Real
from training.evaluation.report import rounded
from training.evaluation.tally import ADDED, DIRECTIONS, REMOVED, EditTally, column_means, excused, per_attribute
from training.judge import Judge

STEPS = 11  # of a gradual edit
_SWEPT = 12  # pictures, of each attribute and direction
_IDENTIFIED = 40  # pictures, of each attribute and direction


@dataclass(frozen=True)
class Photographs:
    """Aligned pictures: their files, `pixels` uint8 [N, H, W, 3], and `labels` int8 [N, K] in {-1, +1}."""

    files: list[bytes]
    pixels: np.ndarray
    labels: np.ndarray

    @classmethod
    def read(cls, pictures: Pictures, labels: np.ndarray, rows: np.ndarray) -> Photographs:
        """Those in int [N] `rows`; `labels`: of all. Raises OSError, DatasetError, or ImageError for a broken one."""
        files = [pictures.encoded(int(row)) for row in rows]
        pixels = np.stack([np.asarray(codecs.decode(data, MAX_PIXELS)) for data in files])
        return cls(files, pixels, labels[rows])


@dataclass(frozen=True)
class Judges:
    """The networks that judge edited pictures. Where a network is missing, a text says why instead.

    `box` is the part of an aligned picture that the judge of attributes and Inception see.
    """

    judge: Judge
    box: codecs.Box
    features: Features | str
    real: Real | None
    identity: Identity | str

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """The judge's, f32 [N, K], on aligned pictures uint8 [N, H, W, 3]."""
        return self.judge.predict(framed(pixels, self.box, self.judge.image_size))[0]


def framed(pixels: np.ndarray, box: codecs.Box, size: int) -> np.ndarray:
    """The box of aligned pictures uint8 [N, H, W, 3] at uint8 [N, size, size, 3], as a dataset frames faces."""
    return np.stack([codecs.crop_resize(Image.fromarray(picture), box, size) for picture in pixels])


def evaluate(
    editor: Editor,
    judges: Judges,
    names: list[str],
    faces: Photographs,
    selected: np.ndarray,
    ellipse: Ellipse,
    masks: Masks | None = None,
    groups: Groups = None,
) -> dict:
    """The whole protocol; a JSON-ready report. Each attribute is inverted on the pictures of bool [N, K] `selected`.

    `masks` are those of a bundle's editor, if it has one.
    """
    one = _Protocol(editor, judges, names, faces, selected, ellipse, masks, groups)
    for attribute in tqdm(range(len(names)), unit="attribute"):
        for direction in (ADDED, REMOVED):
            one.measure(attribute, direction)
    return rounded(one.report())


class _Protocol:
    def __init__(
        self,
        editor: Editor,
        judges: Judges,
        names: list[str],
        faces: Photographs,
        selected: np.ndarray,
        ellipse: Ellipse,
        masks: Masks | None,
        groups: Groups,
    ) -> None:
        self.editor, self.judges, self.names, self.faces, self.selected = editor, judges, names, faces, selected
        self.ellipse, self.masks = ellipse, masks
        unedited = judges.logits(faces.pixels)
        self.tally = EditTally(names, faces.labels, unedited, judges.judge.thresholds, excused(names, groups))
        self.untouched = self._features(faces.pixels)
        self.described: dict[int, np.ndarray] = {}  # dlib's, of untouched pictures, as they are needed
        shape = (2, len(names))
        self.outside, self.detail, self.same, self.rank = (np.full(shape, np.nan) for _ in range(4))
        self.ratios: dict[tuple[int, int], realism.Ratio] = {}

    def _features(self, pixels: np.ndarray) -> np.ndarray | None:
        if isinstance(self.judges.features, str):
            return None
        return self.judges.features(framed(pixels, self.judges.box, SIZE))

    def measure(self, attribute: int, direction: int) -> None:
        """Edit the selected pictures, and judge the results."""
        present = self.faces.labels[:, attribute] > 0
        rows = np.flatnonzero(self.selected[:, attribute] & (present if direction == REMOVED else ~present))
        if not len(rows):
            return
        name, target = self.names[attribute], 1.0 if direction == ADDED else -1.0
        files, before = [self.faces.files[row] for row in rows], self.faces.pixels[rows]
        after = np.stack(side_by_side(lambda data: self.editor.edit(data, {name: target}), files))
        self.tally.add(attribute, self.judges.logits(after), rows)
        self.outside[direction, attribute] = change_outside(before, after, self.ellipse).mean()
        unmasked = None if self.masks is None else self.masks.unmasked(before, name, target)
        self.detail[direction, attribute] = _mean(detail_kept(before, after, unmasked))
        if self.judges.real is not None and self.untouched is not None:
            untouched, labels = self.untouched[rows], self.faces.labels[rows]
            found = realism.ratio(self.judges.real, attribute, direction, self._features(after), untouched, labels)
            if found is not None:
                self.ratios[direction, attribute] = found
        if name in KEEPS_IDENTITY and not isinstance(self.judges.identity, str):
            some = rows[:_IDENTIFIED]
            described = np.stack([self._described(row) for row in some])
            again = self.judges.identity(after[: len(some)])
            self.same[direction, attribute] = same_person(described, again).mean()
        self.rank[direction, attribute] = self._gradual(files[:_SWEPT], attribute, target)

    def _described(self, row: int) -> np.ndarray:
        if row not in self.described:
            self.described[row] = self.judges.identity(self.faces.pixels[[row]])[0]
        return self.described[row]

    def _gradual(self, files: list[bytes], attribute: int, target: float) -> float:
        side = max(self.faces.pixels.shape[1:3])
        name = self.names[attribute]
        films = side_by_side(lambda data: self.editor.sweep(data, name, target, STEPS, side), files)
        logits = self.judges.logits(np.concatenate(films))[:, attribute].reshape(len(files), STEPS)
        return metrics.monotonicity(np.linspace(0, 1, STEPS), logits * target)

    def report(self) -> dict:
        names, tally = self.names, self.tally
        done, extra = (
            dict(zip(DIRECTIONS, tally.by_direction(values), strict=True)) for values in (tally.done, tally.extra)
        )
        measured = ~np.isnan(tally.done)
        report = {
            "faces": {
                way: dict(zip(names, map(int, (measured & which).sum(0)), strict=True))
                for way, which in (("added", ~tally.present), ("removed", tally.present))
            },
            "edits": {
                "balanced": per_attribute(names, _mean_of_both(done)),
                **{way: per_attribute(names, values) for way, values in done.items()},
            },
            "side_effects": {
                "both": per_attribute(names, _mean_of_both(extra)),
                **{way: per_attribute(names, values) for way, values in extra.items()},
                "matrix": {way: self._pairs(direction) for direction, way in enumerate(DIRECTIONS)},
            },
            "realism": self._realism(),
            "locality": {
                "ellipse": {"centre": list(self.ellipse.centre), "semi_axes": list(self.ellipse.semi_axes)},
                **self._by_direction(self.outside),
            },
            "identity": self._identity(),
            "detail": {"where": "unchanged" if self.masks is None else "unmasked", **self._by_direction(self.detail)},
            "gradual": self._by_direction(self.rank),
        }
        return report | {"experimental": offering.experimental(report)}

    def _by_direction(self, values: np.ndarray) -> dict:
        """`values` f64 [2, K] as the mean of both directions, and each of them."""
        both = per_attribute(self.names, column_means(values))
        return {"both": both} | {way: per_attribute(self.names, values[d]) for d, way in enumerate(DIRECTIONS)}

    def _pairs(self, direction: int) -> dict[str, dict[str, float]]:
        """Extra errors in every other attribute, by edited attribute; what does not count is left out."""
        return {
            name: {
                other: float(value)
                for other, value in zip(self.names, self.tally.matrix[direction, row], strict=True)
                if not np.isnan(value)
            }
            for row, name in enumerate(self.names)
        }

    def _realism(self) -> dict:
        if isinstance(self.judges.features, str):
            return {"skipped": self.judges.features}
        found = {}
        for direction, way in enumerate(DIRECTIONS):
            ratios = {self.names[k]: one for (d, k), one in self.ratios.items() if d == direction}
            total, noise = realism.ratio_of_sums(list(ratios.values()))
            found[way] = {
                "ratio_of_sums": total,
                "noise": noise,
                "attributes": {name: _ratio_entry(one) for name, one in ratios.items()},
            }
        return found

    def _identity(self) -> dict:
        if isinstance(self.judges.identity, str):
            return {"skipped": self.judges.identity}
        return self._by_direction(self.same)


def _ratio_entry(one: realism.Ratio) -> dict:
    """Distances times 1,000, as usual; noises are standard deviations, of the ratio and of a distance."""
    return {
        "ratio": one.value,
        "noise": one.noise / one.untouched if one.untouched > 0 else float("nan"),
        "spoils": one.spoils,
        "kid_edited": 1000 * one.edited,
        "kid_untouched": 1000 * one.untouched,
        "kid_noise": 1000 * one.noise,
        "pictures": one.pictures,
        "references": one.references,
    }


def _mean_of_both(values: dict[str, np.ndarray]) -> np.ndarray:
    return column_means(np.stack(list(values.values())))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
