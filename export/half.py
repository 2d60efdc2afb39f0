"""A bundle whose graphs compute in half precision, for GPUs: the same weights, inputs and outputs, within a tolerance.

Between the first and the last convolution tensors are fp16; normalisation, and what comes before and after, stays
fp32. Weights are stored as fp16 in every bundle, so only the arithmetic changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, helper

from export.parity import ParityError, run_onnx
from export.writer import ExportError, copied, replacing, seal
from service import bundle as bundles
from service import golden
from service.bundle import Bundle, Parity

# Largest differences from the fp32 graphs over FACES generated ones: of what the encoder finds in them, of levels of
# 255, and of what the editor would do with them.
TOLERANCE = {
    "mean": 0.01,
    "log_variance": 0.01,
    "attribute_estimates": 0.01,
    "image": 2.0,
    "mask": 0.02,
    "gain": 0.02,
    "residual": 0.02,
    "flow": 0.002,
}
FACES, _BATCH = 256, 64
_SINGLE = {"Cast", "InstanceNormalization", "IsNaN", "Shape"}
_SCALES = ("Resize", 2)  # an operator and its input that is fp32 whatever the others are


def write_half(source: Path, directory: Path) -> Bundle:
    """Write the bundle at `source` to `directory`, of the same name, with graphs that compute in half precision.

    Its version ends in `-fp16`, its parity is that with the graphs of `source`, and its golden samples are theirs, so
    that whoever loads it compares the two again. Raises BundleError, ExportError for a directory that cannot be the
    copy's, and ParityError where a difference exceeds TOLERANCE.
    """
    bundle = bundles.load(source)
    manifest = bundle.manifest
    if directory.name != manifest.name or directory.resolve() == source.resolve():
        raise ExportError(f"{directory}: must be called {manifest.name!r} and be another directory than {source}")
    with replacing(directory) as temporary:
        manifest = copied(bundle, temporary)
        for name in manifest.graphs:
            (temporary / name).write_bytes(halve(onnx.load(bundle.path(name))).SerializeToString())
        # The evaluation was of other graphs.
        changes = {"version": f"{manifest.version}-fp16", "parity": compare(bundle, temporary), "evaluation": {}}
        seal(temporary, manifest.model_copy(update=changes), with_samples=False)
    return bundles.load(directory)


def halve(model: ModelProto) -> ModelProto:
    """`model`, whose weights are stored as `export.graphs.store_half` does, computing in fp16 where the module says.

    Raises ExportError where it has no convolution.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    convolutions = [index for index, node in enumerate(graph.node) if node.op_type == "Conv"]
    if not convolutions:
        raise ExportError("the graph has no convolution, so it has nothing to compute in half precision")
    outputs, nodes = {value.name for value in graph.output}, []
    # The names under which each fp32 tensor of the model is had in either precision.
    versions: dict[int, dict[str, str]] = {
        TensorProto.FLOAT: {each.name: each.name for each in [*graph.input, *graph.initializer]},
        TensorProto.FLOAT16: {},
    }

    def version(name: str, kind: int) -> str:
        if name not in versions[kind]:
            versions[kind][name] = cast = f"{name}_{TensorProto.DataType.Name(kind).lower()}"
            nodes.append(helper.make_node("Cast", [name], [cast], name=cast, to=kind))
        return versions[kind][name]

    for index, node in enumerate(graph.node):
        inside = convolutions[0] <= index <= convolutions[-1] and outputs.isdisjoint(node.output)
        half = inside and node.op_type not in _SINGLE
        for place, name in enumerate(node.input):
            if kinds.get(name) == TensorProto.FLOAT:
                wanted = TensorProto.FLOAT16 if half and (node.op_type, place) != _SCALES else TensorProto.FLOAT
                node.input[place] = version(name, wanted)
        versions[TensorProto.FLOAT16 if half else TensorProto.FLOAT] |= {name: name for name in node.output}
        if node.op_type == "Cast" and kinds[node.input[0]] == TensorProto.FLOAT16:
            versions[TensorProto.FLOAT16][node.output[0]] = node.input[0]  # a stored weight
        nodes.append(node)
    used = outputs.union(*(node.input for node in nodes))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(node for node in nodes if used.intersection(node.output))
    onnx.checker.check_model(model, full_check=True)
    return model


def compare(bundle: Bundle, directory: Path) -> dict[str, Parity]:
    """Parity of the graphs in `directory` with those of `bundle`, on the CPU, over FACES faces that it generates.

    The encoder is shown what the decoder of `bundle` drew, every other face without attributes; the editor is shown it
    too, and asked for the opposite of what it shows. Raises ParityError.
    """
    drawn_from = golden.inputs(bundle.prior, bundle.manifest.attribute_groups, FACES, temperature=1.0)
    drawn = _run(bundle.path("decoder.onnx"), drawn_from)
    known = np.where(np.arange(FACES)[:, None] % 2 == 0, np.float32(np.nan), drawn_from["attributes"])
    expected = {"encoder.onnx": _run(bundle.path("encoder.onnx"), shown := drawn | {"attributes": known})}
    expected["decoder.onnx"] = drawn
    asked = {"encoder.onnx": shown, "decoder.onnx": drawn_from}
    if bundle.manifest.editor_frame is not None:
        views = golden.views(bundle.manifest, drawn["image"])
        asked[bundles.EDITOR] = {"image": views, "change": np.clip(-drawn_from["attributes"], -1, 1)}
        expected[bundles.EDITOR] = _run(bundle.path(bundles.EDITOR), asked[bundles.EDITOR])
    parities = {}
    for name, inputs in asked.items():
        found = _run(directory / name, inputs)
        errors = {
            output: float(np.abs(found[output].astype(np.float64) - values).max())
            for output, values in expected[name].items()
        }
        for output, error in errors.items():
            if not error <= TOLERANCE[output]:
                rule = f"{output} differs from the fp32 graph's by {error:.4g}; allowed is {TOLERANCE[output]:g}"
                raise ParityError(f"{name}: {rule}")
        tolerance = {output: TOLERANCE[output] for output in errors}
        parities[name] = Parity(batches=[_BATCH], tolerance=tolerance, max_error=errors)
    return parities


def _run(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs for all rows, in batches of _BATCH."""
    parts = [
        run_onnx(path, {name: torch.from_numpy(rows[start : start + _BATCH]) for name, rows in inputs.items()})
        for start in range(0, FACES, _BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
