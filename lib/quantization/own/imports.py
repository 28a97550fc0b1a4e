"""Networks from elsewhere (ONNX, OpenVINO IR, TFLite) as FP32 IRs like those of the study.

Whatever layout, scale, normalisation and order of colours they want goes into the graph, so that
all that follows sees a network of pixels. Files are read by OpenVINO's own readers alone.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import openvino as ov
import openvino.opset13 as opset
import pandas as pd
from openvino._offline_transformations import apply_moc_transformations

from lib.classifiers.build import CIFAR10_MEAN, CIFAR10_STD
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
from lib.quantization.own.parameters import (
    Input,
    OwnModel,
    content_hash,
    read_onnx,
    source_files,
    whole_onnx,
)

FLOATS, BYTES = (ov.Type.f32, ov.Type.f16), (ov.Type.i8, ov.Type.u8)
BETTER, SURE = 0.02, 2.5  # more images right, and standard deviations, that are worth a note
NORMALISATIONS = {
    "values 0 … 1 as they are": ([0.0] * 3, [1.0] * 3),
    "values -1 … 1": ([0.5] * 3, [0.5] * 3),
    "ImageNet's mean and std": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "CIFAR-10's mean and std": (list(CIFAR10_MEAN), list(CIFAR10_STD)),
}
APART = 1e-3  # of the largest output: an image's outputs among some images and among others
REMARK = "near chance: check its mean, std, input_max, layout, colours, order of classes"


def export_models(
    out: Path,
    *,
    classifiers: dict[str, Path],
    check: Path,
    own: list[dict[str, Any]],
    files: dict[str, Path],
    unfused: Sequence[str] = (),
) -> None:
    """Write `out/<name>.xml` and .bin, FP32, of trained classifiers and of networks from elsewhere.

    `classifiers` and `unfused` are `export_classifiers`'s; `own` is as `own_records` gives it, with
    the `files` by name. The SampleSet `check` compares the IRs with what they were made from.
    """
    export_classifiers(out, classifiers=classifiers, check=check, unfused=unfused)
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
    if model.file.suffix.lower() == ".onnx" and network.is_dynamic() and _takes_floats(model.file):
        with atomic_path(out / f"{model.name}.onnx") as temporary:
            onnx.save(whole_onnx(model.file), temporary)
        write_json(out / f"{model.name}.json", model.model_dump(include=set(Input.model_fields)))
    save_ir(out / f"{model.name}.xml", network)


def check_network(model: OwnModel, classes: int | None = None) -> None:
    """Raise `StudyError` unless the file of `model` is a classifier that runs here.

    Its number of classes is compared with `classes`, where that is known.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, *IMAGE_SHAPE)) * rng.random((8, 1, 1, 1))  # light and dark
    images = images.astype(np.uint8)
    read_network(model, images, classes)


def better_description(model: OwnModel, samples: SampleSet) -> str:
    """Return a note if the network is right more often on `samples` under a likely other input.

    "" if it is not. Other orders of colours, ranges of values and usual normalisations are tried;
    one counts as better if it is right on more images than chance explains.
    """
    own, others = _right(model, samples), {}
    for words, new in likely(model):
        with suppress(StudyError):  # that is no fault of the description that was given
            others[words] = _right(model.model_copy(update=new), samples)
    words = max(others, key=lambda name: others[name].sum())
    won, lost = (others[words] & ~own).sum(), (own & ~others[words]).sum()
    if won - lost < max(BETTER * len(samples), SURE * np.sqrt(won + lost)):
        if not near_chance(own.mean(), len(own), len(samples.class_names)):
            return ""
        return (
            f"{model.name} is right on {own.mean():.0%} of {len(samples)} images, as guessing is: "
            "are its classes in the order of the data's (class_order)?"
        )
    return (
        f"{model.name} is right on {own.mean():.0%} of {len(samples)} images as own_models "
        f"describes it, on {others[words].mean():.0%} with {words}: is that what it takes?"
    )


def near_chance(share: float, n: int, classes: int) -> bool:
    """Tell whether such a share of `n` images right is little more than guessing gives."""
    guess = 1 / classes
    return share < guess + min(guess, (1 - guess) / 4) + SURE * (guess * (1 - guess) / n) ** 0.5


