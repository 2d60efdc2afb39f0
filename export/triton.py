"""A bundle's graphs as a Triton model repository, for whoever runs Triton Inference Server already.

    <repository>/<bundle>-encoder/config.pbtxt
    <repository>/<bundle>-encoder/1/model.onnx      and the same for the decoder, and the editor if there is one

The text depends on the bundle and the arguments alone. Its fields are those of Triton's ModelConfig
(model_config.proto), its dynamic batcher and its ONNX Runtime backend.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from export.writer import LARGEST_BUCKET, replacing
from service.bundle.loader import Bundle
from service.bundle.manifest import Tensor
from service.inference.batcher import buckets
from service.inference.oip_codec import Graph

_VERSION = "1"  # Triton wants whole numbers; the bundle's own version is among the parameters
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


def write_repository(
    bundle: Bundle, repository: Path, max_batch: int = LARGEST_BUCKET, instances: int = 1
) -> list[Path]:
    """Put every graph into `repository`, each in the place of a former one of its name; returns their directories."""
    written = []
    for kind in bundle.manifest.graph_kinds:
        graph = Graph.of(bundle.manifest, kind)
        directory = repository / graph.name
        with replacing(directory) as temporary:
            version = temporary / _VERSION
            version.mkdir()
            shutil.copyfile(bundle.path(f"{kind}.onnx"), version / "model.onnx")
            text = config(graph, bundle.manifest.files[f"{kind}.onnx"].sha256, max_batch, instances)
            (temporary / "config.pbtxt").write_text(text, encoding="utf-8")
        written.append(directory)
    return written


def config(graph: Graph, sha256: str, max_batch: int, instances: int) -> str:
    """`config.pbtxt` for a graph whose file has that digest.

    Batches form as in our own service: whatever waits when the graph is free, in sizes of
    `service.inference.batcher.buckets`, and never a wait for more. KIND_AUTO puts `instances` on each GPU, or on
    the CPU where there is none.
    """
    sizes = ", ".join(str(size) for size in buckets(max_batch))
    parameters = {"facet_bundle": graph.bundle, "facet_version": graph.version, "facet_sha256": sha256}
    return "\n".join(
        [
            f'name: "{graph.name}"',
            'platform: "onnxruntime_onnx"',
            'backend: "onnxruntime"',
            'default_model_filename: "model.onnx"',
            f"max_batch_size: {max_batch}",
            *(_tensor("input", tensor) for tensor in graph.inputs),
            *(_tensor("output", tensor) for tensor in graph.outputs),
            f"dynamic_batching {{ preferred_batch_size: [ {sizes} ] max_queue_delay_microseconds: 0 }}",
            f"instance_group [ {{ kind: KIND_AUTO count: {instances} }} ]",
            *(f'parameters {{ key: "{key}" value {{ string_value: "{parameters[key]}" }} }}' for key in parameters),
            "",
        ]
    )


def _tensor(kind: str, tensor: Tensor) -> str:
    dims = ", ".join(str(size) for size in tensor.shape[1:])  # the batch axis goes without saying
    return f'{kind} [ {{ name: "{tensor.name}" data_type: {_TYPES[tensor.dtype]} dims: [ {dims} ] }} ]'
