"""Half precision: the same interface, the same faces within a tolerance, and a bundle that the service takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export import half
from export.__main__ import main
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import GRAPHS, graph_interfaces, learned_prior_interface
from service.inference import golden
from service.inference.onnx import OnnxRuntime
from service.settings import Settings

SOURCE = Path(__file__).parents[2] / "bundles" / "celeba64"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("half") / SOURCE.name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(half, "FACES", 32)
        assert main(["half", "--bundle", str(SOURCE), "--out", str(out)]) == 0
    return loader.load(out)


def kinds(path: Path) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("name", GRAPHS)
def test_convolutions_compute_in_half_precision_and_normalisation_does_not(written: Bundle, name: str):
    found = kinds(written.path(name))
    nodes = onnx.load(written.path(name)).graph.node
    convolutions = [found[node.output[0]] for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) > 5
    assert set(convolutions) == {TensorProto.FLOAT16}
    normalised = {found[node.output[0]] for node in nodes if node.op_type == "InstanceNormalization"}
    assert normalised == {TensorProto.FLOAT}


def test_the_service_takes_it_and_it_draws_the_same_samples(written: Bundle):
    runtime = OnnxRuntime(written, Settings(device="cpu"))  # which compares the interface with the manifest
    golden.check(written, lambda latent, a: runtime.decoder({"latent": latent, "attributes": a})["image"])


def test_parity_is_recorded_and_what_was_said_of_other_graphs_is_not(written: Bundle):
    source = loader.load(SOURCE)
    assert written.identity == f"{source.identity}-fp16"
    for name in GRAPHS:
        parity = written.manifest.parity[name]
        assert parity.tolerance == {output: half.TOLERANCE[output] for output in parity.max_error}
        assert all(0 < error <= parity.tolerance[output] for output, error in parity.max_error.items())
    assert written.manifest.evaluation == {}
    assert "Not yet evaluated" in written.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert written.manifest.files[golden.FILE].sha256 == source.manifest.files[golden.FILE].sha256


def test_what_is_too_far_off_is_not_written(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(half, "FACES", 4)
    monkeypatch.setitem(half.TOLERANCE, "log_variance", 1e-6)
    assert main(["half", "--bundle", str(SOURCE), "--out", str(tmp_path / SOURCE.name)]) == 2
    assert "encoder.onnx: log_variance differs from the fp32 graph's by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_neither_replaces_its_source_nor_takes_another_name(tmp_path: Path, capsys):
    copy = tmp_path / SOURCE.name
    shutil.copytree(SOURCE, copy)
    for out in (copy, tmp_path / "other"):
        assert main(["half", "--bundle", str(copy), "--out", str(out)]) == 2
        assert f"error: {out}: must be called 'celeba64' and be another directory" in capsys.readouterr().err
    assert loader.load(copy).identity == loader.load(SOURCE).identity


def test_a_graph_without_convolutions_is_refused():
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]))
    with pytest.raises(half.ExportError, match="no convolution"):
        half.halve(model)


def test_the_tolerance_covers_every_output():
    outputs = [*graph_interfaces(8, 3, 5, 16).values(), learned_prior_interface(3, 5)]
    assert {tensor.name for _, tensors in outputs for tensor in tensors} == set(half.TOLERANCE)
    assert np.all(np.array(list(half.TOLERANCE.values())) > 0)
