"""Bundles on disk: written beside their place, verified as the service would, then renamed into it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import nn
from tqdm import tqdm

from export import aliases, parity
from export.card import model_card
from export.graphs import DecoderGraph, EditorGraph, EncoderGraph, PriorGraph, export_graph, round_weights
from service.bundle import loader
from service.bundle.gaussian_prior import PRIOR_FILE, GaussianPrior
from service.bundle.loader import Bundle
from service.bundle.manifest import (
    EDITOR,
    EDITOR_SAMPLES,
    LEARNED_PRIOR,
    MANIFEST,
    REQUIRED_FILES,
    SCHEMA_VERSION,
    Attribute,
    EditorGains,
    FaceFrame,
    FileEntry,
    Interface,
    Manifest,
    Parity,
    SamplingPrior,
    Training,
    graph_interfaces,
    learned_prior_interface,
    refuse_ratings,
)
from service.inference import golden
from training import attributes as attribute_rules
from training import checkpoint, evaluation, files
from training.config import Config, DataConfig, EditorConfig, FlowConfig, GeneratorConfig
from training.editor.model import Editor
from training.evaluation import photographs_tables, samples
from training.flow.model import FlowPrior
from training.graphs import BundleGraphs
from training.vae.model import ConditionalVAE

LARGEST_BUCKET = 64
_ALIGNED = ("aligned_size", "landmarks")  # of pictures that every graph of a bundle sees
Gains = dict[str, EditorGains]  # by attribute
_GAINS = TypeAdapter(Gains)


class ExportError(ValueError):
    """A checkpoint that cannot become a bundle; the message says why."""


def write_bundle(
    path: Path,
    directory: Path,
    version: str,
    description: str,
    weights_licence: str,
    editor: Path | None = None,
    prior: Path | None = None,
    decoder: Path | None = None,
    gains_file: Path | None = None,
) -> Bundle:
    """Export the checkpoint at `path` to `directory`, replacing a bundle there only once the new one is whole.

    `editor` and `prior` are checkpoints of the stages of those names, `decoder` one of the stage "generator": for the
    same attributes and aligned pictures. `gains_file` is a JSON file with what the editor multiplies changes by,
    {"Bald": {"added": 1.5}}; without it the gains of the editor's checkpoint hold, which one from a bundle has.
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
    if gains_file is not None and editor is None:
        raise ExportError(f"{gains_file}: are the gains of an editor, and no --editor is given")
    try:
        refuse_ratings(names)  # now, not after the graphs
    except ValueError as exc:
        raise ExportError(f"{path}: {exc}") from exc
    stage_entries: dict[str, Any] = {}
    editor_gains: Gains = {}
    if decoder is not None:
        its_config, its_state = _load_decoder(decoder, model, config)
        stage_entries["decoder_training"] = _training(its_config, its_state)
    _round(model, path)
    with checkpoint.damaged(path):
        gaussian = SamplingPrior.model_validate(state["prior"])
        gains = [float(state["gains"][name]) for name in names]
    sizes = {"image_size": config.data.image_size, "latent_size": model.latent_size, "attributes": len(names)}
    plans = _vae_plans(model, **sizes)
    if prior is not None:
        flow, its_config, its_state = checkpoint.load_prior(prior, model.latent_size)
        _check_data(prior, its_config.data, config.data, ("attributes", "image_size", *_ALIGNED))
        _round(flow, prior)
        plans[LEARNED_PRIOR] = _prior_plan(flow, model.latent_size, len(names))
        stage_entries["prior_training"] = _training(its_config, its_state)
    if editor is not None:
        network, editor_config, editor_state = _load_editor(editor, config)
        own = editor_state.get("editor_gains", {})
        editor_gains = own if gains_file is None else _read_gains(gains_file, names)
        sizes["editor_size"] = editor_config.data.image_size
        plans[EDITOR] = _editor_plan(network, editor_config.data.image_size, names, editor_gains)
        stage_entries |= {
            "editor_frame": _frame(editor_config.data),
            "editor_training": _training(editor_config, editor_state),
        }
    interfaces = graph_interfaces(**sizes)
    if prior is not None:
        interfaces[LEARNED_PRIOR] = learned_prior_interface(model.latent_size, len(names))
    with replacing(directory) as temporary:
        parities = _export_graphs(plans, interfaces, temporary)
        GaussianPrior.of(gaussian).write(temporary / PRIOR_FILE)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=config.name,
            version=version,
            description=description,
            weights_licence=weights_licence,
            frame=_frame(config.data),
            latent_size=model.latent_size,
            attributes=[
                _attribute(name, gain, editor_gains.get(name, {}), config.data)
                for name, gain in zip(names, gains, strict=True)
            ],
            prior=gaussian.attributes_alone,
            files=_files(interfaces),
            parity=parities,
            training=_training(config, state),
            evaluation={},
            **stage_entries,
        )
        seal(temporary, manifest, with_samples=True)
    return loader.load(directory)


