"""Bundles on disk: written beside their place, verified as the service would, then renamed into it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image

from export import parity
from export.card import model_card
from export.graphs import DecoderGraph, EncoderGraph, export_graph, round_weights
from service import bundle as bundles
from service import golden
from service.bundle import Attribute, FaceFrame, FileEntry, Manifest, SamplingPrior, Training
from training import attributes as attribute_rules
from training import checkpoint, evaluation
from training.graphs import BundleGraphs

LARGEST_BUCKET = 64


class ExportError(ValueError):
    """A checkpoint that cannot become a bundle; the message says why."""


def write_bundle(path: Path, directory: Path, version: str, description: str, weights_licence: str) -> bundles.Bundle:
    """Export the checkpoint at `path` to `directory`, replacing a bundle there only once the new one is whole.

    Raises CheckpointError, ExportError, or ParityError when a graph does not compute what torch computes.
    """
    model, config, state = checkpoint.load_model(path)
    if "prior" not in state:
        raise ExportError(f"{path}: is not calibrated; run `python -m training calibrate` first")
    if directory.name != config.name:
        raise ExportError(
            f"{directory}: the preset's name is {config.name!r}; the bundle's directory must be called so"
        )
    names, size, latent_size = config.data.attributes, config.data.image_size, model.latent_size
    try:
        bundles.refuse_ratings(names)  # now, not after the graphs
    except ValueError as exc:
        raise ExportError(f"{path}: {exc}") from exc
    round_weights(model)
    prior = SamplingPrior.model_validate(state["prior"])
    with replacing(directory) as temporary:
        parities = _export_graphs(model, temporary, size, latent_size, len(names))
        manifest = Manifest(
            schema_version=1,
            name=config.name,
            version=version,
            description=description,
            weights_licence=weights_licence,
            frame=FaceFrame(
                image_size=size,
                aligned_size=config.data.aligned_size,
                crop_box=config.data.crop_box,
                landmarks=config.data.landmarks,
            ),
            latent_size=latent_size,
            attributes=[_attribute(name, state["gains"][name]) for name in names],
            prior=prior,
            files=dict.fromkeys(bundles.REQUIRED_FILES, FileEntry(sha256="0" * 64, bytes=0))
            | {
                graph: FileEntry(sha256="0" * 64, bytes=0, inputs=inputs, outputs=outputs)
                for graph, (inputs, outputs) in bundles.graph_interfaces(size, latent_size, len(names)).items()
            },
            parity=parities,
            training=Training(
                config=config.model_dump(mode="json"),
                epochs=round(state["epochs"], 2),
                seed=config.train.seed,
                data_sha256=state["data_sha256"],
                command=state["command"],
                source_commit=source_commit(),
            ),
            evaluation={},
        )
        seal(temporary, manifest, with_samples=True)
    return bundles.load(directory)


def attach_evaluation(directory: Path, report: dict) -> bundles.Bundle:
    """Put an evaluation report into a bundle's manifest and model card; the graphs stay as they are."""
    bundle = bundles.load(directory)
    if report.get("graphs") != evaluation.graph_hashes(bundle):
        raise ExportError(f"{directory}: the report is about other graphs, of {report.get('bundle')}")
    with replacing(directory) as temporary:
        for name in bundle.manifest.files:
            shutil.copy2(bundle.path(name), temporary / name)
        seal(temporary, bundle.manifest.model_copy(update={"evaluation": report}), with_samples=False)
    return bundles.load(directory)


def source_commit() -> str:
    """The commit of the source tree, with `+changes` if there are any; `unknown` outside git."""
    try:
        run = {"capture_output": True, "text": True, "check": True, "cwd": Path(__file__).parent}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if dirty else commit


def _attribute(name: str, gain: float) -> Attribute:
    info = attribute_rules.describe(name)
    return Attribute(name=name, description=info.description, group=info.group, gain=gain, sensitive=info.sensitive)


def _export_graphs(model, directory: Path, size: int, latent_size: int, attributes: int) -> dict:
    generator = torch.Generator().manual_seed(0)

    def encoder_inputs(count: int) -> dict[str, torch.Tensor]:
        known = torch.rand(count, attributes, generator=generator) * 2 - 1
        unknown = torch.rand(count, attributes, generator=generator) < 0.5
        image = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
        return {"image": image, "attributes": known.masked_fill(unknown, torch.nan)}

    def decoder_inputs(count: int) -> dict[str, torch.Tensor]:
        latent = torch.randn(count, latent_size, generator=generator)
        return {"latent": latent, "attributes": torch.rand(count, attributes, generator=generator) * 4 - 2}

    plans = {
        "encoder.onnx": (EncoderGraph(model), encoder_inputs),
        "decoder.onnx": (DecoderGraph(model), decoder_inputs),
    }
    parities = {}
    for name, (module, make_inputs) in plans.items():
        outputs = [t.name for t in bundles.graph_interfaces(size, latent_size, attributes)[name][1]]
        export_graph(module, make_inputs(2), outputs, directory / name)
        parities[name] = parity.check(module, directory / name, make_inputs, outputs, [1, 3, LARGEST_BUCKET])
    return parities


def seal(directory: Path, manifest: Manifest, with_samples: bool) -> None:
    """Write the card, the samples and the manifest with the files' real hashes, then verify all as the service does."""
    if with_samples:
        draft = bundles.Bundle(directory, manifest)
        sheet = golden.draw(manifest, BundleGraphs(draft).decode)
        Image.fromarray(sheet).save(directory / golden.FILE)
    (directory / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")
    files = {
        name: entry.model_copy(
            update={"sha256": bundles.sha256_file(directory / name), "bytes": (directory / name).stat().st_size}
        )
        for name, entry in manifest.files.items()
    }
    manifest = manifest.model_copy(update={"files": files})
    text = manifest.model_dump_json(indent=1)
    (directory / bundles.MANIFEST).write_text(text + "\n", encoding="utf-8")
    bundles.load(directory)


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A temporary sibling of `directory` that takes its place when the block succeeds, and vanishes when not."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    temporary.chmod(0o755)
    try:
        yield temporary
        old = temporary.with_name(temporary.name + "-old")
        if directory.exists():
            directory.rename(old)
        try:
            temporary.rename(directory)
        except OSError:
            old.rename(directory)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
