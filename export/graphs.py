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
from training.model import ConditionalVAE

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
    """`image` uint8 [N, S, S, 3], `change` f32 [N, K] -> f32 mask [N, S, S, 1], gain and residual [3], flow [2]."""

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self.editor = editor

    def forward(self, image: Tensor, change: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(0, 3, 1, 2).float() / 255  # [N, 3, S, S]
        fields = self.editor(pixels, change)
        return tuple(field.permute(0, 2, 3, 1).contiguous() for field in fields)


def round_weights(model: Model) -> Model:
    """Round every weight to the nearest fp16 value in place, so that storing them as fp16 loses nothing more."""
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
    graph = store_half(program.model_proto)
    onnx.checker.check_model(graph, full_check=True)
    path.write_bytes(graph.SerializeToString())


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