def _load_editor(path: Path, config: Config) -> tuple[Editor, EditorConfig, dict[str, Any]]:
    """Raises CheckpointError, and ExportError for an editor that does not go with that model."""
    network, own, state = checkpoint.load_editor(path)
    _check_data(path, own.data, config.data, ("attributes", *_ALIGNED))
    _round(network, path)
    return network, own, state


def _read_gains(path: Path, names: list[str]) -> Gains:
    """Raises ExportError that names the entry that is wrong; a missing file raises OSError."""
    try:
        gains = _GAINS.validate_json(path.read_bytes())
    except ValidationError as exc:
        first = exc.errors()[0]
        raise ExportError(f"{path}: {'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}") from exc
    if unknown := sorted(gains.keys() - set(names)):
        raise ExportError(f"{path}: {unknown[0]}: is not an attribute of this bundle")
    return gains


def _round(network: nn.Module, path: Path) -> None:
    try:
        round_weights(network)
    except ValueError as exc:
        raise ExportError(f"{path}: {exc}") from exc


def _load_decoder(path: Path, model: ConditionalVAE, config: Config) -> tuple[GeneratorConfig, dict[str, Any]]:
    """Give `model` the weights of a checkpoint of the stage "generator". Raises CheckpointError and ExportError."""
    state, own = checkpoint.load_run(path, "generator")
    _check_data(path, own.data, config.data, ("attributes", "image_size", "crop_box", *_ALIGNED))
    checkpoint.load_weights(model, state, "ema", path)
    return own, state


def _check_data(path: Path, own: DataConfig, model: DataConfig, fields: Iterable[str]) -> None:
    for field in fields:
        if (found := getattr(own, field)) != (expected := getattr(model, field)):
            raise ExportError(f"{path}: its data.{field} is {found}; that of the model is {expected}")


def _frame(data: DataConfig) -> FaceFrame:
    return FaceFrame(
        image_size=data.image_size, aligned_size=data.aligned_size, crop_box=data.crop_box, landmarks=data.landmarks
    )


def _training(config: Config | EditorConfig | FlowConfig | GeneratorConfig, state: dict[str, Any]) -> Training:
    return Training(
        config=config.model_dump(mode="json"),
        epochs=round(state["epochs"], 2),
        seed=config.train.seed,
        data_sha256=state["data_sha256"],
        command=state["command"],
        source_commit=source_commit(),
        classifier_sha256=state.get("classifier_sha256"),
    )


def _files(interfaces: dict[str, Interface]) -> dict[str, FileEntry]:
    """Entries whose hashes are still to be told."""
    names = [*REQUIRED_FILES, PRIOR_FILE]
    names += [EDITOR, EDITOR_SAMPLES] if EDITOR in interfaces else []
    entries = dict.fromkeys(names, FileEntry(sha256="0" * 64, bytes=0))
    for graph, (inputs, outputs) in interfaces.items():
        entries[graph] = FileEntry(sha256="0" * 64, bytes=0, inputs=inputs, outputs=outputs)
    return entries


def attach_evaluation(directory: Path, report: dict) -> Bundle:
    """Put an evaluation report into a bundle's manifest and model card; the graphs stay as they are.

    Reports on photographs and on samples stand beside that on encoder and decoder, under their kinds. `experimental` of
    a report, if it is there, gives the reason by attribute and direction (added, removed) for those edits of
    photographs that are not to be offered by default; it takes the place of what the manifest said of them.
    """
    bundle = loader.load(directory)
    if report.get("graphs") != evaluation.graph_hashes(bundle):
        raise ExportError(f"{directory}: the report is about other graphs, of {report.get('bundle')}")
    if (strength := report.get("strength", 1.0)) != 1:
        raise ExportError(f"{directory}: the report is about edits of strength {strength}, a bundle's is of strength 1")
    with replacing(directory) as temporary:
        manifest = copied(bundle, temporary)
        try:  # checked anew: what a report says may be anything
            updates = {
                "evaluation": _beside(manifest.evaluation, report),
                "attributes": _marked(manifest.attributes, report.get("experimental")),
            }
            manifest = Manifest.model_validate(manifest.model_dump() | updates)
            model_card(manifest)
        except (AttributeError, KeyError, TypeError) as exc:
            raise ExportError(f"{directory}: the report is not one of `python -m training evaluate`: {exc!r}") from exc
        seal(temporary, manifest, with_samples=False)
    return loader.load(directory)


