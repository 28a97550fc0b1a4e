"""The FakeQuantize operations of an INT8 network: find them, change their levels and ranges.

FakeQuantize rounds what lies between its low and high end to evenly spaced levels and clips the
rest; both ends are levels themselves. Weights have none here: they are stored as integers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import openvino as ov
from openvino import opset13

from lib.common.errors import StudyError
from lib.common.openvino import compile_model

BINS = 1024  # of the histogram of a channel
SHARES = np.linspace(0.1, 1, 46)  # of the range of minimum and maximum that are tried
BATCH = 20


class Quantizer(NamedTuple):
    """A quantizer of activations: from `low` to `high`, `(1,) or (channels,) float32`, `levels`."""

    operation: ov.Node
    low: np.ndarray
    high: np.ndarray
    name: str
    levels: int


def activation_quantizers(model: ov.Model) -> list[Quantizer]:
    """Return the quantizers of a network's activations, in the order of its operations."""
    found = []
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "FakeQuantize":
            continue
        source = operation.input_value(0).get_node()
        while source.get_type_name() == "Convert":
            source = source.input_value(0).get_node()
        if source.get_type_name() != "Constant":  # which weights are
            low, high = (operation.input_value(i).get_node().data.ravel() for i in (1, 2))
            name, levels = operation.get_friendly_name(), operation.get_attributes()["levels"]
            low, high = low.astype(np.float32), high.astype(np.float32)
            found.append(Quantizer(operation, low, high, name, levels))
    return found


def entering(model: ov.Model) -> ov.CompiledModel:
    """Return a network of the same input that gives what enters each quantizer of `model`."""
    sources = [quantizer.operation.input_value(0) for quantizer in activation_quantizers(model)]
    return compile_model(ov.Model(sources, model.get_parameters()))


def lower_activation_bits(model: ov.Model, bits: int) -> ov.Model:
    """Return a copy of an INT8 network whose activations take `2**bits` values.

    The calibrated ranges stay, but for what `zero_on_grid` adds. Hardware has no such networks:
    they are simulated in floating point, at the accuracy of integer arithmetic and without its
    speed.
    """
    return _replace_quantizers(model, bits, lambda _, quantizer: (quantizer.low, quantizer.high))


def clip_activations(
    model: ov.Model, images: np.ndarray, bits: int = 8, batch: int = BATCH
) -> ov.Model:
    """Return a copy of an INT8 network whose ranges clip for the least squared error.

    Of its ranges, of minimum and maximum, that share is taken, both ends alike, that rounds the
    activations of `images` `(n, 3, 32, 32) uint8` to `2**bits` values with the least mean squared
    error; a channel with a range of its own has a share of its own. `batch` is the network's own
    where it is fixed.
    """
    counts = _histograms(model, images, batch)

    def best(number: int, quantizer: Quantizer) -> tuple[np.ndarray, np.ndarray]:
        return least_error(quantizer.low, quantizer.high, counts[number], 2**bits)

    return _replace_quantizers(model, bits, best)


def _replace_quantizers(
    model: ov.Model,
    bits: int,
    ends: Callable[[int, Quantizer], tuple[np.ndarray, np.ndarray]],
) -> ov.Model:
    """Return a copy whose quantizers have `2**bits` levels between the `ends` given for each."""
    if not 2 <= bits <= 8:
        raise StudyError(f"activation bits are {bits}: give 2 to 8")
    model = model.clone()
    for number, quantizer in enumerate(activation_quantizers(model)):
        set_range(quantizer, *ends(number, quantizer), 2**bits)
    return model


def set_range(quantizer: Quantizer, low: np.ndarray, high: np.ndarray, levels: int) -> None:
    """Replace a quantizer in its network by one of these ends, moved so that 0 is a level.

    `low` <= 0 <= `high` have as many values as the quantizer's own ends.
    """
    old = quantizer.operation
    shape = old.input_value(1).get_node().shape
    moved = zero_on_grid(low, high, levels)
    low, high = (opset13.constant(end.reshape(shape)) for end in moved)
    new = opset13.fake_quantize(old.input_value(0), low, high, low, high, levels)
    new.set_friendly_name(quantizer.name)
    old.output(0).replace(new.output(0))


def _histograms(model: ov.Model, images: np.ndarray, batch: int) -> list[np.ndarray]:
    """Count `(channels, BINS)` what enters each quantizer, between its ends."""
    quantizers = activation_quantizers(model)
    request, counts = entering(model).create_infer_request(), [0] * len(quantizers)
    for start in range(0, len(images), batch):
        chosen = np.resize(np.arange(start, min(start + batch, len(images))), batch)
        request.infer([images[chosen].astype(np.float32)])
        for number, quantizer in enumerate(quantizers):
            values, n = request.get_output_tensor(number).data, len(quantizer.low)
            rows = np.moveaxis(values, 1, 0).reshape(n, -1) if n > 1 else values.reshape(1, -1)
            width = np.maximum(quantizer.high - quantizer.low, np.finfo(np.float32).tiny)
            bins = ((rows - quantizer.low[:, None]) * (BINS / width)[:, None]).astype(np.int64)
            bins = np.clip(bins, 0, BINS - 1) + BINS * np.arange(n)[:, None]
            counts[number] += np.bincount(bins.ravel(), minlength=n * BINS).reshape(n, BINS)
    return counts


def least_error(
    low: np.ndarray, high: np.ndarray, counts: np.ndarray, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends `(n,)` of the share of each range that rounds with the least squared error.

    `counts` `(n, BINS)` are histograms of the values between the ends.
    """
    places = low[:, None] + (high - low)[:, None] * ((np.arange(BINS) + 0.5) / BINS)
    errors = []
    for share in SHARES:
        ends = zero_on_grid(share * low, share * high, levels)
        first, last = (end[:, None] for end in ends)
        step = np.maximum((last - first) / (levels - 1), np.finfo(np.float32).tiny)
        rounded = first + step * np.round((np.clip(places, first, last) - first) / step)
        errors.append((counts * (places - rounded) ** 2).sum(axis=1))
    best = SHARES[len(SHARES) - 1 - np.argmin(errors[::-1], axis=0)]  # of equals, the widest
    return best * low, best * high


def is_simulated(model: ov.Model) -> bool:
    """Tell whether activations have another number of levels than those of 8 bits."""
    return any(quantizer.levels not in (255, 256) for quantizer in activation_quantizers(model))


def zero_on_grid(low: np.ndarray, high: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Move range ends `(n,)`, low <= 0 <= high, so that 0 is one of the evenly spaced `levels`.

    The level nearest to 0 becomes 0 (Jacob et al. 2018, section 3: zeros must be exact). The
    step is the smallest that leaves both ends inside, but for an end within half a step of 0.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    zero = np.round(-low / np.maximum(high - low, np.finfo(np.float32).tiny) * (levels - 1))
    above = levels - 1 - zero
    step = np.maximum(high / np.maximum(above, 1), -low / np.maximum(zero, 1))
    step = np.where(zero == 0, high / (levels - 1), np.where(above == 0, -low / (levels - 1), step))
    return (-zero * step).astype(np.float32), (above * step).astype(np.float32)
