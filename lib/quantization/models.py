"""Classifiers in OpenVINO: export from torch (and to ONNX), prediction, free batches, speed."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino as ov
import pandas as pd
import torch
from openvino import opset13
from torch import nn

from lib.classifiers.names import UNFUSED
from lib.classifiers.residual import fuse_repvgg
from lib.classifiers.training import load_classifier
from lib.common.errors import StudyError
from lib.common.files import atomic_path
from lib.common.openvino import (
    LATENCY,
    THROUGHPUT,
    compile_model,
    convert,
    read_ir,
    save_ir,
    traceable,
)
from lib.data.samples import IMAGE_SHAPE, SampleSet
from lib.quantization.fake_quantize import is_simulated

BATCH_SIZE = 64
CHECK_IMAGES = 64
TOLERANCE = 1e-4  # of the largest logit, between forms of a network
OPSET = 14  # of ONNX, which POT's Model Optimizer reads and attention needs


def export_classifiers(
    out: Path, *, classifiers: dict[str, Path], check: Path, unfused: Sequence[str] = ()
) -> None:
    """Write `out/<name>.xml` and .bin, FP32, for each trained classifier of `{name: folder}`.

    RepVGG's branches are fused; networks named in `unfused` are written with them, too, as
    `<name>_unfused`. POT starts from another form, `out/<name>.onnx`. The first images of the
    SampleSet `check` are used to compare all with torch.
    """
    images = SampleSet.load(check).images[:CHECK_IMAGES]
    for name, folder in classifiers.items():
        network = load_classifier(folder)
        if name in unfused:
            export_ir(out / f"{name}{UNFUSED}.xml", network, images)
        network = fuse_repvgg(network)
        export_ir(out / f"{name}.xml", network, images)
        export_onnx(out / f"{name}.onnx", network, images)


def export_ir(out_xml: Path, classifier: nn.Module, check_images: np.ndarray) -> None:
    """Convert a classifier from torch to OpenVINO IR with FP32 weights, `out_xml` and its .bin.

    The classifier takes pixels `(n, 3, 32, 32)` float32 in [0, 255] and gives logits. Raises
    `StudyError` if the logits of the IR and of torch differ on `check_images`
    `(n, 3, 32, 32) uint8` by more than `TOLERANCE` of the largest one.
    """
    classifier = classifier.cpu().eval()
    model = convert(classifier, torch.zeros(1, *IMAGE_SHAPE), [-1, *IMAGE_SHAPE])
    model.output(0).get_tensor().set_names({"logits"})  # NNCF finds outputs by name
    _check(f"{out_xml.name}: IR", model, classifier, check_images)
    save_ir(out_xml, model)


def export_onnx(out: Path, classifier: nn.Module, check_images: np.ndarray) -> None:
    """Write a classifier as one ONNX file, FP32, and check it as `export_ir` does.

    Its batch is 1, which is what POT makes of any batch; input `images`, output `logits`.
    """
    classifier = classifier.cpu().eval()
    with atomic_path(out) as temporary:
        with traceable():
            torch.onnx.export(
                classifier,
                torch.zeros(1, *IMAGE_SHAPE),
                temporary,
                dynamo=False,  # one file, and an opset that older readers know
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
            )
        model = ov.Core().read_model(temporary)
        _check(f"{out.name}: ONNX", model, classifier, check_images)


def _check(form: str, model: ov.Model, classifier: nn.Module, images: np.ndarray) -> None:
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(images).float()).numpy()
    error = np.abs(predict_ir(model, images) - expected).max() / np.abs(expected).max()
    if not error < TOLERANCE:
        raise StudyError(
            f"{form} and torch differ by {error:.1e} of the largest logit, allowed are "
            f"{TOLERANCE:g}: look for operations that behave differently outside eval mode"
        )


def predict_ir(
    model: ov.Model | Path, images: np.ndarray, *, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Return logits `(n, classes) float32` for images `(n, 3, 32, 32) uint8`, in their order."""
    return Predictor(model, batch_size)(images)


def is_probabilities(outputs: np.ndarray) -> bool:
    """Tell whether outputs `(n, classes)` are probabilities, not logits."""
    return bool(outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-3))


