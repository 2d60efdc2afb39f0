import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.training.editor.networks import features, weights
from training import networks
from training.editor.features import CHANNELS, Features, _Convolution, _folded


def test_features_come_at_three_strides():
    found = features()(torch.rand(2, 3, 64, 48) * 2 - 1)
    assert [tuple(x.shape) for x in found] == [
        (2, c, 64 // s, 48 // s) for c, s in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


def test_a_folded_convolution_does_what_it_and_its_norm_do():
    values, image = weights(), torch.randn(2, 3, 8, 8)
    norm = nn.BatchNorm2d(32, eps=1e-3).eval()
    norm.load_state_dict({k.removeprefix("_bn0."): v for k, v in values.items() if k.startswith("_bn0.")}, strict=False)
    weight, bias = _folded(values, "_conv_stem", "_bn0")
    expected = norm(F.conv2d(image, values["_conv_stem.weight"]))
    torch.testing.assert_close(F.conv2d(image, weight, bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_strided_depthwise_convolution_and_its_faster_twin_agree(kernel):
    layer = _Convolution(torch.randn(4, 1, kernel, kernel), torch.randn(4), stride=2, depthwise=True)
    layer.requires_grad_(False)
    image = torch.randn(2, 4, 12, 12)
    strided = layer(image)
    unstrided = layer(image.clone().requires_grad_())
    assert strided.shape == (2, 4, 6, 6)
    torch.testing.assert_close(unstrided.detach(), strided, rtol=1e-5, atol=1e-5)


def test_padding_is_tensorflows():
    """Of an even size, a stride of 2 begins at the first pixel: what cannot be even is wider right and below."""
    layer = _Convolution(torch.zeros(1, 1, 3, 3), torch.zeros(1), stride=2)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = 1
    image = torch.arange(36.0).reshape(1, 1, 6, 6)
    assert torch.equal(layer(image), image[:, :, ::2, ::2])


def test_gradients_reach_the_picture_and_no_weight():
    network, image = features(), torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(x.sum() for x in network(image)).backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(networks.NetworkError, match="python -m training fetch"):
        Features.load(tmp_path)
