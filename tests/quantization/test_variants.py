"""Variants of default quantization: scales of weights, levels of activations."""

import numpy as np
import openvino as ov
import pytest
import torch
from torch import nn

from lib.calibration.sets import make_calibration_set
from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD, NormalizedClassifier
from lib.common.errors import StudyError
from lib.common.openvino import read_ir, save_ir
from lib.data.samples import SampleSet
from lib.quantization.fake_quantize import (
    BINS,
    activation_quantizers,
    clip_activations,
    is_simulated,
    least_error,
    lower_activation_bits,
    zero_on_grid,
)
from lib.quantization.models import export_ir, predict_ir
from lib.quantization.nncf import ESTIMATORS, VARIANTS, quantize_default, quantize_variant
from lib.quantization.options import QuantizationOptions

NAMES = ["a", "b", "c"]


class OneLayer(nn.Module):
    """One convolution as large as the image: logits of three classes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 32)

    def forward(self, x):
        return self.conv(x).flatten(1)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    make_calibration_set(folder, kind="noise", per_class=4, seed=0, class_names=NAMES)
    return SampleSet.load(folder)


@pytest.fixture(scope="module")
def ir(calibration, tmp_path_factory):
    torch.manual_seed(0)
    xml = tmp_path_factory.mktemp("model") / "net.xml"
    export_ir(xml, NormalizedClassifier(OneLayer()), calibration.images)
    return read_ir(xml)


@pytest.fixture(scope="module")
def default(ir, calibration):
    options = QuantizationOptions(subset_size=12, bias_correction="none")
    return quantize_default(ir, calibration, options, seed=1)


def variant(ir, calibration, name, default=None, size=12):
    options = QuantizationOptions(subset_size=size, bias_correction="none")
    return quantize_variant(ir, calibration, name, options, seed=1, base=default)


def weight_scales(model):
    """Give the scales that integer weights are multiplied by."""
    for operation in model.get_ops():
        if operation.get_type_name() != "Multiply":
            continue
        first = operation.input_value(0).get_node()
        while first.get_type_name() in ("Subtract", "Convert"):
            first = first.input_value(0).get_node()
        if first.get_type_name() == "Constant" and first.get_element_type() == ov.Type.i8:
            yield operation.input_value(1).get_node().data


@pytest.mark.parametrize("bits", [6, 5, 4])
def test_inference_computes_with_two_to_the_bits_levels(bits, ir, calibration, default):
    """Logits against a convolution in torch of inputs rounded by numpy."""
    model = variant(ir, calibration, f"default_a{bits}", default).model
    assert is_simulated(model) and not is_simulated(default.model)
    assert {q.levels for q in activation_quantizers(model)} == {2**bits}
    assert {q.levels for q in activation_quantizers(default.model)} == {256}
    (quantizer,) = activation_quantizers(model)
    convolution = next(o for o in model.get_ops() if o.get_type_name() == "Convolution")
    assert convolution.input_value(0).get_node() == quantizer.operation
    pixels = ov.Model([quantizer.operation.input_value(0)], model.get_parameters())
    compiled = ov.compile_model(pixels, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = compiled([calibration.images.astype(np.float32)])[0].astype(float)
    low, high = float(quantizer.low[0]), float(quantizer.high[0])
    step = (high - low) / (quantizer.levels - 1)
    x = np.round((np.clip(x, low, high) - low) / step) * step + low
    scales = next(weight_scales(model))
    node = convolution.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    weights = torch.from_numpy(node.data * scales).double()
    logits = nn.functional.conv2d(torch.from_numpy(x), weights).flatten(1).numpy()
    found = predict_ir(model, calibration.images)
    found, logits = found - found.mean(axis=0), logits - logits.mean(axis=0)  # the bias falls out
    assert np.abs(found - logits).max() < 0.01 * np.abs(logits).max()


def test_fewer_bits_lose_more(ir, calibration, default):
    fp32 = predict_ir(ir, calibration.images)
    errors = [
        np.abs(predict_ir(lower_activation_bits(default.model, bits), calibration.images) - fp32)
        for bits in (7, 5, 4, 3, 2)
    ]
    assert np.all(np.diff([error.mean() for error in errors]) > 0)


def test_saved_networks_predict_alike(ir, calibration, default, tmp_path):
    for name in VARIANTS:
        model = variant(ir, calibration, name, default).model
        expected = predict_ir(model, calibration.images)
        save_ir(tmp_path / "net.xml", model)
        assert b'element_type="i8"' in (tmp_path / "net.xml").read_bytes()
        assert np.array_equal(predict_ir(tmp_path / "net.xml", calibration.images), expected)


def test_scales_are_per_channel_or_one(ir, calibration, default):
    per_tensor = variant(ir, calibration, "default_per_tensor").model
    assert [scale.size for scale in weight_scales(default.model)] == [3]
    assert [scale.size for scale in weight_scales(per_tensor)] == [1]


def test_variants_need_no_default_at_hand(ir, calibration, default):
    lone = variant(ir, calibration, "default_a5")
    shared = variant(ir, calibration, "default_a5", default)
    assert lone.labels_read == shared.labels_read == [4, 4, 4]
    logits = [predict_ir(q.model, calibration.images) for q in (lone, shared)]
    assert np.array_equal(*logits)


def test_sizes_below_the_number_of_classes(ir, calibration):
    assert sorted(variant(ir, calibration, "default", size=1).labels_read) == [0, 0, 1]
    assert sorted(variant(ir, calibration, "default", size=2).labels_read) == [0, 1, 1]


def test_unknown_variants_and_bits_are_named(ir, calibration, default):
    with pytest.raises(StudyError, match="'default_a9' is unknown: choose one of default, "):
        variant(ir, calibration, "default_a9")
    with pytest.raises(StudyError, match="activation bits are 1: give 2 to 8"):
        lower_activation_bits(default.model, 1)


@pytest.mark.parametrize("levels", [4, 16, 64])
def test_zero_is_a_level(levels):
    rng = np.random.default_rng(0)
    low = np.append(-rng.uniform(0, 3, 50), [0, -2, -1e-6, -128 / 127]).astype(np.float32)
    high = np.append(rng.uniform(0.1, 3, 50), [3, 0, 1, 1]).astype(np.float32)
    new_low, new_high = zero_on_grid(low, high, levels)
    step = (new_high - new_low) / (levels - 1)
    position = -new_low / step
    np.testing.assert_allclose(position, np.round(position), atol=1e-4)
    half = (high - low) / (levels - 1) / 2 + 1e-6
    assert np.all(new_high >= high - half) and np.all(new_low <= low + half)
    assert new_high[-1] == 1 and new_low[-1] == pytest.approx(-(levels / 2) / (levels / 2 - 1))


def squared_error(values, low, high, levels):
    """The mean squared error of rounding values to evenly spaced levels that hold 0."""
    low, high = zero_on_grid(np.array([low]), np.array([high]), levels)
    step = (high - low) / (levels - 1)
    rounded = low + step * np.round((np.clip(values, low, high) - low) / step)
    return ((values - rounded) ** 2).mean()


@pytest.mark.parametrize("levels", [16, 256])
def test_clipping_has_the_least_squared_error(levels):
    """Of values most of which lie in a tenth of the range, against all shares by hand."""
    values = np.random.default_rng(0).laplace(0, 0.05, 20_000).clip(-1, 1)
    low, high = np.array([values.min()]), np.array([values.max()])
    counts = np.histogram(values, BINS, (low[0], high[0]))[0][None]
    found = least_error(low, high, counts, levels)
    own = squared_error(values, found[0][0], found[1][0], levels)
    others = [squared_error(values, s * low[0], s * high[0], levels) for s in np.linspace(0.1, 1)]
    assert own <= 1.05 * min(others) and own < (0.6 if levels == 16 else 1.01) * others[-1]


def test_each_channel_is_clipped_by_itself():
    flat, peak = np.ones(BINS, int), np.zeros(BINS, int)
    peak[[0, -1]], peak[int(0.45 * BINS) : int(0.55 * BINS)] = 1, 1000
    low, high = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
    _, ends = least_error(low, high, np.stack([flat, peak]), 16)
    assert ends[0] > 0.9 and ends[1] < 0.2


def test_clipped_networks_keep_their_quantizers(default, calibration):
    clipped = clip_activations(default.model, calibration.images, 4, batch=5)
    found, before = (activation_quantizers(model) for model in (clipped, default.model))
    assert [q.name for q in found] == [q.name for q in before]
    assert all(
        q.levels == 16 and (q.high <= 1.1 * b.high).all()
        for q, b in zip(found, before, strict=True)
    )
    again = clip_activations(default.model, calibration.images, 4)  # whole batches, another cut
    images = calibration.images[:5]
    np.testing.assert_allclose(predict_ir(clipped, images), predict_ir(again, images), rtol=0.2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_estimator_gives_ranges_of_its_own(estimator, ir, calibration):
    [found] = activation_quantizers(variant(ir, calibration, estimator).model)[:1]
    mean, std = (np.array(part)[:, None, None] for part in (CIFAR10_MEAN, CIFAR10_STD))
    values = ((calibration.images / 255 - mean) / std).reshape(len(calibration), -1)
    ends = {"minmax": np.ptp(values), "mean": np.ptp(values, axis=1).mean()}
    width = found.high.max() - found.low.min()
    assert width == pytest.approx(ends.get(estimator, width), rel=0.02)
    assert width <= 1.02 * ends["minmax"]
    four = variant(ir, calibration, f"{estimator}_a4").model
    assert {q.levels for q in activation_quantizers(four)} == {16}
