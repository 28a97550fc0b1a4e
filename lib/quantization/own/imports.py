"""Networks from elsewhere (ONNX, OpenVINO IR, TFLite) as FP32 IRs like those of the study.

Whatever layout, scale, normalisation and order of colours they want goes into the graph, so that
all that follows sees a network of pixels. Files are read by OpenVINO's own readers alone.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import openvino.opset13 as opset
import pandas as pd
from google.protobuf.message import DecodeError
from onnx.external_data_helper import _get_all_tensors, uses_external_data

from lib.common.errors import StudyError
from lib.common.files import atomic_path, write_json
from lib.common.openvino import save_ir
from lib.data.samples import IMAGE_SHAPE, SampleSet
from lib.quantization.models import (
    CHECK_IMAGES,
    export_classifiers,
    fixed_batch,
    free_batch,
    is_probabilities,
    predict_ir,
)
from lib.quantization.own.parameters import Input, OwnModel, content_hash, source_files

FLOATS, BYTES = (ov.Type.f32, ov.Type.f16), (ov.Type.i8, ov.Type.u8)
NEAR_CHANCE = 2.0  # times the accuracy of guessing
REMARK = "near chance: check its mean, std, input_max, layout, colours, order of classes"


def export_models(
    out: Path,
    *,
    classifiers: dict[str, Path],
    check: Path,
    own: list[dict[str, Any]],
    files: dict[str, Path],
) -> None:
    """Write `out/<name>.xml` and .bin, FP32, of trained classifiers and of networks from elsewhere.

    `classifiers` is as `export_classifiers` takes it; `own` as `own_records` gives it,
    with the `files` by name. The SampleSet `check` compares the IRs with what they were made from.
    """
    export_classifiers(out, classifiers=classifiers, check=check)
    samples = SampleSet.load(check)
    for record in own:
        fields = {key: value for key, value in record.items() if key != "sha256"}
        model = OwnModel(path=str(files[record["name"]]), **fields)
        if content_hash(model.file) != record["sha256"]:
            raise StudyError(f"{model.file} was changed during the run: run the same command again")
        import_network(out, model, samples.images[:CHECK_IMAGES], len(samples.class_names))


def import_network(out: Path, model: OwnModel, images: np.ndarray, classes: int) -> None:
    """Write `out/<name>.xml` and .bin: pixels `(n, 3, 32, 32)` float32 in [0, 255] -> logits.

    Its outputs may be probabilities, if the file's are. Where the file has a fixed batch, the
    batch is made free if `images` `(n, 3, 32, 32) uint8` then give the same outputs, and kept
    otherwise. An ONNX file whose batch is free is copied for POT, `out/<name>.onnx`, with what it
    takes, `out/<name>.json`. Raises `StudyError` where the file does not fit.
    """
    network = read_network(model, images, classes)
    if model.file.suffix == ".onnx" and network.is_dynamic():
        with atomic_path(out / f"{model.name}.onnx") as temporary:
            shutil.copyfile(model.file, temporary)
        write_json(out / f"{model.name}.json", model.model_dump(include=set(Input.model_fields)))
    save_ir(out / f"{model.name}.xml", network)


def check_network(model: OwnModel, classes: int | None = None) -> None:
    """Raise `StudyError` unless the file of `model` is a classifier that runs here.

    Its number of classes is compared with `classes`, where that is known.
    """
    images = np.random.default_rng(0).integers(0, 256, (8, *IMAGE_SHAPE), dtype=np.uint8)
    read_network(model, images, classes)


def read_network(model: OwnModel, images: np.ndarray, classes: int | None) -> ov.Model:
    """Return a network of pixels `(n, 3, 32, 32)` float32 in [0, 255], its weights float32.

    Its batch is free if that changes no output for `images`; it runs and gives finite numbers.
    """
    file = model.file
    network = read_source(file)
    _check_form(network, model)
    with _named(file, "does not take 32×32 images"):
        network.reshape([network.input(0).get_partial_shape()[0], *model.shape])
        widen_constants(network)
        network = _preprocessed(network, model)
    network.output(0).get_tensor().set_names({"logits"})
    found = network.output(0).get_partial_shape()
    if len(found) != 2 or not found[1].compatible(ov.Dimension(classes or -1)):
        wanted = f"the data have {classes} classes" if classes else "the study wants logits"
        raise StudyError(f"{file} gives {found}, {wanted}: export it as (n, classes)")
    network.reshape([fixed_batch(network) or 1, *IMAGE_SHAPE])
    network = free_batch(network, images)
    with _named(file, "does not run"):
        outputs = predict_ir(network, images)
    if not np.isfinite(outputs).all():
        raise StudyError(f"{file} gives NaN or infinity for plain images: export it again")
    return network


def read_source(file: Path) -> ov.Model:
    """Read an .onnx, .xml or .tflite file; a missing, damaged or split one is a `StudyError`."""
    source_files(file)
    start = file.read_bytes()[:8]
    if file.suffix == ".onnx":
        try:
            model = onnx.load(file, load_external_data=False)
        except (DecodeError, ValueError) as error:
            raise StudyError(f"{file} is damaged ({error}): export the network again") from error
        if any(map(uses_external_data, _get_all_tensors(model))):
            raise StudyError(
                f"{file} keeps weights in other files: save it as one, "
                "onnx.save(onnx.load(path), path, save_as_external_data=False)"
            )
    elif not (start[4:] == b"TFL3" if file.suffix == ".tflite" else start.lstrip()[:1] == b"<"):
        raise StudyError(f"{file} is no {file.suffix} file: export the network again")
    with _named(file, "cannot be read"):
        return ov.Core().read_model(file)


def widen_constants(network: ov.Model) -> None:
    """Turn weights that are kept in FP16 and widened as they are used into FP32 weights."""
    for node in network.get_ordered_ops():
        source = node.input_value(0).get_node() if node.get_type_name() == "Convert" else None
        if source is not None and source.get_type_name() == "Constant":
            wide = opset.constant(source.data.astype(node.get_output_element_type(0).to_dtype()))
            wide.set_friendly_name(source.get_friendly_name())
            node.output(0).replace(wide.output(0))


def own_table(folder: Path, names: list[str], test: SampleSet) -> pd.DataFrame:
    """Return a row for each network that `export_models` took from elsewhere.

    Its parameters, top-1 accuracy on `test`, what it gives, its batch, and a remark where the
    accuracy is so near chance that the parameters' description of its input may be wrong.
    """
    rows = []
    for name in names:
        network = ov.Core().read_model(folder / f"{name}.xml")
        outputs = predict_ir(network, test.images)
        top1 = float((outputs.argmax(axis=1) == test.labels).mean())
        constants = [op for op in network.get_ops() if op.get_type_name() == "Constant"]
        parameters = sum(op.data.size for op in constants if op.get_element_type() in FLOATS)
        row = {"classifier": name, "parameters": parameters, "FP32 top-1": top1}
        row["output"] = "probabilities" if is_probabilities(outputs) else "logits"
        row["batch"] = f"{batch}, fixed" if (batch := fixed_batch(network)) else "any"
        chance = top1 < NEAR_CHANCE / len(test.class_names)
        rows.append(row | {"remark": REMARK if chance else ""})
    return pd.DataFrame(rows)


def _check_form(network: ov.Model, model: OwnModel) -> None:
    """One floating-point input of 32×32 images in the layout, one output, not quantized yet."""
    file, n_in, n_out = model.file, len(network.inputs), len(network.outputs)
    if (n_in, n_out) != (1, 1):
        raise StudyError(f"{file} has {n_in} inputs, {n_out} outputs: export one of each")
    for op in network.get_ops():
        small = op.get_type_name() == "Constant" and op.get_element_type() in BYTES
        if small or op.get_type_name() == "FakeQuantize":
            raise StudyError(f"{file} is quantized already: give the network in floating point")
    entry = network.input(0)
    if entry.get_element_type() not in FLOATS:
        kind = entry.get_element_type().get_type_name()
        raise StudyError(f"{file} takes {kind} numbers: export it with a floating-point input")
    shape = entry.get_partial_shape()
    if not shape.compatible(ov.PartialShape([-1, *model.shape])):
        raise StudyError(
            f"{file} takes {shape}, the study feeds {model.layout} images {['n', *model.shape]}: "
            "mend its layout in own_models, or export it for that size"
        )


def _preprocessed(network: ov.Model, model: OwnModel) -> ov.Model:
    steps = ov.preprocess.PrePostProcessor(network)
    steps.input().tensor().set_element_type(ov.Type.f32).set_layout(ov.Layout("NCHW"))
    steps.input().model().set_layout(ov.Layout(model.layout))
    process = steps.input().preprocess()
    if model.colours == "BGR":
        process.reverse_channels()
    process.scale(255 / model.input_max)
    process.mean(model.mean)
    process.scale(model.std)
    steps.output().tensor().set_element_type(ov.Type.f32)
    return steps.build()


@contextmanager
def _named(file: Path, trouble: str) -> Iterator[None]:
    """Turn OpenVINO's errors into one line; the last words of its messages say most."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise StudyError(f"{file} {trouble} ({reason}): export it again") from error
