"""Bundles on disk: written beside their place, verified as the service would, then renamed into it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from export import parity
from export.card import model_card
from export.graphs import DecoderGraph, EditorGraph, EncoderGraph, export_graph, round_weights
from service import bundle as bundles
from service import golden
from service.bundle import Attribute, FaceFrame, FileEntry, Manifest, Parity, SamplingPrior, Training
from service.gaussian_prior import GaussianPrior
from training import attributes as attribute_rules
from training import checkpoint, evaluation
from training.config import Config, DataConfig, EditorConfig
from training.editor.model import Editor
from training.evaluation import photographs_tables
from training.graphs import BundleGraphs
from training.model import ConditionalVAE

LARGEST_BUCKET = 64


class ExportError(ValueError):
    """A checkpoint that cannot become a bundle; the message says why."""


def write_bundle(
    path: Path, directory: Path, version: str, description: str, weights_licence: str, editor: Path | None = None
) -> bundles.Bundle:
    """Export the checkpoint at `path` to `directory`, replacing a bundle there only once the new one is whole.

    `editor` is a checkpoint of the stage of that name, for the same attributes and aligned pictures.
    Raises CheckpointError, ExportError, or ParityError when a graph does not compute what torch computes.
    """
    model, config, state = checkpoint.load_model(path)
    if "prior" not in state:
        raise ExportError(f"{path}: is not calibrated; run `python -m training calibrate` first")
    if directory.name != config.name:
        raise ExportError(
            f"{directory}: the preset's name is {config.name!r}; the bundle's directory must be called so"
        )
    names = config.data.attributes
    try:
        bundles.refuse_ratings(names)  # now, not after the graphs
    except ValueError as exc:
        raise ExportError(f"{path}: {exc}") from exc
    round_weights(model)
    prior = SamplingPrior.model_validate(state["prior"])
    sizes = {"image_size": config.data.image_size, "latent_size": model.latent_size, "attributes": len(names)}
    plans = _vae_plans(model, **sizes)
    told: dict[str, Any] = {}
    if editor is not None:
        network, editor_config, editor_state = _load_editor(editor, config)
        sizes["editor_size"] = editor_config.data.image_size
        plans[bundles.EDITOR] = _editor_plan(network, editor_config.data.image_size, len(names))
        told = {"editor_frame": _frame(editor_config.data), "editor_training": _training(editor_config, editor_state)}
    with replacing(directory) as temporary:
        parities = _export_graphs(plans, bundles.graph_interfaces(**sizes), temporary)
        GaussianPrior.of(prior).write(temporary / bundles.PRIOR_FILE)
        manifest = Manifest(
            schema_version=bundles.SCHEMA_VERSION,
            name=config.name,
            version=version,
            description=description,
            weights_licence=weights_licence,
            frame=_frame(config.data),
            latent_size=model.latent_size,
            attributes=[_attribute(name, state["gains"][name]) for name in names],
            prior=prior.attributes_alone,
            files=_files(bundles.graph_interfaces(**sizes)),
            parity=parities,
            training=_training(config, state),
            evaluation={},
            **told,
        )
        seal(temporary, manifest, with_samples=True)
    return bundles.load(directory)


def _load_editor(path: Path, config: Config) -> tuple[Editor, EditorConfig, dict[str, Any]]:
    """Raises CheckpointError, and ExportError for an editor that does not go with that model."""
    network, own, state = checkpoint.load_editor(path)
    for field in ("attributes", "aligned_size", "landmarks"):
        if (found := getattr(own.data, field)) != (expected := getattr(config.data, field)):
            raise ExportError(f"{path}: its data.{field} is {found}; that of the model is {expected}")
    return round_weights(network), own, state


def _frame(data: DataConfig) -> FaceFrame:
    return FaceFrame(
        image_size=data.image_size, aligned_size=data.aligned_size, crop_box=data.crop_box, landmarks=data.landmarks
    )


def _training(config: Config | EditorConfig, state: dict[str, Any]) -> Training:
    return Training(
        config=config.model_dump(mode="json"),
        epochs=round(state["epochs"], 2),
        seed=config.train.seed,
        data_sha256=state["data_sha256"],
        command=state["command"],
        source_commit=source_commit(),
    )


def _files(interfaces: dict[str, bundles.Interface]) -> dict[str, FileEntry]:
    """Entries whose hashes are still to be told."""
    names = [*bundles.REQUIRED_FILES, bundles.PRIOR_FILE]
    names += [bundles.EDITOR, bundles.EDITOR_SAMPLES] if bundles.EDITOR in interfaces else []
    files = dict.fromkeys(names, FileEntry(sha256="0" * 64, bytes=0))
    for graph, (inputs, outputs) in interfaces.items():
        files[graph] = FileEntry(sha256="0" * 64, bytes=0, inputs=inputs, outputs=outputs)
    return files


def attach_evaluation(directory: Path, report: dict) -> bundles.Bundle:
    """Put an evaluation report into a bundle's manifest and model card; the graphs stay as they are.

    A report on photographs stands beside that on encoder and decoder, under its kind. `experimental` of a report, if it
    is there, gives the reason by attribute and direction (added, removed) for those edits of photographs that are not
    to be offered by default; it takes the place of what the manifest said of them.
    """
    bundle = bundles.load(directory)
    if report.get("graphs") != evaluation.graph_hashes(bundle):
        raise ExportError(f"{directory}: the report is about other graphs, of {report.get('bundle')}")
    with replacing(directory) as temporary:
        manifest = copied(bundle, temporary)
        told = {
            "evaluation": _beside(manifest.evaluation, report),
            "attributes": _marked(manifest.attributes, report.get("experimental")),
        }
        # Checked anew: what a report says may be anything.
        manifest = Manifest.model_validate(manifest.model_dump() | told)
        seal(temporary, manifest, with_samples=False)
    return bundles.load(directory)


def _beside(kept: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """A new report in the place of the old one of its kind, and the other as it is."""
    kind = photographs_tables.KIND
    if report.get("kind") == kind:
        return kept | {kind: report}
    return report | {name: value for name, value in kept.items() if name == kind}


def _marked(attributes: list[Attribute], marks: dict[str, dict[str, str]] | None) -> list[dict[str, Any]]:
    """Attributes with what a report says of their edits. Raises ExportError for one that the bundle does not have."""
    if marks and (unknown := set(marks) - {attribute.name for attribute in attributes}):
        raise ExportError(f"the report's experimental.{min(unknown)}: is not an attribute of this bundle")
    changes = {} if marks is None else {each.name: {"experimental": marks.get(each.name, {})} for each in attributes}
    return [each.model_dump() | changes.get(each.name, {}) for each in attributes]


def copied(bundle: bundles.Bundle, directory: Path) -> Manifest:
    """Copy every file to `directory`; the manifest for them there, of the newest schema."""
    manifest = bundle.manifest
    for name in manifest.files:
        shutil.copy2(bundle.path(name), directory / name)
    if isinstance(manifest.prior, SamplingPrior):  # schema 1 has the arrays of its prior within
        bundle.prior.write(directory / bundles.PRIOR_FILE)
        values = manifest.model_dump() | {
            "schema_version": bundles.SCHEMA_VERSION,
            "prior": manifest.prior.attributes_alone.model_dump(),
            "files": manifest.files | {bundles.PRIOR_FILE: FileEntry(sha256="0" * 64, bytes=0)},
        }
        return Manifest.model_validate(values)
    return manifest


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


Inputs = Callable[[int], dict[str, torch.Tensor]]
Plans = dict[str, tuple[nn.Module, Inputs]]


def _vae_plans(model: ConditionalVAE, image_size: int, latent_size: int, attributes: int) -> Plans:
    """Each graph's module, and what makes inputs of some rows for it."""
    generator = torch.Generator().manual_seed(0)

    def encoder_inputs(count: int) -> dict[str, torch.Tensor]:
        known = torch.rand(count, attributes, generator=generator) * 2 - 1
        unknown = torch.rand(count, attributes, generator=generator) < 0.5
        image = torch.randint(0, 256, (count, image_size, image_size, 3), dtype=torch.uint8, generator=generator)
        return {"image": image, "attributes": known.masked_fill(unknown, torch.nan)}

    def decoder_inputs(count: int) -> dict[str, torch.Tensor]:
        latent = torch.randn(count, latent_size, generator=generator)
        return {"latent": latent, "attributes": torch.rand(count, attributes, generator=generator) * 4 - 2}

    return {
        "encoder.onnx": (EncoderGraph(model), encoder_inputs),
        "decoder.onnx": (DecoderGraph(model), decoder_inputs),
    }


