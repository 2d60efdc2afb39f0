import base64
import json

import numpy as np
import pytest

from training import networks, tfjs

WRAP = (
    '!function(a){if("object"==typeof exports)module.exports=a()}'
    "(function(){return {1:[function(a,n,i){n.exports=%s},{}]}});"
)
MODEL = (
    '{modelTopology:{keras_version:"2",model_config:{config:{layers:[{class_name:"Dense",config:{use_bias:!1,'
    'rate:.5,note:"a:{b,!0",none:null,other:-.25,eps:1e-7,whole:!0}}]}}},weightsManifest:[{paths:["a","b"],weights:['
    '{name:"k/kernel",shape:[2,2],dtype:"float32",quantization:{min:-1,scale:.5,dtype:"uint8"}},'
    '{name:"k/bias",shape:[2],dtype:"float32"}]}]}'
)
BIAS = np.array([1.5, -2.0], dtype=np.float32)


def script(data: bytes) -> bytes:
    return (WRAP % f'"{base64.b64encode(data).decode()}"').encode()


def test_a_network_is_packed_and_read_without_running_its_scripts():
    packed = tfjs.pack(
        (WRAP % MODEL).encode(), script(bytes([0, 1, 2, 4]) + BIAS[:1].tobytes()), script(BIAS[1:].tobytes())
    )
    layers, weights = tfjs.read(packed)
    config = layers[0]["config"]
    assert config == {
        "use_bias": False, "rate": 0.5, "note": "a:{b,!0", "none": None, "other": -0.25, "eps": 1e-7, "whole": True
    }  # fmt: skip
    assert weights["k/kernel"].tolist() == [[-1, -0.5], [0, 1]]
    assert np.array_equal(weights["k/bias"], BIAS)


@pytest.mark.parametrize(
    ("size", "rule"), [(6, "end before k/bias"), (13, "1 bytes of weights belong to no layer")], ids=["missing", "more"]
)
def test_weights_of_another_size_are_refused(size, rule):
    packed = tfjs.pack((WRAP % MODEL).encode(), script(bytes(size)))
    with pytest.raises(tfjs.TfjsError, match=rule):
        tfjs.read(packed)


@pytest.mark.parametrize("without", [b"nothing", b"{modelTopology:{}}", (WRAP % "{modelTopology:!x}").encode()])
def test_scripts_without_a_network_are_refused(without):
    with pytest.raises(tfjs.TfjsError, match="no readable network"):
        tfjs.pack(without)


def test_a_file_without_a_network_is_refused():
    with pytest.raises(tfjs.TfjsError, match="not a packed network"):
        tfjs.read(json.dumps({"layers": []}).encode())


def test_inception_is_made_of_its_topology_and_six_parts():
    assert networks.INCEPTION_V3.build is tfjs.pack
    assert len(networks.INCEPTION_V3.members) == 7