def likely(model: OwnModel) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield other descriptions that people mistake for this one: in words, and what changes."""
    other = "BGR" if model.colours == "RGB" else "RGB"
    ways = {"": {}, f"input_max: {256 - model.input_max}": {"input_max": 256 - model.input_max}}
    for name, (mean, std) in NORMALISATIONS.items():
        ways[name] = {"mean": mean, "std": std, "input_max": 1}
    for words, new in ways.items():
        if words:
            yield words, new
        yield f"colours: {other}" + f" and {words}" * bool(words), new | {"colours": other}


def _right(model: OwnModel, samples: SampleSet) -> np.ndarray:
    network = read_network(model, samples.images[:8], len(samples.class_names))
    return predict_ir(network, samples.images).argmax(axis=1) == samples.labels


def read_network(model: OwnModel, images: np.ndarray, classes: int | None) -> ov.Model:
    """Return a network of pixels `(n, 3, 32, 32)` float32 in [0, 255], its weights float32.

    Its batch is free if that changes no output for `images`; it runs and gives finite numbers.
    """
    file = model.file
    network = _one_output(read_source(file), model)
    _check_form(network, model)
    if network.input(0).get_element_type() == ov.Type.u8:  # of its preprocessing, inside
        network.input(0).get_node().set_element_type(ov.Type.f32)
    with named(file, "does not take 32×32 images"):
        network.reshape([network.input(0).get_partial_shape()[0], *model.shape])
        widen_constants(network)
        fold_normalisations(network)
        network = _preprocessed(network, model)
    network.output(0).get_tensor().set_names({"logits"})
    found = network.output(0).get_partial_shape()
    if len(found) != 2 or not found[1].compatible(ov.Dimension(classes or -1)):
        wanted = f"the data have {classes} classes" if classes else "the study wants logits"
        raise StudyError(f"{file} gives {found}, {wanted}: export it as (n, classes)")
    if mixes_batch(network, images):
        fault = f"{file} answers otherwise when other images are in the batch"
        raise StudyError(f"{fault}: call eval() and export it again")
    network.reshape([fixed_batch(network) or 1, *IMAGE_SHAPE])
    network = free_batch(network, images)
    with named(file, "does not run"):
        outputs = predict_ir(network, images)
    if not np.isfinite(outputs).all():
        raise StudyError(f"{file} gives NaN or infinity for plain images: export it again")
    return network


def mixes_batch(network: ov.Model, images: np.ndarray) -> bool:
    """Tell whether an image's outputs depend on the others in its batch, as in training.

    Batches of one tell nothing, nor does a network that takes no batch of `images`.
    """
    some = np.resize(images, (fixed_batch(network) or len(images), *images.shape[1:]))
    others = np.concatenate([some[:1], 255 - some[1:]])
    with suppress(RuntimeError):
        one, two = (predict_ir(network, batch, batch_size=len(some)) for batch in (some, others))
        return bool(np.abs(one[0] - two[0]).max() > APART * np.abs(one).max())
    return False


def read_source(file: Path) -> ov.Model:
    """Read an .onnx, .xml or .tflite file; a missing or damaged one is a `StudyError`."""
    source_files(file)
    start, suffix = file.read_bytes()[:8], file.suffix.lower()
    if suffix == ".onnx":
        if trains(read_onnx(file)):
            raise StudyError(f"{file} was exported in training mode: call eval() and export again")
    elif not (start[4:] == b"TFL3" if suffix == ".tflite" else start.lstrip()[:1] == b"<"):
        raise StudyError(f"{file} is no {suffix} file: export the network again")
    with named(file, "cannot be read"), TemporaryDirectory() as folder:
        if suffix == ".tflite" and file.suffix != suffix:  # OpenVINO goes by the ending
            file = Path(shutil.copy(file, Path(folder) / f"network{suffix}"))
        return ov.Core().read_model(file)


def trains(model: onnx.ModelProto) -> bool:
    """Tell whether a batch normalisation takes its statistics from the batch.

    Before opset 14 it then has more outputs than one; later an attribute says so.
    """
    nodes = list(model.graph.node) + [node for f in model.functions for node in f.node]
    for node in nodes:  # which grows by those of subgraphs
        nodes += [inner for a in node.attribute for g in (a.g, *a.graphs) for inner in g.node]
        if node.op_type == "BatchNormalization" and (
            len([name for name in node.output if name]) > 1
            or any(a.name == "training_mode" and a.i for a in node.attribute)
        ):
            return True
    return False


def _takes_floats(file: Path) -> bool:
    """Tell whether POT can take an .onnx file: one input of floats, one output."""
    network = ov.Core().read_model(file)
    one = len(network.inputs) == len(network.outputs) == 1
    return one and network.input(0).get_element_type() in FLOATS


def widen_constants(network: ov.Model) -> None:
    """Turn weights that are kept in FP16 and widened as they are used into FP32 weights."""
    for node in network.get_ordered_ops():
        source = node.input_value(0).get_node() if node.get_type_name() == "Convert" else None
        if source is not None and source.get_type_name() == "Constant":
            wide = opset.constant(source.data.astype(node.get_output_element_type(0).to_dtype()))
            wide.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(wide.output(0))


def fold_normalisations(network: ov.Model) -> None:
    """Fold batch normalisations, which some ONNX files keep, into the layers before them.

    NNCF would quantize between the two: EfficientNet-Lite0 then agrees with FP32 on 43 % of images
    in place of 65 %.
    """
    if any(node.get_type_name() == "BatchNormInference" for node in network.get_ops()):
        apply_moc_transformations(network, cf=True)


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
        chance = near_chance(top1, len(test), len(test.class_names))
        rows.append(row | {"remark": REMARK if chance else ""})
    return pd.DataFrame(rows)


def _one_output(network: ov.Model, model: OwnModel) -> ov.Model:
    """Return the network with the output that `model` names, or its only one."""
    names = [min(output.names, default="") for output in network.outputs]
    if model.output:
        chosen = [output for output in network.outputs if model.output in output.names]
        if not chosen:
            known = f"it has {', '.join(names)}"
            raise StudyError(f"{model.file} has no output {model.output}: {known}")
        return ov.Model([chosen[0].get_node()], network.get_parameters())
    if len(names) > 1:
        forms = [str(output.get_partial_shape()) for output in network.outputs]
        listed = ", ".join(map(" ".join, zip(names, forms, strict=True)))
        raise StudyError(
            f"{model.file} has {len(names)} outputs ({listed}): say which in own_models, such as "
            f"output: {names[-1]}"
        )
    return network


def _check_form(network: ov.Model, model: OwnModel) -> None:
    """One input of 32×32 images in the layout, floats or pixels, not quantized yet."""
    file = model.file
    if len(network.inputs) != 1:
        raise StudyError(f"{file} has {len(network.inputs)} inputs: export it with one")
    check_floating(network, file)
    entry = network.input(0)
    kind = entry.get_element_type()
    if kind == ov.Type.u8:
        if model.for_model_optimizer()["scale_values"] != [1] * 3 or any(model.mean):
            plain = "mean: [0, 0, 0], std: [1, 1, 1], input_max: 255"
            raise StudyError(f"{file} takes pixels of 8 bits as they are: describe it by {plain}")
    elif kind not in FLOATS:
        taken = f"{file} takes {kind.get_type_name()} numbers"
        raise StudyError(f"{taken}: export it with a floating-point or 8-bit input")
    shape = entry.get_partial_shape()
    if not shape.compatible(ov.PartialShape([-1, *model.shape])):
        raise StudyError(
            f"{file} takes {shape}, the study feeds {model.layout} images {['n', *model.shape]}: "
            "mend its layout in own_models, or export it for that size"
        )


def check_floating(network: ov.Model, file: Path) -> None:
    """Raise `StudyError` if a network is quantized already."""
    for op in network.get_ops():
        small = op.get_type_name() == "Constant" and op.get_element_type() in BYTES
        if small or op.get_type_name() == "FakeQuantize":
            raise StudyError(f"{file} is quantized already: give the network in floating point")


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
def named(file: Path, trouble: str, remedy: str = "export it again") -> Iterator[None]:
    """Turn OpenVINO's errors into one line; the last words of its messages say most."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise StudyError(f"{file} {trouble} ({reason}): {remedy}") from error
