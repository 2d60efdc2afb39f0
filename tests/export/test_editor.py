"""A bundle with an editor: exported from two checkpoints, verified, run, halved, and put into a Triton repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError

from export import half, parity, writer
from export.__main__ import main
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError
from service.inference import golden
from service.inference.onnx import OnnxRuntime
from service.settings import Settings
from training import checkpoint, config, evaluation, restore
from training.config import Config, EditorConfig
from training.editor.model import Editor
from training.evaluation.masks import EditorMasks
from training.vae import prior
from training.vae.model import ConditionalVAE

NAMES = ["Smiling", "Eyeglasses", "Black_Hair", "Blond_Hair"]
DATA = {"attributes": NAMES, "image_size": 32}
RUN = {"epochs": 2.0, "data_sha256": "0" * 64, "command": "python -m training fit"}


def vae_checkpoint(path: Path) -> Config:
    model = {"global_size": 8, "map_channels": 2, "encoder_channels": [8, 16, 24], "decoder_channels": [24, 16, 8]}
    settings = config.parse({"name": "small", "data": DATA, "model": model | {"condition_size": 12}})
    torch.manual_seed(0)
    model = ConditionalVAE(settings.model, 32, len(NAMES))
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((200, model.latent_size)).astype(np.float32)
    labels = np.where(rng.random((200, len(NAMES))) < 0.5, 1.0, -1.0)
    fitted = prior.fit_prior(mean, np.zeros_like(mean), labels.astype(np.float32), labels)
    state = {"prior": fitted.model_dump(mode="json"), "gains": dict.fromkeys(NAMES, 1.0)}
    checkpoint.save(path, RUN | state | {"config": settings.model_dump(mode="json"), "ema": model.state_dict()})
    return settings


def editor_checkpoint(path: Path, **data) -> EditorConfig:
    settings = config.parse(
        {
            "stage": "editor",
            "name": "small-editor",
            "data": {"attributes": NAMES, "image_size": 32} | data,
            "model": {"channels": [8, 8, 16], "detail_channels": 8, "condition_size": 8},
            "opponent": {"crop": 32},
        }
    )
    torch.manual_seed(1)
    editor = Editor(settings.model, 32, len(settings.data.attributes))
    with torch.no_grad():  # as if it had learned to do something
        editor.smooth.weight *= 30
        editor.sharp.weight *= 30
    checkpoint.save(path, RUN | {"config": settings.model_dump(mode="json"), "ema": editor.state_dict()})
    return settings


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    vae_checkpoint(directory / "vae.pt")
    editor_checkpoint(directory / "editor.pt")
    return directory


@pytest.fixture(scope="module")
def bundle(checkpoints: Path) -> Bundle:
    out = checkpoints / "bundles" / "small"
    words = ["--checkpoint", str(checkpoints / "vae.pt"), "--editor", str(checkpoints / "editor.pt")]
    assert main(["bundle", *words, "--out", str(out), "--version", "1", "--weights-licence", "CC0-1.0"]) == 0
    return loader.load(out)


def test_the_manifest_describes_all_three_graphs(bundle: Bundle):
    manifest = bundle.manifest
    assert manifest.schema_version == 2
    assert manifest.graphs == ("encoder.onnx", "decoder.onnx", "editor.onnx")
    assert manifest.editor_frame.image_size == 32
    assert manifest.editor_frame.crop_box == (0, 20, 178, 198)
    assert manifest.editor_training.config["stage"] == "editor"
    assert manifest.parity["editor.onnx"].batches == [1, 3, writer.LARGEST_BUCKET]
    assert set(manifest.parity["editor.onnx"].max_error) == {"mask", "gain", "residual", "flow"}
    assert bundle.path("manifest.json").stat().st_size < 50_000  # the arrays lie elsewhere
    assert "| editor | 32 x 32" in bundle.path("MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_service_takes_it_and_edits_its_samples_as_export_did(bundle: Bundle):
    runtime = OnnxRuntime(bundle, Settings(device="cpu"))
    edits = golden.draw_edits(bundle, lambda image, change: runtime.editor({"image": image, "change": change}))
    assert np.abs(edits.astype(int) - golden.draw_edits(bundle, still)).mean() > 1
    golden.check_editor(bundle, lambda image, change: runtime.editor({"image": image, "change": change}))
    with pytest.raises(BundleError, match=r"editor_samples\.png: the graphs edit other faces"):
        golden.check_editor(bundle, still)


def still(image: np.ndarray, change: np.ndarray) -> dict[str, np.ndarray]:
    """An editor that does nothing."""
    channels = {"mask": 1, "gain": 3, "residual": 3, "flow": 2}
    return {name: np.zeros((*image.shape[:3], count), dtype=np.float32) for name, count in channels.items()}


def test_no_change_is_a_mask_of_zeros(bundle: Bundle):
    image = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8).numpy()
    inputs = {"image": image, "change": np.zeros((2, len(NAMES)), np.float32)}
    assert not parity.OnnxGraph(bundle.path("editor.onnx")).run(inputs)["mask"].any()


def test_what_the_editor_leaves_alone_is_told_as_the_service_asks_it(bundle: Bundle):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 218, 178, 3), dtype=np.uint8)
    unmasked = EditorMasks.of(bundle).unmasked(pixels, "Smiling", 1.0)
    assert unmasked.shape == (2, 218, 178)
    left, top, right, bottom = (int(side) for side in bundle.manifest.editor_frame.crop_box)
    inside = unmasked[:, top:bottom, left:right]
    assert not inside.all()
    assert unmasked.sum() - inside.sum() == 2 * (218 * 178 - inside[0].size)
    assert EditorMasks.of(loader.load(Path(__file__).parents[2] / "bundles" / "celeba64")) is None


def test_triton_gets_the_editor_too(bundle: Bundle, tmp_path: Path):
    assert main(["triton", "--bundle", str(bundle.directory), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "small-editor" / "config.pbtxt").read_text(encoding="utf-8")
    assert 'output [ { name: "flow" data_type: TYPE_FP32 dims: [ 32, 32, 2 ] } ]'.replace("[ {", "[ {") in text
    assert (tmp_path / "small-editor" / "1" / "model.onnx").read_bytes() == bundle.path("editor.onnx").read_bytes()


def test_half_precision_has_the_editor_in_it(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(half, "FACES", 16)
    written = half.write_half(bundle.directory, tmp_path / "small")
    assert written.manifest.parity["editor.onnx"].max_error["mask"] <= half.TOLERANCE["mask"]
    kinds = {tensor.data_type for tensor in onnx.load(written.path("editor.onnx")).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    golden.check_editor(written, lambda image, change: editor_of(written)({"image": image, "change": change}))


def editor_of(bundle: Bundle):
    return OnnxRuntime(bundle, Settings(device="cpu")).editor


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        ({"attributes": ["Smiling", "Eyeglasses"]}, r"data\.attributes is \['Smiling', 'Eyeglasses'\]"),
        ({"aligned_size": (178, 200), "crop_box": (0, 20, 178, 198)}, r"data\.aligned_size"),
    ],
)
def test_an_editor_for_other_faces_is_refused(checkpoints: Path, tmp_path: Path, data: dict, rule: str):
    editor_checkpoint(tmp_path / "other.pt", **data)
    with pytest.raises(writer.ExportError, match=rule):
        writer.write_bundle(checkpoints / "vae.pt", tmp_path / "small", "1", "", "", tmp_path / "other.pt")
    with pytest.raises(checkpoint.CheckpointError, match="stage 'vae', expected 'editor'"):
        writer.write_bundle(checkpoints / "vae.pt", tmp_path / "small", "1", "", "", checkpoints / "vae.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"]


def test_a_bundle_of_schema_1_is_written_again_as_schema_2(tmp_path: Path):
    source = loader.load(Path(__file__).parents[2] / "bundles" / "celeba64")
    manifest = writer.copied(source, tmp_path)
    writer.seal(tmp_path, manifest, with_samples=False)
    again = loader.load(tmp_path)
    assert (source.manifest.schema_version, again.manifest.schema_version) == (1, 2)
    for name in ("latent_mean", "latent_weights", "latent_cholesky", "attribute_covariance", "attribute_levels"):
        np.testing.assert_array_equal(getattr(again.prior, name), getattr(source.prior, name))


def test_a_report_says_what_is_experimental(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluation, "markdown", lambda report: "Measured.\n")
    directory = tmp_path / "small"
    shutil.copytree(bundle.directory, directory)
    report = {"bundle": "small@1", "graphs": evaluation.graph_hashes(bundle), "edit": {}}
    assert set(report["graphs"]) == {"encoder.onnx", "decoder.onnx", "editor.onnx"}
    marks = {"Smiling": {"added": "seen on 31% of faces"}, "Eyeglasses": {"removed": "spoils the picture"}}
    attached = writer.attach_evaluation(directory, report | {"experimental": marks})
    assert {a.name: a.experimental for a in attached.manifest.attributes if a.experimental} == marks
    card = attached.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| Eyeglasses | removed | spoils the picture |" in card
    with pytest.raises(writer.ExportError, match=r"experimental\.Bald: is not an attribute"):
        writer.attach_evaluation(directory, report | {"experimental": {"Bald": {"added": "x"}}})
    with pytest.raises(ValidationError, match="sideways"):
        writer.attach_evaluation(directory, report | {"experimental": {"Smiling": {"sideways": "x"}}})
    again = writer.attach_evaluation(directory, report)  # which says nothing of it
    assert {a.name: a.experimental for a in again.manifest.attributes if a.experimental} == marks


def with_gains(checkpoints: Path, tmp_path: Path, gains: str | None, editor: Path | None = None) -> int:
    words = ["--checkpoint", str(checkpoints / "vae.pt"), "--editor", str(editor or checkpoints / "editor.pt")]
    if gains is not None:
        (tmp_path / "gains.json").write_text(gains)
        words += ["--editor-gains", str(tmp_path / "gains.json")]
    return main(["bundle", *words, "--out", str(tmp_path / "small"), "--version", "1", "--weights-licence", "CC0-1.0"])


def test_gains_multiply_changes_of_their_direction(checkpoints: Path, bundle: Bundle, tmp_path: Path):
    names = bundle.manifest.attribute_names
    assert with_gains(checkpoints, tmp_path, f'{{"{names[1]}": {{"added": 1.5, "removed": 0.5}}}}') == 0
    calibrated = loader.load(tmp_path / "small")
    assert calibrated.manifest.attributes[1].editor_gains == {"added": 1.5, "removed": 0.5}
    assert not calibrated.manifest.attributes[0].editor_gains
    assert "| added 1.5, removed 0.5 |" in calibrated.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert "editor's gains" not in bundle.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert "editor_gains" not in bundle.path("manifest.json").read_text(encoding="utf-8")
    plain, other = (OnnxRuntime(each, Settings(device="cpu")).editor for each in (bundle, calibrated))
    image = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    change = np.zeros((2, len(names)), dtype=np.float32)
    change[:, 1], change[:, 0] = (0.6, -0.6), 0.3
    expected = change * [[1, 1.5, *[1] * (len(names) - 2)], [1, 0.5, *[1] * (len(names) - 2)]]
    found = other({"image": image, "change": change})
    wanted = plain({"image": image, "change": expected.astype(np.float32)})
    for name, values in found.items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-5, err_msg=name)
    ungained = plain({"image": image, "change": change})
    assert any(np.abs(values - ungained[name]).max() > 1e-3 for name, values in found.items())


def test_gains_come_back_with_the_editor(checkpoints: Path, bundle: Bundle, tmp_path: Path):
    name = bundle.manifest.attribute_names[0]
    state = checkpoint.load(checkpoints / "editor.pt")
    torch.manual_seed(2)
    for value in state["ema"].values():  # parameters that are alike become one in the graph
        value += 0.01 * torch.randn(value.shape)
    checkpoint.save(tmp_path / "learned.pt", state)
    assert with_gains(checkpoints, tmp_path, f'{{"{name}": {{"removed": 0.7}}}}', tmp_path / "learned.pt") == 0
    checkpoint.save(tmp_path / "back.pt", restore.state_of(tmp_path / "small", "editor"))
    again = tmp_path / "again"
    again.mkdir()
    assert with_gains(checkpoints, again, None, tmp_path / "back.pt") == 0
    assert loader.load(again / "small").manifest.attributes[0].editor_gains == {"removed": 0.7}
    assert with_gains(checkpoints, again, "{}", tmp_path / "back.pt") == 0
    assert not loader.load(again / "small").manifest.attributes[0].editor_gains


def test_gains_without_an_editor_are_refused(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "gains.json").write_text("{}")
    words = ["--checkpoint", str(checkpoints / "vae.pt"), "--editor-gains", str(tmp_path / "gains.json")]
    assert main(["bundle", *words, "--out", str(tmp_path / "small"), "--version", "1", "--weights-licence", "x"]) == 2
    assert "gains.json: are the gains of an editor, and no --editor is given" in capsys.readouterr().err


def test_a_report_of_another_strength_is_not_attached(bundle: Bundle):
    report = {"kind": "photographs", "graphs": evaluation.graph_hashes(bundle), "strength": 1.5}
    with pytest.raises(writer.ExportError, match=r"is about edits of strength 1\.5"):
        writer.attach_evaluation(bundle.directory, report)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ("nonsense", "gains.json: JSON: Invalid JSON"),
        ('{"Wings": {"added": 1.5}}', "gains.json: Wings: is not an attribute of this bundle"),
        ('{"Smiling": {"added": 0}}', "gains.json: Smiling.added: Input should be greater than 0"),
        ('{"Smiling": {"added": 2.5}}', "gains.json: Smiling.added: Input should be less than or equal to 2"),
        ('{"Smiling": {"sideways": 1}}', "gains.json: Smiling.sideways"),
    ],
)
def test_wrong_gains_are_named(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gains: str, said: str
):
    assert with_gains(checkpoints, tmp_path, gains) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "small").exists()
