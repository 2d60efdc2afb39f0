"""Inception V3's ImageNet features, which judge and which no loss has seen (Szegedy et al. 2016).

A Keras topology and its weights become an ONNX graph, with the normalisations folded into the convolutions. The file is
`training.networks`' to fetch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.inference.session import open_session
from training import networks, tfjs

SIZE = 192  # pixels a side that pictures are shown at; the network takes any size from 75 on
_BATCH = 16
_OPSET, _IR_VERSION = 17, 9


class TopologyError(ValueError):
    """A network that cannot become a graph here; the message names the layer and the rule."""


def build(layers: list[dict], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A graph from `image` uint8 [N, H, W, 3] to `features` f32 [N, F]: the last concatenation's mean over space.

    Pixels become -1..1. Each normalisation is folded into the convolution before it. Raises TopologyError for a layer
    or a setting that this does not know, and where nothing is concatenated.
    """
    return _Builder(layers, weights).model()


class _Builder:
    """Keras layers, in the order of the topology, as ONNX nodes."""

    def __init__(self, layers: list[dict], weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        ends = [index for index, layer in enumerate(layers) if layer["class_name"] == "Concatenate"]
        if not ends:
            raise TopologyError("the network concatenates nothing, so it is no Inception")
        self.layers = layers[: ends[-1] + 1]
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.outputs: dict[str, str] = {}  # of each layer, the tensor that it makes
        self.inputs = {layer["name"]: [node[0] for node in (layer["inbound_nodes"] or [[]])[0]] for layer in layers}

    def model(self) -> onnx.ModelProto:
        self._constant("half", np.array(127.5, dtype=np.float32))
        self._constant("one", np.array(1, dtype=np.float32))
        self._node("Cast", ["image"], "float", to=TensorProto.FLOAT)
        self._node("Div", ["float", "half"], "twice")
        self._node("Sub", ["twice", "one"], "centred")
        self._node("Transpose", ["centred"], "planes", perm=[0, 3, 1, 2])
        for layer in self.layers:
            add = getattr(self, f"_add_{layer['class_name'].lower()}", None)
            if add is None:
                raise TopologyError(f"{layer['name']}: a {layer['class_name']} is not known here")
            add(layer["name"], layer["config"])
        self._node("GlobalAveragePool", [self.outputs[self.layers[-1]["name"]]], "pooled")
        self._node("Flatten", ["pooled"], "features")
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", "F"])
        graph = helper.make_graph(self.nodes, "features", [image], [features], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def _source(self, name: str) -> str:
        return self.outputs[self.inputs[name][0]]

    def _add_inputlayer(self, name: str, config: dict) -> None:
        self.outputs[name] = "planes"

    def _add_conv2d(self, name: str, config: dict) -> None:
        if config["activation"] != "linear" or tuple(config["dilation_rate"]) != (1, 1):
            raise TopologyError(f"{name}: only linear convolutions without dilation are known here")
        kernel = self.weights[f"{name}/kernel"].transpose(3, 2, 0, 1)  # [out, in, kh, kw]
        bias = self.weights[f"{name}/bias"] if config["use_bias"] else np.zeros(len(kernel), dtype=np.float32)
        after = [layer for layer in self.layers if self.inputs[layer["name"]] == [name]]
        if [layer["class_name"] for layer in after] == ["BatchNormalization"]:
            kernel, bias = self._folded(after[0]["name"], after[0]["config"], kernel, bias)
        constants = [
            self._constant(f"{name}/{part}", np.ascontiguousarray(value, dtype=np.float32))
            for part, value in (("kernel", kernel), ("bias", bias))
        ]
        where = {"strides": config["strides"], "kernel_shape": config["kernel_size"], "pads": _pads(name, config)}
        self._node("Conv", [self._source(name), *constants], name, **where)
        self.outputs[name] = name

    def _folded(self, name: str, config: dict, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moments = {part: self.weights[f"{name}/moving_{part}"] for part in ("mean", "variance")}
        scale = 1 / np.sqrt(moments["variance"] + config["epsilon"])
        if config["scale"]:
            scale = scale * self.weights[f"{name}/gamma"]
        shift = self.weights[f"{name}/beta"] if config["center"] else 0
        return kernel * scale[:, None, None, None], (bias - moments["mean"]) * scale + shift

    def _add_batchnormalization(self, name: str, config: dict) -> None:
        source = self.inputs[name][0]
        if not any(layer["name"] == source and layer["class_name"] == "Conv2D" for layer in self.layers):
            raise TopologyError(f"{name}: only what follows a convolution can be folded into it")
        self.outputs[name] = self.outputs[source]

    def _add_activation(self, name: str, config: dict) -> None:
        if config["activation"] != "relu":
            raise TopologyError(f"{name}: only relu is known here, not {config['activation']}")
        self._node("Relu", [self._source(name)], name)
        self.outputs[name] = name

    def _add_maxpooling2d(self, name: str, config: dict) -> None:
        self._pool("MaxPool", name, config)

    def _add_averagepooling2d(self, name: str, config: dict) -> None:
        # Keras' averages leave out what lies beyond the border, which is ONNX's default too.
        self._pool("AveragePool", name, config)

    def _pool(self, kind: str, name: str, config: dict) -> None:
        where = {"strides": config["strides"], "kernel_shape": config["pool_size"]}
        pads = _pads(name, config | {"kernel_size": config["pool_size"]})
        self._node(kind, [self._source(name)], name, pads=pads, **where)
        self.outputs[name] = name

    def _add_concatenate(self, name: str, config: dict) -> None:
        self._node("Concat", [self.outputs[source] for source in self.inputs[name]], name, axis=1)
        self.outputs[name] = name


def _pads(name: str, config: dict) -> list[int]:
    """Top, left, bottom, right. Keras' `same` depends on the picture's size unless strides are 1 and kernels odd."""
    if config["padding"] == "valid":
        return [0, 0, 0, 0]
    if tuple(config["strides"]) != (1, 1) or not all(side % 2 for side in config["kernel_size"]):
        raise TopologyError(f"{name}: padding 'same' is known here for odd kernels at stride 1 only")
    return [side // 2 for side in config["kernel_size"]] * 2


class Features:
    """Inception V3 on ONNX Runtime, on as many threads as PyTorch takes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = open_session(model.SerializeToString(), torch.get_num_threads())
        self.size = len(self(np.zeros((1, SIZE, SIZE, 3), dtype=np.uint8))[0])  # F

    @classmethod
    def load(cls, directory: Path = networks.DIRECTORY) -> Features:
        """The network that `python -m training fetch` put there. Raises networks.NetworkError."""
        return cls(build(*tfjs.read(networks.INCEPTION_V3.load(directory))))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """f32 [N, F] of square pictures uint8 [N, S, S, 3], which are shown at SIZE pixels a side."""
        batches = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
        return np.concatenate([self._session.run(["features"], {"image": _enlarged(batch)})[0] for batch in batches])


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[1:3] == (SIZE, SIZE):
        return np.ascontiguousarray(pixels)
    side = (SIZE, SIZE)
    return np.stack([Image.fromarray(face).resize(side, Image.Resampling.BICUBIC) for face in pixels])
