"""The model repository is what Triton's own schema says, and describes the graphs that lie beside it."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from export.__main__ import main
from service.bundle import loader

BUNDLES = Path(__file__).parents[2] / "bundles"
TYPES = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)"}


def export(out: Path, bundle: str = "celeba64", *options: str) -> int:
    return main(["triton", "--bundle", str(BUNDLES / bundle), "--out", str(out), *options])


def parsed(path: Path):
    """The file as Triton's ModelConfig."""
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(encoding="utf-8"), schema.ModelConfig()), schema


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/manifest.json")))
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_configuration_describes_the_graph_beside_it(tmp_path: Path, bundle: str, kind: str):
    assert export(tmp_path, bundle) == 0
    directory = tmp_path / f"{bundle}-{kind}"
    config, schema = parsed(directory / "config.pbtxt")
    assert config.name == directory.name
    graph = directory / "1" / config.default_model_filename
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    for listed, nodes in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        described = [(t.name, TYPES[schema.DataType.Name(t.data_type)], list(t.dims)) for t in listed]
        assert described == [(node.name, node.type, node.shape[1:]) for node in nodes]
        assert all(isinstance(node.shape[0], str) for node in nodes)  # the batch axis is dynamic
    assert config.parameters["facet_sha256"].string_value == loader.sha256_file(graph)


def test_batches_form_as_in_our_own_service(tmp_path: Path):
    export(tmp_path, "celeba64", "--max-batch", "48", "--instances", "2")
    config, schema = parsed(tmp_path / "celeba64-decoder" / "config.pbtxt")
    assert config.backend == "onnxruntime"
    assert config.platform == "onnxruntime_onnx"
    assert config.max_batch_size == 48
    assert list(config.dynamic_batching.preferred_batch_size) == [1, 2, 4, 8, 16, 32, 48]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, schema.ModelInstanceGroup.KIND_AUTO)


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path):
    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    for name in ("first", "second"):
        export(tmp_path / name)
    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert len(files(tmp_path / "first")) == 4


def test_other_models_of_the_repository_stay(tmp_path: Path):
    (tmp_path / "other").mkdir()
    export(tmp_path)
    export(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["celeba64-decoder", "celeba64-encoder", "other"]


def test_a_damaged_bundle_is_one_line_and_writes_nothing(tmp_path: Path, capsys):
    assert main(["triton", "--bundle", str(tmp_path / "none"), "--out", str(tmp_path / "repository")]) == 2
    assert "manifest.json: is missing" in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()
