"""INT8 post-training quantization with NNCF, default and accuracy-aware.

NNCF reads calibration items in order and stops at `subset_size` of them. An item here is one
image, the order is class-balanced and depends on the seed, and what was read is recorded.
"""

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from unittest import mock

import numpy as np
import openvino as ov

from lib.calibration.kinds import balanced_order
from lib.common.errors import StudyError
from lib.data.samples import SampleSet
from lib.quantization.fake_quantize import lower_activation_bits
from lib.quantization.models import predict_ir

PRESETS = ("performance", "mixed")
BIAS_CORRECTIONS = ("fast", "full", "none")
OVERFLOW_FIXES = {"disable": "DISABLE", "enable": "ENABLE", "first_layer": "FIRST_LAYER"}
VALIDATION_BATCH = 50
Batch = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Variant:
    """How a variant of default quantization differs from it."""

    per_channel_weights: bool = True
    activation_bits: int = 8


VARIANTS = {
    "default": Variant(),
    "default_per_tensor": Variant(per_channel_weights=False),
    "default_a6": Variant(activation_bits=6),
    "default_a5": Variant(activation_bits=5),
    "default_a4": Variant(activation_bits=4),
}
"""Default quantization and its variants by the names that cells and tables give as method."""


@dataclass
class Quantized:
    """An INT8 network and what it was made from.

    `labels_read` counts, by class, the calibration images that were read, each once.
    `quantizers` is the number of FakeQuantize operations: where accuracy-aware quantization
    returned operations to floating point, it is lower than after default quantization.
    """

    model: ov.Model
    labels_read: list[int]

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
    *,
    preset: str = "mixed",
    subset_size: int = 300,
    bias_correction: str = "fast",
    overflow_fix: str = "first_layer",
    seed: int = 0,
    per_channel_weights: bool = True,
) -> Quantized:
    """Quantize an FP32 network to INT8 with ranges from `subset_size` calibration images.

    `preset` is `performance` (symmetric) or `mixed` (asymmetric activations). `bias_correction`
    is `fast`, `full` or `none`; the fast one replaces the input of each layer by its channel
    means, which misleads it where images are alike at their borders and maps are small.
    `overflow_fix` halves the range of weights in all layers (`enable`) or the first
    (`first_layer`), as processors without VNNI add products in 16 bits. `seed` chooses the images
    and their order. A set smaller than `subset_size` is read whole. Weights have one scale for each
    channel of a layer's output, or one for the layer.
    """
    images = CalibrationImages(calibration, seed, fixed_batch(ir) or 1)
    with quiet_nncf() as nncf:
        advanced, fast = _advanced(nncf, preset, bias_correction, overflow_fix)
        advanced.batchwise_statistics = images.batch > 1 or None
        if not per_channel_weights:
            advanced.weights_quantization_params = _per_tensor()
        model = nncf.quantize(
            ir,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset(preset),
            subset_size=images.items(subset_size),
            fast_bias_correction=fast,
            advanced_parameters=advanced,
        )
    return Quantized(model, images.labels_read())


def quantize_variant(
    ir: ov.Model,
    calibration: SampleSet,
    variant: str,
    *,
    default: Quantized | None = None,
    **options,
) -> Quantized:
    """Quantize by one of `VARIANTS`, named; `options` are those of `quantize_default`.

    `default` is what `quantize_default` gave for the same `options`, if that is at hand: fewer
    bits for the activations need no other calibration.
    """
    if variant not in VARIANTS:
        raise StudyError(f"method {variant!r} is unknown: choose one of {', '.join(VARIANTS)}")
    chosen = VARIANTS[variant]
    if default is None or not chosen.per_channel_weights:
        weights = {"per_channel_weights": chosen.per_channel_weights}
        default = quantize_default(ir, calibration, **weights, **options)
    if chosen.activation_bits == 8:
        return default
    model = lower_activation_bits(default.model, chosen.activation_bits)
    return Quantized(model, default.labels_read)


def quantize_accuracy_aware(
    ir: ov.Model,
    calibration: SampleSet,
    validation: SampleSet,
    *,
    max_drop: float,
    max_iterations: int = 30,
    default: Quantized | None = None,
    **options,
) -> Quantized:
    """Quantize, then return operations to floating point until the drop is within `max_drop`.

    `max_drop` is absolute, in fractions (0.01 is one percentage point), judged by top-1 accuracy
    on `validation`, which must share no image with the calibration and test sets. NNCF's algorithm
    begins with default quantization and ends there when the drop is within bounds, so that it is
    not called then. `default` is what `quantize_default` gave for the same `options`, if that is
    at hand. At most `max_iterations` groups of operations are returned.
    """
    default = default or quantize_default(ir, calibration, **options)
    if accuracy_drop(ir, default.model, validation) <= max_drop:
        return default
    return restore_accuracy(
        ir,
        calibration,
        validation,
        max_drop=max_drop,
        max_iterations=max_iterations,
        **options,
    )


