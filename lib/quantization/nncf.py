"""INT8 post-training quantization with NNCF, default and accuracy-aware.

NNCF reads calibration items in order and stops at `subset_size` of them. An item here is one
image, the order is class-balanced and depends on the seed, and what was read is recorded.
"""

import contextlib
import hashlib
import io
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple
from unittest import mock

import numpy as np
import openvino as ov

from lib.calibration.sets import balanced_order
from lib.common.errors import StudyError
from lib.data.samples import SampleSet
from lib.quantization.fake_quantize import clip_activations, lower_activation_bits
from lib.quantization.models import fixed_batch, predict_ir
from lib.quantization.options import QuantizationOptions

DEFAULTS = QuantizationOptions()
VALIDATION_BATCH = 50


class Variant(NamedTuple):
    """How a variant of default quantization differs from it."""

    per_channel_weights: bool = True
    activation_bits: int = 8
    estimator: str = ""

    @property
    def base(self) -> str:
        """The variant whose network it changes, or its own name: NNCF calibrates that one alone."""
        if not self.per_channel_weights:
            return "default_per_tensor"
        return "minmax" if self.estimator == "mse" else self.estimator or "default"


ESTIMATORS = {
    "minmax": "MINMAX",
    "mean": "MEAN_MINMAX",
    "quantile": "MEAN_QUANTILE",
    "mse": "MINMAX",
}
"""Estimators of the ranges of activations, and what NNCF calls them.

Least and greatest value of all images; means over the images of these; means of the 0.0001 and
0.9999 quantiles; or what `clip_activations` makes of the first.
"""
VARIANTS = {
    "default": Variant(),
    "default_per_tensor": Variant(per_channel_weights=False),
    "default_a6": Variant(activation_bits=6),
    "default_a5": Variant(activation_bits=5),
    "default_a4": Variant(activation_bits=4),
}
VARIANTS |= {name: Variant(estimator=name) for name in ESTIMATORS}
VARIANTS |= {f"{name}_a4": Variant(activation_bits=4, estimator=name) for name in ESTIMATORS}
"""Default quantization and its variants by the names that cells and tables give as method."""


@dataclass
class Quantized:
    """An INT8 network and what it was made from.

    `labels_read` counts, by class, the calibration images that were read, each once.
    `quantizers` is the number of FakeQuantize operations: where accuracy-aware quantization
    returned operations to floating point, it is lower than after default quantization.
    Where `bias_correction` was chosen, `other` is the network with the other one.
    """

    model: ov.Model
    labels_read: list[int]
    bias_correction: str = ""
    other: "Quantized | None" = None

    @property
    def images_read(self) -> int:
        """Number of distinct calibration images that were read."""
        return sum(self.labels_read)

    @property
    def quantizers(self) -> int:
        """Number of FakeQuantize operations in the network."""
        return sum(op.get_type_name() == "FakeQuantize" for op in self.model.get_ops())


def quantize_default(
    ir: ov.Model,
    calibration: SampleSet,
    options: QuantizationOptions = DEFAULTS,
    *,
    seed: int = 0,
    per_channel_weights: bool = True,
    estimator: str = "",
) -> Quantized:
    """Quantize an FP32 network to INT8 with ranges from `subset_size` calibration images.

    `seed` chooses the images and their order. A set smaller than `subset_size` is read whole. The
    fast bias correction is misled where images are alike at their borders and maps are small.
    Weights have one scale for each channel of a layer's output, or one for the layer. `estimator`
    is one of `ESTIMATORS`, or NNCF's own choice, quantizer by quantizer.
    """
    images = CalibrationImages(calibration, seed, fixed_batch(ir) or 1)
    with quiet_nncf() as nncf:
        advanced, common = _parameters(nncf, images, options)
        if not per_channel_weights:
            module = nncf.quantization.advanced_parameters
            advanced.weights_quantization_params = module.QuantizationParameters(per_channel=False)
        if estimator:
            known = nncf.quantization.range_estimator.RangeEstimatorParametersSet
            advanced.activations_range_estimator_params = getattr(known, ESTIMATORS[estimator])
        model = nncf.quantize(ir, nncf.Dataset(images), advanced_parameters=advanced, **common)
    return Quantized(model, images.labels_read())


def quantize_variant(
    ir: ov.Model,
    calibration: SampleSet,
    variant: str,
    options: QuantizationOptions = DEFAULTS,
    *,
    seed: int = 0,
    base: Quantized | None = None,
) -> Quantized:
    """Quantize by one of `VARIANTS`, named.

    `base` is the network of the variant's `base` for the same options and seed, if that is at
    hand: fewer bits for the activations need no other calibration, nor does clipping.
    """
    if variant not in VARIANTS:
        raise StudyError(f"method {variant!r} is unknown: choose one of {', '.join(VARIANTS)}")
    per_channel, bits, estimator = VARIANTS[variant]
    if base is None:
        how = {"seed": seed, "per_channel_weights": per_channel, "estimator": estimator}
        base = quantize_default(ir, calibration, options, **how)
    if estimator == "mse":
        read = CalibrationImages(calibration, seed).order[: options.subset_size]
        batch = {"batch": fixed_batch(ir)} if fixed_batch(ir) else {}
        model = clip_activations(base.model, calibration.images[read], bits, **batch)
        return Quantized(model, base.labels_read)
    if bits == 8:
        return base
    return Quantized(lower_activation_bits(base.model, bits), base.labels_read)


