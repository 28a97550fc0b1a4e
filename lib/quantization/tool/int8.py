"""NNCF at work on somebody's network: default quantization, and operations returned to float."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import openvino as ov

from lib.common.errors import StudyError
from lib.common.openvino import compile_model
from lib.quantization.fake_quantize import activation_quantizers, set_range
from lib.quantization.nncf import quiet_nncf, validate
from lib.quantization.tool.checks import Check
from lib.quantization.tool.measure import answers, compare
from lib.quantization.tool.network import Network, affine_of_input


@dataclass(frozen=True)
class Candidate:
    """An INT8 network and what it was calibrated with."""

    kind: str
    bias_correction: str
    model: ov.Model
    restored: int = 0  # layers' inputs that went back to floating point


def read(network: Network, images: np.ndarray) -> int:
    """Return how many images calibration reads: whole batches."""
    return min(len(images), len(Items(network, images)) * network.batch)


class Items:
    """Calibration items of NNCF: the network's input, a batch each."""

    def __init__(self, network: Network, images: np.ndarray) -> None:
        self.network, self.images = network, images

    def __len__(self) -> int:
        return max(1, len(self.images) // self.network.batch)

    def __getitem__(self, number: int) -> np.ndarray:
        if not 0 <= number < len(self):
            raise IndexError(number)
        size = self.network.batch
        some = self.images[number * size : (number + 1) * size]
        return next(self.network.batches(some))[0]


@contextmanager
def quantizing(file: Path) -> Iterator[ModuleType]:
    """Give NNCF; whatever it raises becomes one line."""
    with quiet_nncf() as nncf:
        try:
            yield nncf
        except (OSError, MemoryError):
            raise
        except Exception as error:  # its own are of no common kind
            reason = " ".join(str(error).split())[-200:]
            raise StudyError(f"{file} cannot be quantized by NNCF ({reason})") from error


def quantize(network: Network, images: np.ndarray, bias_correction: str) -> ov.Model:
    """Return the network in INT8, by NNCF's default quantization and `open_input`."""
    items = Items(network, images)
    with quantizing(network.file) as nncf:
        model = nncf.quantize(
            network.model.clone(),
            nncf.Dataset(items),
            advanced_parameters=_advanced(nncf, network, bias_correction),
            **_common(nncf, items),
        )
    if not activation_quantizers(model):
        raise StudyError(f"{network.file} has no layer that INT8 would make faster")
    open_input(network, model)
    return model


def open_input(network: Network, model: ov.Model) -> None:
    """Give quantizers of the input itself the range that it can have: that of pixels 0 … 255.

    NNCF takes the mean over images of their least and greatest values, which clips. After changes
    of layout and arithmetic with constants values are extreme where all pixels are.
    """
    quantizers = [
        quantizer
        for quantizer in activation_quantizers(model)
        if affine_of_input(quantizer.operation.input_value(0))
    ]
    if not quantizers:
        return
    sources = [quantizer.operation.input_value(0) for quantizer in quantizers]
    request = compile_model(ov.Model(sources, model.get_parameters())).create_infer_request()
    found = []
    for level in (0, 255):
        image = np.full((1, 3, *network.size), level, np.uint8)
        request.infer([next(network.batches(image))[0]])
        found.append([tensor.data.copy() for tensor in request.output_tensors])
    for quantizer, *values in zip(quantizers, *found, strict=True):
        shape = quantizer.operation.input_value(1).get_node().shape
        shared = None if len(quantizer.low) == 1 else tuple(np.flatnonzero(np.array(shape) == 1))
        low, high = (end(values, axis=0) for end in (np.min, np.max))
        low, high = np.minimum(low.min(shared), 0), np.maximum(high.max(shared), 0)
        set_range(quantizer, np.ravel(low), np.ravel(high), quantizer.levels)


def _advanced(nncf, network: Network, bias_correction: str):
    return nncf.AdvancedQuantizationParameters(
        disable_bias_correction=bias_correction == "none",
        batchwise_statistics=network.batch > 1 or None,
    )


def _common(nncf, items: Items) -> dict:
    return {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(items)}


def restore(
    network: Network,
    best: Candidate,
    images: np.ndarray,
    checks: dict[str, Check],
    max_drop: float,
) -> Candidate:
    """Return operations to floating point until at most `max_drop` of the classes change.

    NNCF's quantization with accuracy control, whose accuracy is agreement with FP32 on the judging
    images; where that is enough already, `best` itself.
    """
    judged = np.concatenate([one.judged for one in checks.values() if one.counts])
    classes, first = answers(network, judged), network.classifies.index(True)
    kept = compare(network, {"int8": best.model}, judged)["int8"][first]["agreement"]
    if kept >= 1 - max_drop:
        return best
    starts = np.cumsum([0] + [count for _, count in network.batches(judged)])
    batches = [
        (batch, classes[start : start + count])
        for start, (batch, count) in zip(starts[:-1], network.batches(judged), strict=True)
    ]

    items = Items(network, images)
    with quantizing(network.file) as nncf:
        model = nncf.quantize_with_accuracy_control(
            network.model.clone(),
            nncf.Dataset(items),
            nncf.Dataset(batches, lambda batch: batch[0]),
            partial(validate, output=first),
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_quantization_parameters=_advanced(nncf, network, best.bias_correction),
            **_common(nncf, items),
        )
    lost = len(activation_quantizers(best.model)) - len(activation_quantizers(model))
    return replace(best, model=model, restored=lost)
