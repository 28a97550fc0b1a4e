"""The classifiers' networks against the published ones; RepVGG's fusion; normalisation."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lib.classifiers.build import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    NormalizedClassifier,
    build_classifier,
    features_and_logits,
)
from lib.classifiers.names import FAMILIES, PUBLISHED, family
from lib.classifiers.residual import RepVGGBlock, fuse_repvgg
from lib.classifiers.source import adopt_imagenet
from lib.classifiers.training import classifier_table, load_classifier, predict
from lib.common.errors import StudyError
from lib.common.files import ROOT
from lib.data.samples import SampleSet
from tests.classifiers.conftest import fill

KEYS = json.loads((ROOT / "tests/fixtures/classifiers/keys.json").read_text())
# Millions of parameters, as chenyaofo/pytorch-cifar-models publishes them, in PUBLISHED's order.
MILLIONS = """
0.27 0.47 0.66 0.86 9.76 9.94 15.25 20.57 0.70 1.37 2.24 4.33 0.35 1.26 2.49 5.37 7.84 12.82 26.82
"""
# One small size of each family, and what gives its last map, whose side shows the strides.
SMALL = {
    "resnet20_x0_5": ("layer3", 8),
    "vgg11_bn_x0_1": ("features", 1),
    "mobilenetv2_x0_25": ("features", 4),
    "shufflenetv2_x0_25": ("conv5", 4),
    "repvgg_a0_x0_1": ("stage4", 4),
    "efficientnet_b0_x0_25": ("features", 4),
    "vit_p4_x0_33": ("conv_proj", 8),
}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: nn.Module) -> dict[str, list[int]]:
    return {key: list(tensor.shape) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", [name for name in KEYS if not name.endswith("_fused")])
def test_names_and_shapes_are_the_published_ones(name):
    with torch.device("meta"):
        model = build_classifier(name)
    assert shapes(model) == KEYS[name]["shapes"]
    assert parameters(model) == KEYS[name]["params"]


def test_every_published_size_has_the_published_number_of_parameters():
    for name, expected in zip(PUBLISHED, MILLIONS.split(), strict=True):
        with torch.device("meta"):
            millions = parameters(build_classifier(name)) / 1e6
        assert millions == pytest.approx(float(expected), abs=0.0051), name


@pytest.mark.parametrize("name", SMALL)
def test_small_sizes_classify_and_give_penultimate_features(name):
    part, side = SMALL[name]
    model, maps = build_classifier(name, num_classes=7).eval(), []
    model.get_submodule(part).register_forward_hook(lambda _, x, y: maps.append(y))
    features, logits = features_and_logits(model, torch.randn(2, 3, 32, 32))
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    assert logits.shape == (2, 7)
    assert torch.equal(last(features), logits)
    assert maps[0].shape[2:] == (side, side)


def test_width_multiplies_the_channels():
    small = shapes(build_classifier("resnet20_x0_5"))
    assert small["fc.weight"] == [10, 32]
    assert small["layer1.0.conv1.weight"] == [8, 8, 3, 3]
    assert build_classifier("vgg11_bn_x0_25").classifier[6].in_features == 128
    assert build_classifier("repvgg_a0_x0_25").linear.in_features == 320
    assert build_classifier("shufflenetv2_x0_25").stage4[0].branch2[0].out_channels == 64
    assert parameters(build_classifier("resnet20_x1_0")) == KEYS["resnet20"]["params"]


def test_the_name_says_the_family():
    assert family("vgg11_bn_x0_1") == "vgg" and family("repvgg_a0_x0_25") == "repvgg"
    others = ["efficientnet_b0_x0_5", "efficientnet_lite0", "vit_p4"]
    assert {family(name) for name in [*PUBLISHED, *others]} == set(FAMILIES)


def test_efficientnet_lite0_has_one_width_and_classes_of_its_own(tmp_path):
    adopt_imagenet(tmp_path / "lite", real=tmp_path, name="efficientnet_lite0")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    assert predict(load_classifier(tmp_path / "lite"), images).shape == (2, 1000)
    test = SampleSet(images, np.arange(2), info={"class_names": ["a", "b"]})
    [row] = classifier_table({"lite": tmp_path / "lite"}, test).to_dict("records")
    assert row["parameters"] == 4_652_008 and np.isnan(row["FP32 top-1"])
    with pytest.raises(StudyError, match="has one width"):
        build_classifier("efficientnet_lite0_x0_5")


@pytest.mark.parametrize(
    "name", ["resnet21", "vgg16", "mobilenetv2", "repvgg_a0_x0.5", "resnet20_", "", "x resnet20"]
)
def test_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(StudyError) as error:
        build_classifier(name)
    assert repr(name) in str(error.value)
    assert all(published in str(error.value) for published in PUBLISHED)
    for wide in ("resnet20_x0_0", "resnet20_x99_0"):
        with pytest.raises(StudyError, match=f"{wide}: its width"):
            build_classifier(wide)


@pytest.mark.parametrize("block", ["stage0", "stage1.0", "stage1.1", "stage2.0", "stage2.1"])
def test_fused_kernels_are_those_of_the_original(block):
    shape = KEYS["repvgg_a2"]["shapes"][f"{block}.rbr_dense.conv.weight"]
    module = fill(RepVGGBlock(shape[1], shape[0], stride=1), f"{block}.")
    module.fuse()
    for part, tensor in module.state_dict().items():
        mean, norm = KEYS["repvgg_a2_fused"]["kernel_checks"][f"{block}.{part}"]
        assert tensor.double().mean().item() == pytest.approx(mean, abs=1e-7)
        assert tensor.double().norm().item() == pytest.approx(norm, rel=1e-6)


def test_fused_network_has_the_published_form():
    with torch.device("meta"):
        fused = fuse_repvgg(build_classifier("repvgg_a2"))
    assert shapes(fused) == KEYS["repvgg_a2_fused"]["shapes"]
    assert parameters(fused) == KEYS["repvgg_a2_fused"]["params"]


def test_fused_network_computes_the_same_and_leaves_the_original_alone():
    model = NormalizedClassifier(fill(build_classifier("repvgg_a0_x0_25")))
    keys = list(model.state_dict())
    fused = fuse_repvgg(model)
    assert list(model.state_dict()) == keys and model.training and not fused.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected, got = model.eval()(images), fused(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_pixels_are_normalised_inside():
    images = torch.randint(256, (2, 3, 32, 32)).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    got = NormalizedClassifier(nn.Identity())(images)
    torch.testing.assert_close(got, (images / 255 - mean) / std)


@pytest.mark.parametrize("std", [(0.5, 0.5), (0.5, 0.0, 0.5)])
def test_wrong_normalisation_is_refused(std):
    with pytest.raises(StudyError, match="std"):
        NormalizedClassifier(nn.Identity(), CIFAR10_MEAN, std)
