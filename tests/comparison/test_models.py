"""What readers see networks, sets and ways to quantize called."""

import pytest

from lib.classifiers.names import network_name
from lib.comparison.models import int8_name, set_name, shared_models


def test_networks_shared_by_all_leave_out_groups_that_lack_too_many():
    real = ["a", "b", "c", "d"]
    assert shared_models(real, [real, real[1:]]) == ["b", "c", "d"]
    assert shared_models(real, [["d"], real, real[:3]]) == ["a", "b", "c"]
    assert shared_models(real, [real[1:], ["a", "c", "d"], ["a", "b", "d"]]) == ["b", "c", "d"]


@pytest.mark.parametrize(
    "way, name",
    [
        ("default", "NNCF, default quantization"),
        ("default_a4", "NNCF, activations of 4 bits"),
        ("minmax", "NNCF, ranges by least and greatest value"),
        ("mse_a4", "NNCF, activations of 4 bits, least squared error"),
    ],
)
def test_ways_have_names(way, name):
    assert int8_name("nncf", way) == name


def test_sets_and_networks_have_names():
    assert set_name("zeroq") == "ZeroQ" and set_name("real", 300, 300) == "real"
    assert set_name("real", 1, 300) == "1 real image"
    assert set_name("real", 10, 300) == "10 real images"
    assert set_name("fractal", 10, 300) == "fractals, 10 images"
    assert network_name("repvgg_a0_x0_5_unfused") == "RepVGG-A0 ×0.5, unfused"
    assert network_name("vgg16_bn_x0_375") == "VGG16-BN ×0.375"
    assert network_name("efficientnet_lite0") == "EfficientNet-Lite0"
    assert network_name("resnet20_of_mine") == "ResNet20 of mine"
    assert network_name("my_net") == "my net"
    assert network_name("vit_p4_x0_5") == "ViT/4 ×0.5"
