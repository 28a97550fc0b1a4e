"""INT8 post-training quantization with NNCF, default and accuracy-aware.

NNCF reads calibration items in order and stops at `subset_size` of them. An item here is one
image, the order is class-balanced and depends on the seed, and what was read is recorded.
"""

import contextlib
import io
import logging
import os
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import openvino as ov

from lib.calibration import balanced_order
from lib.errors import StudyError
from lib.openvino_models import predict_ir
from lib.sampleset import SampleSet

VALIDATION_BATCH = 50
Batch = tuple[np.ndarray, np.ndarray]


@dataclass
class Quantized:
    """An INT8 network and what it was made from.

    `labels_read` counts, by class, the distinct calibration images that were read.
    `quantizers` is the number of FakeQuantize operations: where accuracy-aware quantization
    returned operations to floating point, it is lower than after default quantization.
    """

    model: ov.Model
    labels_read: list[int]
    restored: bool = False

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
    fast_bias_correction: bool = True,
    seed: int = 0,
) -> Quantized:
    """Quantize an FP32 network to INT8 with ranges from `subset_size` calibration images.

    `preset` is `performance` (symmetric) or `mixed` (asymmetric activations). `seed` chooses the
    images and their order. A calibration set smaller than `subset_size` is read whole.
    """
    images = CalibrationImages(calibration, seed)
    with _quiet_nncf() as nncf:
        model = nncf.quantize(
            ir,
            nncf.Dataset(images),
            preset=nncf.QuantizationPreset(preset),
            subset_size=subset_size,
            fast_bias_correction=fast_bias_correction,
        )
    return Quantized(model, images.labels_read())


def quantize_accuracy_aware(
    ir: ov.Model,
    calibration: SampleSet,
    validation: SampleSet,
    *,
    max_drop: float,
    max_iterations: int = 10,
    preset: str = "mixed",
    subset_size: int = 300,
    fast_bias_correction: bool = True,
    seed: int = 0,
    default: Quantized | None = None,
) -> Quantized:
    """Quantize, then return operations to floating point until the drop is within `max_drop`.

    `max_drop` is absolute, in fractions (0.01 is one percentage point), judged by top-1 accuracy
    on `validation`, which must share no image with the calibration and test sets. The algorithm
    begins with default quantization and ends there when the drop is within bounds; a `default`
    made with the same arguments is used where that is so. It gives up after `max_iterations`
    operations.
    """
    if default is not None and accuracy_drop(ir, default.model, validation) <= max_drop:
        return default
    images = CalibrationImages(calibration, seed)
    with _quiet_nncf() as nncf:
        restorer = nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=max_iterations, num_ranking_workers=1
        )
        model = nncf.quantize_with_accuracy_control(
            ir,
            nncf.Dataset(images),
            nncf.Dataset(_batches(validation), lambda batch: batch[0]),
            validate,
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset(preset),
            subset_size=subset_size,
            fast_bias_correction=fast_bias_correction,
            advanced_accuracy_restorer_parameters=restorer,
        )
    return Quantized(model, images.labels_read(), restored=True)


def accuracy_drop(reference: ov.Model, model: ov.Model, samples: SampleSet) -> float:
    """Return the top-1 accuracy of `reference` less that of `model`, in fractions."""
    first, second = (
        (predict_ir(m, samples.images).argmax(axis=1) == samples.labels).mean()
        for m in (reference, model)
    )
    return float(first - second)


class CalibrationImages:
    """Calibration images as NNCF items `(1, 3, 32, 32) float32`, which remembers those it gave."""

    def __init__(self, samples: SampleSet, seed: int):
        if len(samples) == 0:
            raise StudyError("the calibration set is empty: make it again with images")
        self.order = balanced_order(samples.labels, seed)
        self.samples = samples
        self.given: set[int] = set()

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> np.ndarray:
        index = int(self.order[position])
        self.given.add(index)
        return self.samples.images[index][None].astype(np.float32)

    def labels_read(self) -> list[int]:
        """Count the distinct images given so far by class."""
        classes = len(self.samples.class_names)
        return np.bincount(self.samples.labels[sorted(self.given)], minlength=classes).tolist()


def validate(compiled: ov.CompiledModel, batches: list[Batch]) -> tuple[float, list]:
    """Return top-1 accuracy, and the logits of each batch, by which NNCF ranks operations."""
    request = compiled.create_infer_request()
    logits, correct = [], []
    for images, labels in batches:
        logits.append([request.infer(images)[compiled.output(0)].copy()])
        correct.append(logits[-1][0].argmax(axis=1) == labels)
    return float(np.concatenate(correct).mean()), logits


def _batches(samples: SampleSet) -> list[Batch]:
    """Split a set into batches of float images and labels."""
    starts = range(0, len(samples), VALIDATION_BATCH)
    return [
        (
            samples.images[start : start + VALIDATION_BATCH].astype(np.float32),
            samples.labels[start : start + VALIDATION_BATCH],
        )
        for start in starts
    ]


@contextlib.contextmanager
def _quiet_nncf():
    """Give NNCF without telemetry, progress bars and messages below errors."""
    os.environ.setdefault("NNCF_CI", "1")  # its switch for telemetry
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        nncf = _import_nncf()
        nncf.set_log_level(logging.ERROR)
        yield nncf


def _import_nncf() -> ModuleType:
    import nncf  # slow, and of no use to who only looks at results

    return nncf
