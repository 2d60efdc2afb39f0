import struct

import flatbuffers
import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from training import tflite

FLOAT32, FLOAT16, INT32 = 0, 1, 2
SAME, VALID = 0, 1
RELU = 1


class Model:
    """Writes TensorFlow Lite files: tensors and operators in the order in which they are added."""

    def __init__(self):
        self.builder = flatbuffers.Builder(0)
        self.tensors, self.buffers, self.codes, self.operators = [], [self.table([])], [], []

    def table(self, fields):
        """Fields are (number, kind, value) with kind "byte", "int" or "offset"."""
        self.builder.StartObject(1 + max([number for number, *_ in fields], default=0))
        for number, kind, value in fields:
            if kind == "byte":
                self.builder.PrependInt8Slot(number, value, 0)
            elif kind == "int":
                self.builder.PrependInt32Slot(number, value, 0)
            else:
                self.builder.PrependUOffsetTRelativeSlot(number, value, 0)
        return self.builder.EndObject()

    def ints(self, values):
        return self.builder.CreateNumpyVector(np.array(values, dtype=np.int32))

    def offsets(self, values):
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependUOffsetTRelative(value)
        return self.builder.EndVector()

    def tensor(self, shape, kind=FLOAT32, buffer=0):
        self.tensors.append(
            self.table([(0, "offset", self.ints(shape)), (1, "byte", kind), (2, "int", buffer)]),
        )
        return len(self.tensors) - 1

    def constant(self, array):
        kind = {"float32": FLOAT32, "float16": FLOAT16, "int32": INT32}[array.dtype.name]
        data = self.builder.CreateByteVector(array.tobytes())
        self.buffers.append(self.table([(0, "offset", data)]))
        return self.tensor(array.shape, kind, len(self.buffers) - 1)

    def operator(self, code, inputs, shape, options=(), custom=b""):
        if isinstance(code, str):
            name = self.builder.CreateString(code)
            self.codes.append(self.table([(0, "byte", 32), (1, "offset", name), (3, "int", 32)]))
        else:
            self.codes.append(self.table([(0, "byte", code)]))
        result = self.tensor(shape)
        fields = [(0, "int", len(self.codes) - 1), (1, "offset", self.ints(inputs)), (2, "offset", self.ints([result]))]
        if options:
            fields.append((4, "offset", self.table(options)))
        if custom:
            fields.append((5, "offset", self.builder.CreateByteVector(custom)))
        self.operators.append(self.table(fields))
        return result

    def data(self, given, result):
        graph = self.table(
            [
                (0, "offset", self.offsets(self.tensors)),
                (1, "offset", self.ints([given])),
                (2, "offset", self.ints([result])),
                (3, "offset", self.offsets(self.operators)),
            ]
        )
        model = self.table(
            [
                (0, "int", 3),
                (1, "offset", self.offsets(self.codes)),
                (2, "offset", self.offsets([graph])),
                (4, "offset", self.offsets(self.buffers)),
            ]
        )
        self.builder.Finish(model, file_identifier=b"TFL3")
        return bytes(self.builder.Output())


RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def run(data, image):
    session = onnxruntime.InferenceSession(tflite.to_onnx(data).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def channels_first(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def options(*fields):
    return list(fields)


def test_a_convolution_pads_as_tensorflow_does():
    weights, bias, image = normal(5, 3, 3, 4), normal(5), normal(2, 8, 8, 4)
    model = Model()
    given = model.tensor([1, 8, 8, 4])
    strided = options((0, "byte", SAME), (1, "int", 2), (2, "int", 2), (3, "byte", RELU))
    result = model.operator(3, [given, model.constant(weights), model.constant(bias)], [1, 4, 4, 5], strided)
    padded = F.pad(channels_first(image), (0, 1, 0, 1))  # an even side and stride 2: all of it on the right
    expected = F.conv2d(padded, channels_first(weights), torch.from_numpy(bias), stride=2).relu()
    np.testing.assert_allclose(run(model.data(given, result), image), channels_last(expected), rtol=1e-4, atol=1e-5)


def test_height_and_width_are_not_mistaken_for_each_other():
    weights, bias, image = normal(5, 3, 1, 4), normal(5), normal(1, 9, 6, 4)
    model = Model()
    given = model.tensor([1, 9, 6, 4])
    strided = options((0, "byte", VALID), (1, "int", 1), (2, "int", 2), (4, "int", 1), (5, "int", 2))
    result = model.operator(3, [given, model.constant(weights), model.constant(bias)], [1, 3, 6, 5], strided)
    expected = F.conv2d(
        channels_first(image), channels_first(weights), torch.from_numpy(bias), stride=(2, 1), dilation=(2, 1)
    )
    np.testing.assert_allclose(run(model.data(given, result), image), channels_last(expected), rtol=1e-4, atol=1e-5)


def test_a_depthwise_convolution_of_half_precision_weights():
    weights, bias, image = normal(1, 3, 3, 4).astype(np.float16), normal(4).astype(np.float16), normal(1, 7, 7, 4)
    model = Model()
    given = model.tensor([1, 7, 7, 4])
    whole = [model.operator(6, [model.constant(array)], array.shape) for array in (weights, bias)]
    strided = options((0, "byte", SAME), (1, "int", 1), (2, "int", 1), (3, "int", 1))
    result = model.operator(4, [given, *whole], [1, 7, 7, 4], strided)
    kernel = torch.from_numpy(weights.astype(np.float32)).permute(3, 0, 1, 2)
    expected = F.conv2d(channels_first(image), kernel, torch.from_numpy(bias.astype(np.float32)), padding=1, groups=4)
    np.testing.assert_allclose(run(model.data(given, result), image), channels_last(expected), rtol=1e-4, atol=1e-5)


def test_attention_over_channels():
    """Pooling over all places, a sigmoid, a product that is broadcast, and a sum with itself before a ReLU."""
    image = normal(2, 6, 4, 3)
    model = Model()
    given = model.tensor([1, 6, 4, 3])
    over_all = options((0, "byte", VALID), (1, "int", 4), (2, "int", 6), (3, "int", 4), (4, "int", 6))
    pooled = model.operator(1, [given], [1, 1, 1, 3], over_all)
    product = model.operator(18, [given, model.operator(14, [pooled], [1, 1, 1, 3])], [1, 6, 4, 3])
    result = model.operator(0, [product, given], [1, 6, 4, 3], options((0, "byte", RELU)))
    expected = image / (1 + np.exp(-image.mean((1, 2), keepdims=True))) + image
    np.testing.assert_allclose(run(model.data(given, result), image), expected.clip(0), rtol=1e-4, atol=1e-5)


def test_activations():
    image = normal(1, 4, 4, 3) * 4
    model = Model()
    given = model.tensor([1, 4, 4, 3])
    swish = model.operator(117, [given], [1, 4, 4, 3])
    result = model.operator(19, [swish], [1, 4, 4, 3])
    expected = F.hardswish(torch.from_numpy(image)).relu().numpy()
    np.testing.assert_allclose(run(model.data(given, result), image), expected, rtol=1e-4, atol=1e-5)


def test_a_bilinear_doubling_has_half_pixel_centres():
    image = normal(1, 4, 6, 3)
    model = Model()
    given = model.tensor([1, 4, 6, 3])
    size = model.constant(np.array([8, 12], dtype=np.int32))
    result = model.operator(23, [given, size], [1, 8, 12, 3], options((3, "byte", 1)))
    expected = F.interpolate(channels_first(image), scale_factor=2, mode="bilinear")
    np.testing.assert_allclose(run(model.data(given, result), image), channels_last(expected), rtol=1e-4, atol=1e-5)


def test_mediapipes_transposed_convolution():
    weights, bias, image = normal(2, 2, 2, 3), normal(2), normal(1, 4, 5, 3)
    model = Model()
    given = model.tensor([1, 4, 5, 3])
    tensors = [given, model.constant(weights), model.constant(bias)]
    custom = struct.pack("<3i", 1, 2, 2)
    result = model.operator("Convolution2DTransposeBias", tensors, [1, 8, 10, 2], custom=custom)
    kernel = torch.from_numpy(weights).permute(3, 0, 1, 2)
    expected = F.conv_transpose2d(channels_first(image), kernel, torch.from_numpy(bias), stride=2)
    np.testing.assert_allclose(run(model.data(given, result), image), channels_last(expected), rtol=1e-4, atol=1e-5)


def unknown_operator():
    model = Model()
    given = model.tensor([1, 4, 4, 3])
    return model.data(given, model.operator(99, [given], [1, 4, 4, 3]))


def aligned_corners():
    model = Model()
    given = model.tensor([1, 4, 4, 3])
    size = model.constant(np.array([8, 8], dtype=np.int32))
    return model.data(given, model.operator(23, [given, size], [1, 8, 8, 3], options((2, "byte", 1))))


def other_activation():
    model = Model()
    given = model.tensor([1, 4, 4, 3])
    return model.data(given, model.operator(0, [given, given], [1, 4, 4, 3], options((0, "byte", 4))))


def computed_weights():
    model = Model()
    given = model.tensor([1, 4, 4, 3])
    return model.data(given, model.operator(3, [given, given, given], [1, 4, 4, 3]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a TensorFlow Lite model has b'TFL3' at its fifth byte"),
        (b"\x1c\x00\x00\x00TFL3", "truncated or corrupt"),
        (unknown_operator(), "has operator 99, which is not supported"),
        (aligned_corners(), "aligned corners"),
        (other_activation(), "fused activation 4"),
        (computed_weights(), r"no constant of float32, float16 or int32 \[1, 4, 4, 3\]"),
    ],
)
def test_what_is_not_supported_is_refused(data, message):
    with pytest.raises(tflite.TfliteError, match=message):
        tflite.to_onnx(data)