def _beside(kept: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """A new report in the place of the old one of its kind, and the other as it is."""
    kinds = (photographs_tables.KIND, samples.KIND)
    if (kind := report.get("kind")) in kinds:
        return kept | {kind: report}
    return report | {name: value for name, value in kept.items() if name in kinds}


def _marked(attributes: list[Attribute], marks: dict[str, dict[str, str]] | None) -> list[dict[str, Any]]:
    """Attributes with what a report says of their edits. Raises ExportError for one that the bundle does not have."""
    if marks and (unknown := set(marks) - {attribute.name for attribute in attributes}):
        raise ExportError(f"the report's experimental.{min(unknown)}: is not an attribute of this bundle")
    changes = {} if marks is None else {each.name: {"experimental": marks.get(each.name, {})} for each in attributes}
    return [each.model_dump() | changes.get(each.name, {}) for each in attributes]


def copied(bundle: Bundle, directory: Path) -> Manifest:
    """Copy every file to `directory`; the manifest for them there, of the newest schema."""
    manifest = bundle.manifest
    for name in manifest.files:
        shutil.copy2(bundle.path(name), directory / name)
    if isinstance(manifest.prior, SamplingPrior):  # schema 1 has the arrays of its prior within
        bundle.prior.write(directory / PRIOR_FILE)
        values = manifest.model_dump() | {
            "schema_version": SCHEMA_VERSION,
            "prior": manifest.prior.attributes_alone.model_dump(),
            "files": manifest.files | {PRIOR_FILE: FileEntry(sha256="0" * 64, bytes=0)},
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


def _attribute(name: str, gain: float, editor_gains: EditorGains, data: DataConfig) -> Attribute:
    info = attribute_rules.describe(name, data.about)
    known = {"description": info.description, "group": info.group, "sensitive": info.sensitive}
    named = aliases.of(name, data.attributes, data.aliases)
    return Attribute(name=name, gain=gain, editor_gains=editor_gains, **known, **named)


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


def _editor_plan(editor: Editor, image_size: int, names: list[str], gains: Gains) -> tuple[nn.Module, Inputs]:
    generator = torch.Generator().manual_seed(0)
    rows = [[gains.get(name, {}).get(way, 1.0) for name in names] for way in ("removed", "added")]

    def inputs(count: int) -> dict[str, torch.Tensor]:
        image = torch.randint(0, 256, (count, image_size, image_size, 3), dtype=torch.uint8, generator=generator)
        return {"image": image, "change": torch.rand(count, len(names), generator=generator) * 2 - 1}

    return EditorGraph(editor, torch.tensor(rows).half().float() if gains else None), inputs


def _prior_plan(prior: FlowPrior, latent_size: int, attributes: int) -> tuple[nn.Module, Inputs]:
    generator = torch.Generator().manual_seed(0)

    def inputs(count: int) -> dict[str, torch.Tensor]:
        noise = torch.randn(count, latent_size, generator=generator)
        return {"noise": noise, "attributes": torch.rand(count, attributes, generator=generator) * 2 - 1}

    return PriorGraph(prior), inputs


def _export_graphs(plans: Plans, interfaces: dict[str, Interface], directory: Path) -> dict[str, Parity]:
    parities = {}
    for name, (module, make_inputs) in tqdm(plans.items(), desc="exporting", unit="graph"):
        outputs = [tensor.name for tensor in interfaces[name][1]]
        export_graph(module, make_inputs(2), outputs, directory / name)
        parities[name] = parity.check(module, directory / name, make_inputs, outputs, [1, 3, LARGEST_BUCKET])
    return parities


def seal(directory: Path, manifest: Manifest, with_samples: bool) -> None:
    """Write the card, the samples and the manifest with the files' real hashes, then verify all as the service does.

    Raises service.bundle.BundleError.
    """
    if with_samples:
        draft = Bundle(directory, manifest)
        graphs = BundleGraphs(draft)
        Image.fromarray(golden.draw(draft, graphs.decode, graphs.learned)).save(directory / golden.FILE)
        if manifest.editor_frame is not None:
            Image.fromarray(golden.draw_edits(draft, _edit(draft))).save(directory / EDITOR_SAMPLES)
    (directory / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")
    entries = {
        name: entry.model_copy(
            update={"sha256": loader.sha256_file(directory / name), "bytes": (directory / name).stat().st_size}
        )
        for name, entry in manifest.files.items()
    }
    manifest = manifest.model_copy(update={"files": entries})
    text = manifest.model_dump_json(indent=1)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")
    loader.load(directory)


def _edit(bundle: Bundle) -> golden.Edit:
    """The editor of a bundle as its golden samples want it."""

    graph = parity.OnnxGraph(bundle.path(EDITOR))
    return lambda image, change: graph.run({"image": image, "change": change})


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A temporary sibling of `directory` that takes its place when the block succeeds, and vanishes when not."""
    with files.directory(directory.parent) as parent:
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=parent))
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