def free_batch(model: ov.Model, images: np.ndarray) -> ov.Model:
    """Return a network of fixed batch with a free one, or as it is where that changes its outputs.

    Exporters, Model Optimizer and POT write the batch into shapes, and into the targets of Reshape
    operations, where it becomes -1. The two forms are compared on `images` `(n, 3, 32, 32) uint8`,
    in batches of 1, 7 and `BATCH_SIZE`.
    """
    if (batch := fixed_batch(model)) is None:
        return model
    free = model.clone()
    with contextlib.suppress(RuntimeError, ValueError):
        for operation in free.get_ops():
            if operation.get_type_name() == "Reshape":
                _free_reshape(operation, batch)
        free.reshape({free.input(0): ov.PartialShape([-1, *list(model.input(0).shape)[1:]])})
        expected = predict_ir(model, images)
        nearby = TOLERANCE * np.abs(expected).max()
        found = [predict_ir(free, images, batch_size=size) for size in (1, 7, BATCH_SIZE)]
        if all(np.allclose(each, expected, rtol=0, atol=nearby) for each in found):
            return free
    return model


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
        operation.input(1).replace_source_output(opset13.constant(shape).output(0))


def fixed_batch(model: ov.Model) -> int | None:
    """Return the batch of a network that takes no other."""
    batch = model.input(0).get_partial_shape()[0]
    return batch.get_length() if batch.is_static else None


class Predictor:
    """A compiled network that takes many images, asynchronously in batches of one size.

    That size is `batch_size`, or the network's own where it is fixed. Images stay bytes until
    they are in the network, and each stream has a second request waiting: neither changes an
    output, both save time that would pass between two batches.
    """

    def __init__(self, model: ov.Model | Path, batch_size: int = BATCH_SIZE):
        model = read_ir(model) if isinstance(model, Path) else model
        steps = ov.preprocess.PrePostProcessor(model.clone())
        steps.input().tensor().set_element_type(ov.Type.u8)
        self.compiled = _compiled(steps.build(), batch_size, THROUGHPUT)
        self.batch_size = self.compiled.input(0).shape[0]
        streams = self.compiled.get_property(ov.properties.optimal_number_of_infer_requests)
        self.queue = ov.AsyncInferQueue(self.compiled, 2 * streams)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return logits `(n, classes) float32` for images `(n, 3, 32, 32) uint8`."""
        images = np.ascontiguousarray(images)
        logits = np.empty((len(images), self.compiled.output(0).shape[1]), np.float32)

        def keep(request: ov.InferRequest, start: int) -> None:
            rows = logits[start : start + self.batch_size]
            rows[:] = request.get_output_tensor().data[: len(rows)]

        self.queue.set_callback(keep)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            missing = self.batch_size - len(batch)
            batch = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch
            self.queue.start_async(batch, start, share_inputs=True)
        self.queue.wait_all()
        return logits


def measure_speeds(
    models: dict[str, Path], images: np.ndarray, *, repeats: int, calls: int = 50
) -> dict[str, dict[str, float]]:
    """Measure latency and throughput of several networks on this machine.

    Latency: ms for one image (for its batch, where a network has a fixed one) with the LATENCY
    hint, median of `calls` synchronous calls after a warm-up. Throughput: images/s with the
    THROUGHPUT hint, asynchronous batches of 64 from `images` `(n, 3, 32, 32) uint8`. The networks
    take turns `repeats` times, so that a busy moment hits all of them alike; returned are the
    medians over the turns: `{name: {"latency_ms", "throughput"}}`.
    """
    runners = {}
    for name, xml in models.items():
        request = _compiled(read_ir(xml), 1, LATENCY).create_infer_request()
        batch = np.arange(request.model_inputs[0].shape[0])  # one image, or a fixed batch
        inputs = [images[(i + batch) % len(images)].astype(np.float32) for i in range(calls)]
        runners[name] = request.infer, inputs, Predictor(xml)
    turns = []
    for _ in range(repeats + 1):
        for name, (infer, inputs, predictor) in runners.items():
            latency = np.median([_seconds(infer, x) for x in inputs])
            throughput = len(images) / _seconds(predictor, images)
            turns.append({"name": name, "latency_ms": 1000 * latency, "throughput": throughput})
    measured = pd.DataFrame(turns[len(models) :])  # the first turn warms up
    return measured.groupby("name", sort=False).median().to_dict("index")


def _compiled(model: ov.Model, batch_size: int, mode) -> ov.CompiledModel:
    """Compile a network, with `batch_size` if it takes any batch.

    Simulated bits have one stream: with several, the first sometimes compute with unfinished
    weights.
    """
    if model.is_dynamic():
        model.reshape([batch_size, *IMAGE_SHAPE])
    return compile_model(model, mode, {ov.properties.num_streams: 1} if is_simulated(model) else {})


def _seconds(work: Callable, argument: object) -> float:
    start = time.perf_counter()
    work(argument)
    return time.perf_counter() - start
