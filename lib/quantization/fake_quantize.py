"""The FakeQuantize operations of an INT8 network: find them, lower their number of levels.

FakeQuantize rounds what lies between its low and high end to evenly spaced levels and clips the
rest; both ends are levels themselves. Weights have none here: they are stored as integers.
"""

from typing import NamedTuple

import numpy as np
import openvino as ov
from openvino import opset13

from lib.common.errors import StudyError


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


def lower_activation_bits(model: ov.Model, bits: int) -> ov.Model:
    """Return a copy of an INT8 network whose activations take `2**bits` values.

    The calibrated ranges stay, but for what `zero_on_grid` adds. Hardware has no such networks:
    they are simulated in floating point, at the accuracy of integer arithmetic and without its
    speed.
    """
    if not 2 <= bits <= 8:
        raise StudyError(f"activation bits are {bits}: give 2 to 8")
    model = model.clone()
    for quantizer in activation_quantizers(model):
        old = quantizer.operation
        shape = old.input_value(1).get_node().shape
        ends = zero_on_grid(quantizer.low, quantizer.high, 2**bits)
        low, high = (opset13.constant(end.reshape(shape)) for end in ends)
        new = opset13.fake_quantize(old.input_value(0), low, high, low, high, 2**bits)
        new.set_friendly_name(quantizer.name)
        old.output(0).replace(new.output(0))
    return model


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