def quantize_accuracy_aware(
    ir: ov.Model,
    calibration: SampleSet,
    validation: SampleSet,
    options: QuantizationOptions = DEFAULTS,
    *,
    seed: int = 0,
    default: Quantized | None = None,
) -> Quantized:
    """Quantize, then return operations to floating point until the drop is within `max_drop`.

    It is judged by top-1 accuracy on `validation`, which must share no image with the calibration
    and test sets. NNCF's algorithm begins with default quantization and ends there when the drop
    is within bounds, so that it is not called then. `default` is what `quantize_default` gave for
    the same options and seed, if that is at hand.
    """
    default = default or quantize_default(ir, calibration, options, seed=seed)
    if accuracy_drop(ir, default.model, validation) <= options.max_drop:
        return default
    return restore_accuracy(ir, calibration, validation, options, seed=seed)


def restore_accuracy(
    ir: ov.Model,
    calibration: SampleSet,
    validation: SampleSet,
    options: QuantizationOptions = DEFAULTS,
    *,
    seed: int = 0,
) -> Quantized:
    """Run the whole of NNCF's quantization with accuracy control."""
    images = CalibrationImages(calibration, seed, fixed_batch(ir) or 1)
    size = fixed_batch(ir) or VALIDATION_BATCH
    batches = []
    for start in range(0, len(validation), size):
        labels = validation.labels[start : start + size]
        chosen = start + np.resize(np.arange(len(labels)), fixed_batch(ir) or len(labels))
        batches.append((validation.images[chosen].astype(np.float32), labels))
    with quiet_nncf() as nncf:
        advanced, common = _parameters(nncf, images, options)
        model = nncf.quantize_with_accuracy_control(
            ir,
            nncf.Dataset(images),
            nncf.Dataset(batches, lambda batch: batch[0]),
            validate,
            max_drop=options.max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_quantization_parameters=advanced,
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=options.max_iterations, num_ranking_workers=1
            ),
            **common,
        )
    return Quantized(model, images.labels_read())


def accuracy_drop(reference: ov.Model, model: ov.Model, samples: SampleSet) -> float:
    """Return the top-1 accuracy of `reference` less that of `model`, in fractions."""
    predicted = (
        predict_ir(network, samples.images).argmax(axis=1) for network in (reference, model)
    )
    before, after = ((classes == samples.labels).mean() for classes in predicted)
    return float(before - after)


class CalibrationImages:
    """Calibration images as NNCF items `(batch, 3, 32, 32) float32`, which remembers those it gave.

    Their order, and so the choice where not all are read, depends on the images, their labels
    and the seed: not on the order in which the set holds them.

    `batch` is 1, or a network's own where it is fixed; a smaller set is repeated to fill it.
    """

    def __init__(self, samples: SampleSet, seed: int, batch: int = 1):
        if len(samples) == 0:
            raise StudyError("the calibration set is empty: make it again with images")
        digests = [hashlib.sha256(np.ascontiguousarray(x)).digest() for x in samples.images]
        canonical = np.lexsort((np.array(digests), samples.labels))
        self.order = canonical[balanced_order(samples.labels[canonical], seed)]
        self.samples, self.batch = samples, batch
        self.given: set[int] = set()

    def __len__(self) -> int:
        return self.items(len(self.order))

    def __getitem__(self, position: int) -> np.ndarray:
        if not 0 <= position < len(self):
            raise IndexError(position)
        chosen = self.order[position * self.batch : (position + 1) * self.batch]
        self.given.update(chosen.tolist())
        return self.samples.images[np.resize(chosen, self.batch)].astype(np.float32)

    def items(self, images: int) -> int:
        """Return how many items hold `images` images at most, but one at least."""
        return max(1, images // self.batch)

    def labels_read(self) -> list[int]:
        """Count the images of the set that were given so far by class, each once."""
        classes = len(self.samples.class_names)
        return np.bincount(self.samples.labels[sorted(self.given)], minlength=classes).tolist()


def validate(
    compiled: ov.CompiledModel, batches: Iterable, output: int = 0
) -> tuple[float, list[float]]:
    """Return top-1 accuracy of an output on all batches, of images and labels, and on each.

    NNCF ranks operations by what their return to floating point gains in these values. Were
    logits returned, it would take the operations first whose return leaves the largest error.
    """
    request = compiled.create_infer_request()
    correct = [
        request.infer(images)[compiled.output(output)].argmax(axis=1)[: len(labels)] == labels
        for images, labels in batches
    ]
    return float(np.concatenate(correct).mean()), [float(batch.mean()) for batch in correct]


def _parameters(nncf: ModuleType, images: CalibrationImages, options: QuantizationOptions) -> tuple:
    """Return the advanced parameters and those that NNCF's two algorithms take alike."""
    options.check_decided()
    advanced = nncf.AdvancedQuantizationParameters(
        disable_bias_correction=options.bias_correction == "none",
        overflow_fix=nncf.OverflowFix[options.overflow_fix.upper()],
        batchwise_statistics=images.batch > 1 or None,
    )
    return advanced, {
        "preset": nncf.QuantizationPreset(options.preset),
        "subset_size": images.items(options.subset_size),
        "fast_bias_correction": options.bias_correction != "full",
    }


@contextlib.contextmanager
def quiet_nncf() -> Iterator[ModuleType]:
    """Give NNCF without progress bars and messages below errors."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # in a notebook its bars would bypass stdout
    no_widgets = mock.patch("rich.console._is_jupyter", return_value=False)
    with contextlib.redirect_stdout(io.StringIO()), no_widgets:
        import nncf  # slow, and not needed to read results

        nncf.set_log_level(logging.ERROR)
        yield nncf
