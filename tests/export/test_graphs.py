import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export import graphs, parity
from tests.training.vae.test_model import CONFIG, NAMES
from training.vae.model import ConditionalVAE, latent_size


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return graphs.round_weights(ConditionalVAE(CONFIG.model, 32, len(NAMES)).eval())


def decoder_inputs(count):
    generator = torch.Generator().manual_seed(count)
    return {
        "latent": torch.randn(count, latent_size(CONFIG.model, 32), generator=generator),
        "attributes": torch.randn(count, len(NAMES), generator=generator),
    }


@pytest.fixture(scope="module")
def decoder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "decoder.onnx"
    graphs.export_graph(graphs.DecoderGraph(model), decoder_inputs(2), ["image"], path)
    return path


def test_parity_holds_at_every_batch_size(model, decoder):
    found = parity.check(graphs.DecoderGraph(model), decoder, decoder_inputs, ["image"], [1, 3, 5])
    assert found.batches == [1, 3, 5]
    assert found.max_error["image"] <= 1


def test_a_graph_that_computes_something_else_is_refused(model, decoder):
    torch.manual_seed(9)
    other = graphs.DecoderGraph(ConditionalVAE(CONFIG.model, 32, len(NAMES)).eval())
    with pytest.raises(parity.ParityError, match=r"decoder\.onnx: image differs from torch by .* at batch 1"):
        parity.check(other, decoder, decoder_inputs, ["image"], [1])


def test_large_weights_are_stored_as_half(decoder):
    graph = onnx.load(decoder).graph
    stored = {tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) >= 64}
    assert stored == {TensorProto.FLOAT16}
    assert not [node for node in graph.node if node.metadata_props or node.doc_string]


def test_a_weight_that_half_precision_would_change_is_refused():
    values = np.full(100, 1 / 3, dtype=np.float32)
    graph = helper.make_graph([], "g", [], [], initializer=[numpy_helper.from_array(values, "third")])
    with pytest.raises(ValueError, match="third is not representable in fp16"):
        graphs.store_half(helper.make_model(graph))


def test_pictures_are_rounded_and_clipped(model):
    with torch.no_grad():
        image = graphs.DecoderGraph(model)(*decoder_inputs(2).values())
        expected = ((model.decode(*decoder_inputs(2).values()) + 1) * 127.5).round().clamp(0, 255)
    assert image.dtype == torch.uint8
    assert image.shape == (2, 32, 32, 3)
    torch.testing.assert_close(image.float().permute(0, 3, 1, 2), expected)
