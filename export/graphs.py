"""The graphs that ship: pixels and normalisation inside, weights stored as fp16 and computed in fp32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from training.editor.model import Editor
from training.flow.model import FlowPrior
from training.vae.model import ConditionalVAE

Model = TypeVar("Model", bound=nn.Module)

OPSET = 18
# Below this many values a tensor is not worth a Cast node.
_SMALL = 64


class EncoderGraph(nn.Module):
    """`image` uint8 [N, S, S, 3], `attributes` f32 [N, K] (NaN unknown) -> mean, log_variance f32 [N, Z], estimates."""

    def __init__(self, model: ConditionalVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = image.permute(0, 3, 1, 2).float() * (2 / 255) - 1  # [N, 3, S, S]
        posterior = self.model.encode(pixels, attributes)
        return posterior.mean, posterior.log_variance, posterior.attributes


class DecoderGraph(nn.Module):
    """`latent` f32 [N, Z], `attributes` f32 [N, K] -> image uint8 [N, S, S, 3]."""

    def __init__(self, model: ConditionalVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor, attributes: Tensor) -> Tensor:
        pixels = self.model.decode(latent, attributes)  # [N, 3, S, S]
        levels = ((pixels + 1) * 127.5).clamp(0, 255).round()
        return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class EditorGraph(nn.Module):
    """`image` uint8 [N, S, S, 3], `change` f32 [N, K] -> f32 mask [N, S, S, 1], gain and residual [3], flow [2].

    `gains` f32 [2, K] multiply changes: row 0 those that remove an attribute, row 1 those that add it.
    """

    def __init__(self, editor: Editor, gains: Tensor | None = None) -> None:
        super().__init__()
        self.editor = editor
        self.register_buffer("gains", gains)

    def forward(self, image: Tensor, change: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(0, 3, 1, 2).float() / 255  # [N, 3, S, S]
        if self.gains is not None:
            change = change * torch.where(change > 0, self.gains[1], self.gains[0])
        *fields, _ = self.editor(pixels, change)
        return tuple(field.permute(0, 2, 3, 1).contiguous() for field in fields)


class PriorGraph(nn.Module):
    """`noise` f32 [N, Z], `attributes` f32 [N, K] -> latent f32 [N, Z]; the steps of the flow are unrolled."""

    def __init__(self, prior: FlowPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        return self.prior(noise, attributes)


def round_weights(model: Model) -> Model:
    """Round every weight to the nearest fp16 value in place, so that storing them as fp16 loses nothing more.

    Raises ValueError that names the first weight that is beyond fp16's range.
    """
    largest = torch.finfo(torch.float16).max
    for name, value in model.state_dict().items():
        if value.numel() and not (size := value.abs().max()) <= largest:
            raise ValueError(f"{name} has a weight of {float(size):g}; stored as fp16, that ends at {largest:g}")
    return model.half().float()


def export_graph(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    """Write `module` as ONNX with a dynamic batch axis and fp16-stored weights; `inputs` are examples, in order."""
    batch = torch.export.Dim("N", min=1, max=4096)
    with warnings.catch_warnings():
        # The exporter warns that the second use of the axis name N is the first one's; that is the intention.
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            opset_version=OPSET,
            verbose=False,
        )
    graph = store_half(name_norms(program.model_proto, module))
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString())


def name_norms(model: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """Name the scales and shifts of norms after their parameters, as the exporter names all other weights.

    It decomposes a group norm and leaves them as anonymous initialisers f32 [C, 1, 1] of a multiplication and an
    addition. They are known by their values and their use; where several parameters are equal, in the order of both.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    unnamed = {
        name: value.numpy() for name, value in module.state_dict().items() if name not in values and value.ndim == 1
    }
    for node in model.graph.node:
        suffix = {"Mul": ".weight", "Add": ".bias"}.get(node.op_type, "")
        for index, used in enumerate(node.input):
            value = values.get(used)
            if not suffix or value is None or value.ndim != 3 or value.shape[1:] != (1, 1):
                continue
            equal = (n for n, own in unnamed.items() if n.endswith(suffix) and np.array_equal(own, value.flatten()))
            if (name := next(equal, None)) is not None:
                node.input[index] = name
                model.graph.initializer.append(numpy_helper.from_array(value, name))
                del unnamed[name]
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large fp32 initialisers as fp16 behind a Cast that a runtime folds away when it loads the graph.

    Raises ValueError if a weight is not an fp16 value, since then storing it would change the model.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _SMALL:
            continue
        half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            raise ValueError(f"initialiser {tensor.name} is not representable in fp16; call round_weights first")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_fp16"))
        casts.append(helper.make_node("Cast", [f"{name}_fp16"], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.metadata_props[:]
    for node in model.graph.node:  # exporter traces name local files; they have no place in a bundle
        del node.metadata_props[:]
        node.doc_string = ""
    return model
