"""python docs/pictures.py: draw the pictures of README.md, docs/api.md and docs/training.md anew, with the bundle that
ships.

Nobody but generated faces and one photograph in the public domain is shown: NASA's portrait of Eileen Collins, which
scikit-image ships.
"""

from __future__ import annotations

from pathlib import Path

import skimage.data
from PIL import Image, ImageDraw

from facet import Client
from service.faces.detector import Detector
from training.config import DataConfig, load
from training.data.align import align

OUT = Path(__file__).parent / "images"
_ACCENT = (15, 122, 108)


def beside(*pictures: Image.Image, gap: int = 8) -> Image.Image:
    """Pictures of one height in a row."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def outlined(photo: Image.Image, face) -> Image.Image:
    """The photo with a found face's box and landmarks."""
    drawn = photo.copy()
    draw = ImageDraw.Draw(drawn)
    draw.rectangle(face.box, outline=_ACCENT, width=3)
    for x, y in face.landmarks:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_ACCENT)
    return drawn


def framing(photo: Image.Image) -> Image.Image:
    """An aligned picture, twice its size, with the landmarks and the boxes of two presets."""
    scale, data = 2, DataConfig()
    aligned = Image.fromarray(align(photo, Detector(Path("weights")), data))
    drawn = aligned.resize([scale * side for side in aligned.size], Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(drawn)
    for preset, colour in (("celeba64", "white"), ("celeba128", _ACCENT)):
        left, top, right, bottom = (scale * side for side in load(preset).data.crop_box)
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=3)
    for x, y in data.landmarks:
        draw.ellipse((scale * x - 4, scale * y - 4, scale * x + 4, scale * y + 4), fill=_ACCENT, outline="white")
    return drawn


def below(*pictures: Image.Image) -> Image.Image:
    """Pictures below each other, their right sides on one line."""
    width = max(picture.width for picture in pictures)
    sheet, top = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white"), 0
    for picture in pictures:
        sheet.paste(picture, (width - picture.width, top))
        top += picture.height
    return sheet


# What the README adds to a generated face, little by little.
ADDED = ("Smiling", "Eyeglasses", "Bangs", "Blond_Hair", "Gray_Hair", "Bald")
# What the README shows of a photograph, left to right, after the untouched one.
SHOWN = ({"Smiling": -1}, {"Eyeglasses": 1}, {"Black_Hair": 1}, {"Gray_Hair": 1}, {"No_Beard": -1})


def main() -> None:
    """Write docs/images/api-*.jpg, framing.jpg, edits-photograph.jpg and sweep.jpg."""
    whole = Image.fromarray(skimage.data.astronaut())
    photo = whole.crop((60, 0, 400, 340))
    with Client.local(sensitive_attributes=True) as facet:
        pictures = {
            "generate": facet.generate({"Smiling": 1, "Eyeglasses": -1}, count=8, seed=11, temperature=0.7, grid=True),
            "sweep": facet.sweep(photo, "Smiling", start=-1, steps=5, target=-1, size=160),
            "sweep-two": facet.sweep(None, ["Smiling", "Young"], seed=3, start=-1, steps=5, size=96),
        }
        strips = [facet.sweep(None, name, seed=1013, start=0, steps=7, size=128).image() for name in ADDED]
        (face,) = facet.encode(photo).faces
        wishes = ({"Black_Hair": 1}, {"Mustache": 1}, {"Brown_Hair": 1})
        edited = [facet.edit(photo, wish).image().convert("RGB") for wish in wishes]
        # The whole photograph goes in and comes back; what is shown is a part of it, pixel by pixel.
        shown = [facet.edit(whole, wish).image().convert("RGB") for wish in SHOWN]
    OUT.mkdir(exist_ok=True)
    for name, found in pictures.items():
        found.image().convert("RGB").save(OUT / f"api-{name}.jpg", quality=88)
    outlined(photo, face).save(OUT / "api-encode.jpg", quality=88)
    beside(photo, *edited).save(OUT / "api-edit.jpg", quality=88)
    below(*(strip.convert("RGB") for strip in strips)).save(OUT / "sweep.jpg", quality=88)
    framing(whole).save(OUT / "framing.jpg", quality=88)
    part = (95, 0, 335, 240)
    beside(*(picture.crop(part) for picture in (whole, *shown))).save(OUT / "edits-photograph.jpg", quality=90)


if __name__ == "__main__":
    main()