def restore_accuracy(
    ir: ov.Model,
    calibration: SampleSet,
    validation: SampleSet,
    *,
    max_drop: float,
    max_iterations: int,
    preset: str = "mixed",
    subset_size: int = 300,
    bias_correction: str = "fast",
    overflow_fix: str = "first_layer",
    seed: int = 0,
) -> Quantized:
    """Run the whole of NNCF's quantization with accuracy control."""
    images = CalibrationImages(calibration, seed, fixed_batch(ir) or 1)
    with quiet_nncf() as nncf:
        advanced, fast = _advanced(nncf, preset, bias_correction, overflow_fix)
        advanced.batchwise_statistics = images.batch > 1 or None
        restorer = nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=max_iterations, num_ranking_workers=1
        )
        model = nncf.quantize_with_accuracy_control(
            ir,
            nncf.Dataset(images),
            nncf.Dataset(_batches(validation, fixed_batch(ir)), lambda batch: batch[0]),
            validate,
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset(preset),
            subset_size=images.items(subset_size),
            fast_bias_correction=fast,
            advanced_quantization_parameters=advanced,
            advanced_accuracy_restorer_parameters=restorer,
        )
    return Quantized(model, images.labels_read())


def accuracy_drop(reference: ov.Model, model: ov.Model, samples: SampleSet) -> float:
    """Return the top-1 accuracy of `reference` less that of `model`, in fractions."""
    first, second = (
        (predict_ir(m, samples.images).argmax(axis=1) == samples.labels).mean()
        for m in (reference, model)
    )
    return float(first - second)


class CalibrationImages:
    """Calibration images as NNCF items `(batch, 3, 32, 32) float32`, which remembers those it gave.

    Their order, and so the choice where not all are read, depends on the images, their labels
    and the seed: not on the order in which the set holds them.

    `batch` is 1, or a network's own where it is fixed; a smaller set is repeated to fill it.
    """

    def __init__(self, samples: SampleSet, seed: int, batch: int = 1):
        if len(samples) == 0:
            raise StudyError("the calibration set is empty: make it again with images")
        canonical = _canonical_order(samples)
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


def _canonical_order(samples: SampleSet) -> np.ndarray:
    """Return the order of the images by label and content."""
    digests = [hashlib.sha256(np.ascontiguousarray(image)).digest() for image in samples.images]
    return np.lexsort((np.array(digests), samples.labels))


def validate(compiled: ov.CompiledModel, batches: Iterable[Batch]) -> tuple[float, list[float]]:
    """Return top-1 accuracy on all batches and on each.

    NNCF ranks operations by what their return to floating point gains in these values. Were
    logits returned, it would take the operations first whose return leaves the largest error.
    """
    request = compiled.create_infer_request()
    correct = [
        request.infer(images)[compiled.output(0)].argmax(axis=1)[: len(labels)] == labels
        for images, labels in batches
    ]
    return float(np.concatenate(correct).mean()), [float(batch.mean()) for batch in correct]


def fixed_batch(ir: ov.Model) -> int | None:
    """Return the batch of a network that takes no other."""
    batch = ir.input(0).get_partial_shape()[0]
    return batch.get_length() if batch.is_static else None


def _batches(samples: SampleSet, fixed: int | None) -> list[Batch]:
    """Split a set into batches of float images and labels; the images fill a `fixed` batch."""
    size = fixed or VALIDATION_BATCH
    chosen = [
        np.arange(len(samples))[start : start + size] for start in range(0, len(samples), size)
    ]
    return [
        (
            samples.images[np.resize(index, fixed or len(index))].astype(np.float32),
            samples.labels[index],
        )
        for index in chosen
    ]


def _advanced(nncf: ModuleType, preset: str, bias_correction: str, overflow_fix: str) -> tuple:
    """Return NNCF's advanced parameters and its `fast_bias_correction` for ours, all checked."""
    if bias_correction not in BIAS_CORRECTIONS:
        known = ", ".join(BIAS_CORRECTIONS)
        raise StudyError(f"bias correction {bias_correction!r} is unknown: choose one of {known}")
    if preset not in PRESETS:
        raise StudyError(f"preset {preset!r} is unknown: choose one of {', '.join(PRESETS)}")
    if overflow_fix not in OVERFLOW_FIXES:
        known = ", ".join(OVERFLOW_FIXES)
        raise StudyError(f"overflow fix {overflow_fix!r} is unknown: choose one of {known}")
    advanced = nncf.AdvancedQuantizationParameters(
        disable_bias_correction=bias_correction == "none",
        overflow_fix=getattr(nncf.OverflowFix, OVERFLOW_FIXES[overflow_fix]),
    )
    return advanced, bias_correction != "full"


def _per_tensor():
    """Return NNCF's parameters for one scale a layer; it offers no choice of bits here."""
    from nncf.quantization.advanced_parameters import QuantizationParameters

    return QuantizationParameters(per_channel=False)


@contextlib.contextmanager
def quiet_nncf() -> Iterator[ModuleType]:
    """Give NNCF without telemetry, progress bars and messages below errors."""
    os.environ.setdefault("NNCF_CI", "1")  # its switch for telemetry
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # in a notebook its bars would bypass stdout
    no_widgets = mock.patch("rich.console._is_jupyter", return_value=False)
    with contextlib.redirect_stdout(io.StringIO()), no_widgets:
        nncf = _import_nncf()
        nncf.set_log_level(logging.ERROR)
        yield nncf


def _import_nncf() -> ModuleType:
    import nncf  # slow, and of no use to who only looks at results

    return nncf
