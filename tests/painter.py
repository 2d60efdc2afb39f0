"""Draws parametric faces whose attributes are known exactly, and reads them back from pixels.

Faces sit as CelebA's do: eyes at (69, 111) and (108, 111) in a picture of 178 x 218. The readers look at fixed places
and compare colours; they are no classifier and cannot be fooled by texture elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = (178, 218)
CROP = (15.0, 40.0, 163.0, 188.0)
ATTRIBUTES = ["Black_Hair", "Blond_Hair", "Eyeglasses", "Pale_Skin", "Smiling", "Wearing_Hat"]

_HAIR = {"Black_Hair": (25, 22, 22), "Blond_Hair": (225, 195, 110), None: (115, 70, 40)}
_SKIN = {True: (238, 208, 190), False: (165, 115, 85)}


def random_attributes(rng: np.random.Generator) -> dict[str, bool]:
    """Every attribute present with probability 0.4, never two hair colours."""
    present = {name: bool(rng.random() < 0.4) for name in ATTRIBUTES}
    if present["Black_Hair"] and present["Blond_Hair"]:
        present["Blond_Hair"] = False
    return present


def paint(present: dict[str, bool], rng: np.random.Generator) -> Image.Image:
    """One face; `rng` draws what no attribute names: background, position, proportions and shades."""
    image = Image.new("RGB", SIZE, tuple(int(v) for v in rng.integers(90, 200, 3)))
    draw = ImageDraw.Draw(image)
    x, y = 89 + rng.uniform(-2.5, 2.5), 125 + rng.uniform(-2.5, 2.5)
    width = float(np.clip(rng.normal(1, 0.03), 0.94, 1.06))

    def shade(colour: tuple[int, int, int]) -> tuple[int, ...]:
        return tuple(int(np.clip(v + level, 0, 255)) for v in colour)

    level = rng.normal(0, 6)
    hair = next((name for name in ("Black_Hair", "Blond_Hair") if present[name]), None)
    _ellipse(draw, x, y - 10, 60 * width, 74, shade(_HAIR[hair]))
    _ellipse(draw, x, y + 2, 41 * width, 58, shade(_SKIN[present["Pale_Skin"]]))
    for side in (-1, 1):
        _ellipse(draw, x + 19.5 * side, y - 14, 7, 4.5, (250, 250, 250))
        _ellipse(draw, x + 19.5 * side, y - 14, 3, 4, (40, 30, 30))
        if present["Eyeglasses"]:
            _ellipse(draw, x + 19.5 * side, y - 14, 15, 12, (15, 15, 20))
    if present["Eyeglasses"]:
        draw.line([x - 8, y - 15, x + 8, y - 15], fill=(15, 15, 20), width=5)
    draw.line([x, y - 4, x - 4, y + 12, x + 3, y + 13], fill=(90, 60, 50), width=2)
    if present["Smiling"]:
        draw.chord([x - 22, y + 10, x + 22, y + 42], 0, 180, fill=(150, 20, 40))
    else:
        draw.line([x - 14, y + 33, x + 14, y + 33], fill=(120, 60, 60), width=2)
    if present["Wearing_Hat"]:
        draw.chord([x - 62 * width, y - 92, x + 62 * width, y + 2], 180, 360, fill=shade((40, 60, 205)))
    return image


def _ellipse(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, fill: tuple[int, ...]) -> None:
    draw.ellipse([x - rx, y - ry, x + rx, y + ry], fill=fill)


def read(pixels: np.ndarray) -> dict[str, bool]:
    """The attributes that a framed face uint8 [S, S, 3] shows, by the colours of fixed places."""
    hair = (_patch(pixels, 38, 112, 44, 124) + _patch(pixels, 134, 112, 140, 124)) / 2
    distance = {name: np.linalg.norm(hair - colour) for name, colour in _HAIR.items()}
    nearest = min(distance, key=distance.get)
    lenses = (_patch(pixels, 60, 104, 78, 118) + _patch(pixels, 100, 104, 118, 118)) / 2
    cheeks = (_patch(pixels, 58, 128, 68, 140) + _patch(pixels, 110, 128, 120, 140)) / 2
    mouth, hat = _patch(pixels, 80, 153, 98, 162), _patch(pixels, 80, 50, 98, 66)
    return {
        "Black_Hair": nearest == "Black_Hair",
        "Blond_Hair": nearest == "Blond_Hair",
        "Eyeglasses": lenses.mean() < 0.55 * cheeks.mean(),
        "Pale_Skin": cheeks.mean() > 167,
        "Smiling": mouth[1] < 0.62 * cheeks[1],
        "Wearing_Hat": hat[2] - hat[0] > 50,
    }


def _patch(pixels: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """Mean colour f64 [3] of a box given in the aligned picture."""
    scale = pixels.shape[0] / (CROP[2] - CROP[0])
    x0, x1 = (round((x - CROP[0]) * scale) for x in (left, right))
    y0, y1 = (round((y - CROP[1]) * scale) for y in (top, bottom))
    return pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].reshape(-1, 3).mean(0)


def write_dataset(root: Path, train: int, validation: int, seed: int = 0) -> Path:
    """Painted faces in CelebA's own layout below `root`; returns `root`."""
    rng = np.random.default_rng(seed)
    (root / "img_align_celeba").mkdir(parents=True)
    labels, partitions, identities = [], [], []
    for number in range(1, train + validation + 1):
        name, present = f"{number:06d}.jpg", random_attributes(rng)
        paint(present, rng).save(root / "img_align_celeba" / name, quality=92)
        labels.append(f"{name} " + " ".join("1" if present[a] else "-1" for a in ATTRIBUTES))
        partitions.append(f"{name} {0 if number <= train else 1}")
        identities.append(f"{name} {number}")
    header = f"{len(labels)}\n{' '.join(ATTRIBUTES)}\n"
    (root / "list_attr_celeba.txt").write_text(header + "\n".join(labels) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(partitions) + "\n")
    (root / "identity_CelebA.txt").write_text("\n".join(identities) + "\n")
    return root
