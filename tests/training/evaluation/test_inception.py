"""The graph that Keras' topology becomes, against the same computation in PyTorch."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training import networks
from training.evaluation import inception

RNG = np.random.default_rng(0)


def layer(kind: str, name: str, sources: list[str], **config) -> dict:
    inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {"class_name": kind, "name": name, "config": config, "inbound_nodes": inbound}


def conv(name: str, source: str, kernel: int, stride: int, padding: str, use_bias: bool) -> dict:
    return layer(
        "Conv2D", name, [source], kernel_size=[kernel] * 2, strides=[stride] * 2, padding=padding, use_bias=use_bias,
        activation="linear", dilation_rate=[1, 1],
    )  # fmt: skip


def pool(kind: str, name: str, source: str, stride: int, padding: str) -> dict:
    return layer(kind, name, [source], pool_size=[3, 3], strides=[stride] * 2, padding=padding)


LAYERS = [
    layer("InputLayer", "in", []),
    conv("c1", "in", 3, 2, "valid", False),
    layer("BatchNormalization", "n1", ["c1"], epsilon=1e-3, scale=False, center=True),
    layer("Activation", "a1", ["n1"], activation="relu"),
    conv("c2", "a1", 3, 1, "same", True),
    layer("BatchNormalization", "n2", ["c2"], epsilon=1e-3, scale=True, center=True),
    pool("AveragePooling2D", "p1", "a1", 1, "same"),
    pool("MaxPooling2D", "p2", "a1", 1, "same"),
    layer("Concatenate", "mixed", ["n2", "p1", "p2"]),
    layer("Dense", "head", ["mixed"]),
]


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


WEIGHTS = {
    "c1/kernel": normal(3, 3, 3, 4), "c2/kernel": normal(3, 3, 4, 5), "c2/bias": normal(5),
    "n1/moving_mean": normal(4), "n1/moving_variance": normal(4) ** 2, "n1/beta": normal(4),
    "n2/moving_mean": normal(5), "n2/moving_variance": normal(5) ** 2, "n2/beta": normal(5), "n2/gamma": normal(5),
}  # fmt: skip


def in_torch(pixels: np.ndarray) -> np.ndarray:
    weights = {name: torch.from_numpy(value) for name, value in WEIGHTS.items()}

    def kernel(name):
        return weights[f"{name}/kernel"].permute(3, 2, 0, 1)

    def norm(x, name):
        mean, variance = weights[f"{name}/moving_mean"], weights[f"{name}/moving_variance"]
        return F.batch_norm(x, mean, variance, weights.get(f"{name}/gamma"), weights[f"{name}/beta"], eps=1e-3)

    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = F.relu(norm(F.conv2d(x, kernel("c1"), stride=2), "n1"))
    y = norm(F.conv2d(x, kernel("c2"), weights["c2/bias"], padding=1), "n2")
    average = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return torch.cat([y, average, F.max_pool2d(x, 3, 1, 1)], 1).mean((2, 3)).numpy()


def test_the_graph_computes_what_keras_describes(monkeypatch):
    monkeypatch.setattr(inception, "SIZE", 21)
    pixels = RNG.integers(0, 256, (3, 21, 21, 3), dtype=np.uint8)
    features = inception.Features(inception.build(LAYERS, WEIGHTS))
    assert features.size == 13
    np.testing.assert_allclose(features(pixels), in_torch(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("place", "changed", "rule"),
    [
        (1, conv("c1", "in", 3, 2, "same", False), "c1: padding 'same'"),
        (3, layer("Activation", "a1", ["n1"], activation="tanh"), "a1: only relu"),
        (3, layer("Flatten", "a1", ["n1"]), "a1: a Flatten is not known"),
        (2, layer("BatchNormalization", "n1", ["in"], epsilon=1, scale=False, center=True), "n1: only what follows"),
    ],
)
def test_what_is_not_known_is_refused_by_name(place, changed, rule):
    with pytest.raises(inception.TopologyError, match=rule):
        inception.build([*LAYERS[:place], changed, *LAYERS[place + 1 :]], WEIGHTS)
    with pytest.raises(inception.TopologyError, match="concatenates nothing"):
        inception.build(LAYERS[:3], WEIGHTS)


def test_the_fetched_network_tells_blurred_faces_from_others(painted):
    if not networks.INCEPTION_V3.is_there():
        pytest.skip(f"{networks.INCEPTION_V3.file} is not there: python -m training fetch")
    from scipy.ndimage import gaussian_filter

    from training import config, metrics
    from training.data import dataset

    index = dataset.read_index(painted, ["Smiling"], "validation")
    data = config.DataConfig(image_size=96)
    box, side = dataset.frame_of(data, 0)
    faces = np.stack([dataset.frame(index.encoded(row), data, box, side) for row in range(48)])
    network = inception.Features.load()
    assert network.size == 2048
    first, second = network(faces[:24]), network(faces[24:])
    blurred = network(np.stack([gaussian_filter(face, (2, 2, 0)) for face in faces[24:]]))
    assert metrics.kernel_distance(first, blurred) > 4 * abs(metrics.kernel_distance(first, second))
