"""A bundle whose graphs compute in half precision, for GPUs: the same weights, inputs and outputs, within a tolerance.

Between the first and the last convolution tensors are fp16; normalisation, and what comes before and after, stays
fp32. Weights are stored as fp16 in every bundle, so only the arithmetic changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from export.parity import OnnxGraph, ParityError
from export.writer import ExportError, copied, replacing, seal
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import EDITOR, LEARNED_PRIOR, Parity
from service.bundle.sampler import Sampler
from service.inference import golden

# Largest differences from the fp32 graphs over FACES generated ones: of what the encoder finds in them, of levels of
# 255, and of what the editor would do with them.
TOLERANCE = {
    "mean": 0.01,
    "log_variance": 0.01,
    "attribute_estimates": 0.01,
    "image": 2.0,
    "latent": 0.01,
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
    bundle = loader.load(source)
    manifest = bundle.manifest
    if directory.name != manifest.name or directory.resolve() == source.resolve():
        raise ExportError(f"{directory}: must be called {manifest.name!r} and be another directory than {source}")
    with replacing(directory) as temporary:
        manifest = copied(bundle, temporary)
        for name in manifest.graphs:
            if name == LEARNED_PRIOR:
                continue  # a few small matrices, whose steps add up their errors
            (temporary / name).write_bytes(halve(onnx.load(bundle.path(name))).SerializeToString())
        # The evaluation was of other graphs.
        changes = {"version": f"{manifest.version}-fp16", "parity": compare(bundle, temporary), "evaluation": {}}
        seal(temporary, manifest.model_copy(update=changes), with_samples=False)
    return loader.load(directory)


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
        for index, name in enumerate(node.input):
            if kinds.get(name) == TensorProto.FLOAT:
                dtype = TensorProto.FLOAT16 if half and (node.op_type, index) != _SCALES else TensorProto.FLOAT
                node.input[index] = version(name, dtype)
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
    manifest = bundle.manifest
    originals = {name: OnnxGraph(bundle.path(name)) for name in manifest.graphs}

    def latents(noise: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        return originals[LEARNED_PRIOR].run({"noise": noise, "attributes": attributes}, _BATCH)["latent"]

    learned = latents if LEARNED_PRIOR in originals else None
    drawn_from = golden.inputs(bundle, learned, FACES, temperature=1.0)
    drawn = originals["decoder.onnx"].run(drawn_from, _BATCH)
    known = np.where(np.arange(FACES)[:, None] % 2 == 0, np.float32(np.nan), drawn_from["attributes"])
    inputs_of = {"encoder.onnx": drawn | {"attributes": known}, "decoder.onnx": drawn_from}
    if LEARNED_PRIOR in originals:
        noise = Sampler(bundle.prior, manifest.attribute_groups).noise(0, FACES, 1.0)
        inputs_of[LEARNED_PRIOR] = {"noise": noise, "attributes": drawn_from["attributes"]}
    if EDITOR in originals:
        views = golden.views(manifest, drawn["image"])
        inputs_of[EDITOR] = {"image": views, "change": np.clip(-drawn_from["attributes"], -1, 1)}
    parities = {}
    for name, inputs in inputs_of.items():
        expected, found = originals[name].run(inputs, _BATCH), OnnxGraph(directory / name).run(inputs, _BATCH)
        errors = {
            output: float(np.abs(found[output].astype(np.float64) - values).max())
            for output, values in expected.items()
        }
        for output, error in errors.items():
            if not error <= TOLERANCE[output]:
                rule = f"{output} differs from the fp32 graph's by {error:.4g}; allowed is {TOLERANCE[output]:g}"
                raise ParityError(f"{name}: {rule}")
        tolerance = {output: TOLERANCE[output] for output in errors}
        parities[name] = Parity(batches=[_BATCH], tolerance=tolerance, max_error=errors)
    return parities