def _editor_plan(editor: Editor, image_size: int, attributes: int) -> tuple[nn.Module, Inputs]:
    generator = torch.Generator().manual_seed(0)

    def inputs(count: int) -> dict[str, torch.Tensor]:
        image = torch.randint(0, 256, (count, image_size, image_size, 3), dtype=torch.uint8, generator=generator)
        return {"image": image, "change": torch.rand(count, attributes, generator=generator) * 2 - 1}

    return EditorGraph(editor), inputs


def _export_graphs(plans: Plans, interfaces: dict[str, bundles.Interface], directory: Path) -> dict[str, Parity]:
    parities = {}
    for name, (module, make_inputs) in plans.items():
        outputs = [tensor.name for tensor in interfaces[name][1]]
        export_graph(module, make_inputs(2), outputs, directory / name)
        parities[name] = parity.check(module, directory / name, make_inputs, outputs, [1, 3, LARGEST_BUCKET])
    return parities


def seal(directory: Path, manifest: Manifest, with_samples: bool) -> None:
    """Write the card, the samples and the manifest with the files' real hashes, then verify all as the service does.

    Raises service.bundle.BundleError.
    """
    if with_samples:
        draft = bundles.Bundle(directory, manifest)
        Image.fromarray(golden.draw(draft, BundleGraphs(draft).decode)).save(directory / golden.FILE)
        if manifest.editor_frame is not None:
            Image.fromarray(golden.draw_edits(draft, _edit(draft))).save(directory / bundles.EDITOR_SAMPLES)
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


def _edit(bundle: bundles.Bundle) -> golden.Edit:
    """The editor of a bundle as its golden samples want it."""

    def edit(image: np.ndarray, change: np.ndarray) -> dict[str, np.ndarray]:
        inputs = {"image": torch.from_numpy(image), "change": torch.from_numpy(change)}
        return parity.run_onnx(bundle.path(bundles.EDITOR), inputs)

    return edit


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
