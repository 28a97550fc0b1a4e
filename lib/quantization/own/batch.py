"""The batch of a network that was written with a fixed one, made free."""

import contextlib

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from lib.quantization.models import BATCH_SIZE, predict_ir

CLOSE = 1e-4  # of the largest output


def free_batch(model: ov.Model, images: np.ndarray) -> ov.Model:
    """Return a network of fixed batch with a free one, or as it is where that changes its outputs.

    Exporters, Model Optimizer and POT write the batch into shapes, and into the targets of Reshape
    operations, where it becomes -1. The two forms are compared on `images` `(n, 3, 32, 32) uint8`,
    in batches of 1, 7 and `BATCH_SIZE`.
    """
    if model.is_dynamic():
        return model
    batch, free = model.input(0).shape[0], model.clone()
    with contextlib.suppress(RuntimeError, ValueError):
        for operation in free.get_ops():
            if operation.get_type_name() == "Reshape":
                _free_reshape(operation, batch)
        free.reshape({free.input(0): ov.PartialShape([-1, *list(model.input(0).shape)[1:]])})
        expected = predict_ir(model, images)
        nearby = CLOSE * np.abs(expected).max()
        found = [predict_ir(free, images, batch_size=size) for size in (1, 7, BATCH_SIZE)]
        if all(np.allclose(each, expected, rtol=0, atol=nearby) for each in found):
            return free
    return model


def fixed_batch(ir: ov.Model) -> int | None:
    """Return the batch of a network that takes no other."""
    batch = ir.input(0).get_partial_shape()[0]
    return batch.get_length() if batch.is_static else None


def _free_reshape(operation: ov.Node, batch: int) -> None:
    """Let the first number of a constant target follow the input where it is the batch."""
    target = operation.input_value(1).get_node()
    if target.get_type_name() != "Constant":
        return
    shape = target.get_data().astype(np.int64)
    before, after = (port.get_partial_shape() for port in (operation.input(0), operation.output(0)))
    if len(shape) and before.is_static and before[0] == after[0] == batch:
        if -1 in shape[1:]:
            shape = np.array(list(operation.get_output_shape(0)))
        shape[0] = -1
        operation.input(1).replace_source_output(ops.constant(shape).output(0))
