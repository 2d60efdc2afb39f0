"""Pictures of what a bundle does: reconstructions, edits, gradual sweeps and samples, as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from service import images
from service.bundle import Manifest
from service.vectors import Sampler
from training.evaluation import Faces, Graphs, encode_unknown, inverted, residual_edit

_LABEL_HEIGHT = 14
_LABEL_WIDTH = 110
# Below 1, faces are drawn nearer to the middle of the prior, where the decoder has seen more pictures.
_TEMPERATURE = 0.6


def labelled_grid(
    pictures: np.ndarray, columns: list[str], rows_named: list[str] | None = None, scale: int = 2
) -> Image.Image:
    """uint8 [R, C, S, S, 3] with a heading over each column and, if given, a name before each row, enlarged."""
    rows, count, size = pictures.shape[:3]
    sheet = images.grid(pictures.reshape(rows * count, size, size, 3), columns=count)
    enlarged = Image.fromarray(sheet).resize((count * size * scale, rows * size * scale), Image.Resampling.BICUBIC)
    left = _LABEL_WIDTH if rows_named else 0
    figure = Image.new("RGB", (left + enlarged.width, enlarged.height + _LABEL_HEIGHT), "white")
    figure.paste(enlarged, (left, _LABEL_HEIGHT))
    draw = ImageDraw.Draw(figure)
    for column, heading in enumerate(columns):
        draw.text((left + column * size * scale + 3, 1), heading.replace("_", " ")[: size * scale // 6], fill="black")
    for row, name in enumerate(rows_named or []):
        middle = _LABEL_HEIGHT + (2 * row + 1) * size * scale // 2
        draw.text((3, middle), name.replace("_", " "), fill="black", anchor="lm")
    return figure


def reconstructions(graphs: Graphs, names: list[str], faces: Faces) -> Image.Image:
    """Each picture beside its plain reconstruction."""
    latent, shown = encode_unknown(graphs, faces.pixels, len(names))
    return labelled_grid(np.stack([faces.pixels, graphs.decode(latent, shown)], axis=1), ["picture", "decoded"])


def edits(graphs: Graphs, names: list[str], faces: Faces, residual: bool) -> Image.Image:
    """A row per picture: as it is, then each attribute inverted, raw or as the residual edit."""
    latent, shown = encode_unknown(graphs, faces.pixels, len(names))
    reconstruction = graphs.decode(latent, shown)
    columns = [faces.pixels if residual else reconstruction]
    for attribute in range(len(names)):
        edited = graphs.decode(latent, inverted(shown, faces.labels, attribute, names))
        columns.append(residual_edit(faces.pixels, reconstruction, edited) if residual else edited)
    return labelled_grid(np.stack(columns, axis=1), ["picture", *names])


def differences(graphs: Graphs, names: list[str], faces: Faces, amplification: int = 4) -> Image.Image:
    """What each edit changes, amplified around mid-grey: a pattern here is an edit that fools and does not show."""
    latent, shown = encode_unknown(graphs, faces.pixels, len(names))
    reconstruction = graphs.decode(latent, shown).astype(np.int16)
    columns = []
    for attribute in range(len(names)):
        edited = graphs.decode(latent, inverted(shown, faces.labels, attribute, names))
        columns.append((128 + amplification * (edited - reconstruction)).clip(0, 255).astype(np.uint8))
    return labelled_grid(np.stack(columns, axis=1), names)


def sweep(graphs: Graphs, names: list[str], latent: np.ndarray, attributes: np.ndarray, steps: int = 8) -> Image.Image:
    """Gradual edits of one face, a row per attribute, from absent to present; latent [1, Z], attributes [1, K]."""
    rows = []
    for attribute in range(len(names)):
        values = np.repeat(attributes, steps, axis=0)
        values[:, attribute] = np.linspace(-1, 1, steps)
        rows.append(graphs.decode(np.repeat(latent, steps, axis=0), values))
    return labelled_grid(np.stack(rows), [f"{value:+.2f}" for value in np.linspace(-1, 1, steps)], names)


def samples(graphs: Graphs, sampler: Sampler, attributes: np.ndarray, seed: int, columns: int = 8) -> Image.Image:
    """Generated faces, one for each row of `attributes` f32 [N, K]."""
    return Image.fromarray(images.grid(graphs.decode(sampler.latents(seed, attributes), attributes), columns))


def draw_all(graphs: Graphs, manifest: Manifest, faces: Faces | None, directory: Path, seed: int) -> list[Path]:
    """Write every figure; those of real pictures only where `faces` are given. Returns the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    names = manifest.attribute_names
    sampler = Sampler(manifest.prior, manifest.attribute_groups)
    drawn = sampler.attributes(np.full(len(names), np.nan, dtype=np.float32), seed, count=64)
    latent = sampler.latents(seed, drawn[:8], _TEMPERATURE)
    figures = {
        "samples.png": samples(graphs, sampler, drawn, seed),
        "sweep.png": sweep(graphs, names, latent[:1], drawn[:1]),
    }
    generated = graphs.decode(latent, drawn[:8])
    figures["edits-generated.png"] = edits(graphs, names, Faces(generated, drawn[:8]), residual=False)
    if faces is not None:
        figures["reconstructions.png"] = reconstructions(graphs, names, faces)
        figures["edits-raw.png"] = edits(graphs, names, faces, residual=False)
        figures["edits-residual.png"] = edits(graphs, names, faces, residual=True)
        figures["differences.png"] = differences(graphs, names, faces)
    paths = []
    for name, figure in figures.items():
        paths.append(directory / name)
        figure.save(paths[-1])
    return paths
