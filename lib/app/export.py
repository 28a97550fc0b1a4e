"""The trained networks in the formats that others read, each checked against torch.

The student becomes `student.safetensors` and `config.json`, `student.onnx`, and OpenVINO IR:
`student-fp32.xml`, `student-fp16.xml` (weights in FP16) and `student-int8.xml` (quantized by NNCF,
or its weights alone).
All take latents `z (n, z_dim)`, one-hot labels `c (n, c_dim)` and a truncation `psi (n, 1)` in
[0, 1], float32, and give images `(n, 3, 32, 32)` in [-1, 1].
"""

import shutil
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import openvino as ov
import pandas as pd
import torch
from torch import nn

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.app.truncation import Truncatable
from lib.common.errors import StudyError
from lib.common.files import atomic_path, read_json, replace_folder, write_json, write_text
from lib.common.openvino import compile_model, convert, read_ir, save_ir
from lib.common.seeds import torch_generator
from lib.common.tensors import save_tensors
from lib.quantization.models import export_classifiers
from lib.quantization.nncf import quiet_nncf
from lib.student.build import Student
from lib.student.networks import UpsampleBlock
from lib.student.sampling import load_student
from lib.teacher.sampling import load_teacher

CHECK = "check.csv"
COLUMNS = ["format", "file", "bytes", "mean_difference", "quantile_difference"]
COLUMNS += ["largest_difference", "mean_tolerance", "quantile_tolerance", "note"]
QUANTILE = 0.999
# How far a format's images may be from torch's in grey levels of 255: on average, and the QUANTILE
# of all pixels. Good INT8 students are off by 1 to 4 and by 6 to 40.
TOLERANCES = {
    "safetensors": (0.0, 0.0),
    "onnx": (0.01, 0.1),
    "fp32": (0.01, 0.1),
    "fp16": (0.1, 1.0),
    "int8": (8.0, 64.0),
}
CHECK_IMAGES = 200
CALIBRATION_IMAGES = 300
OPSET = 17
INPUTS = ("z", "c", "psi")
TEACHER_BATCH = 10  # images at once; the converted teacher takes no other number


def export_generator(
    out: Path, *, student: Path, evaluator: Path, check: Path, teacher: Path | None = None
) -> None:
    """Write the folder that `lib.app.generator` reads into `out`.

    It holds the student's formats, `evaluator.xml` and, given its file, `teacher.xml`.
    `evaluator` is the classifier's folder, `check` a SampleSet on whose first images it is
    compared with torch. Raises `StudyError` where a format's images differ from torch's.
    """
    export_student(out, student=student)
    export_classifiers(out, classifiers={Path(EVALUATOR).stem: evaluator}, check=check)
    if teacher is not None:
        _export_teacher(out / FILES["teacher"], teacher, read_json(out / CONFIG))


def export_student(out: Path, *, student: Path, seed: int = 1) -> pd.DataFrame:
    """Write every format into the folder `out`, then `check.csv`; return that table.

    The table holds for each format its size in bytes and how far its images are from torch's, in
    grey levels over all pixels of `CHECK_IMAGES` images of normal latents: the mean, the
    `QUANTILE` and the largest difference. Where INT8 is beyond its tolerance, it is made once more
    with weights alone in INT8, and its `note` says so. Raises `StudyError` where the student cannot
    be read or a format is beyond its tolerance.
    """
    network = load_student(student)
    write_formats(out, network, seed)
    inputs = draw_inputs(network, CHECK_IMAGES, seed, "check")
    with torch.inference_mode():
        expected = network(*inputs[:2]).numpy()
    paths = files(out)
    rows = {name: _measured(name, path, inputs, expected) for name, path in paths.items()}
    if fault := _fault(rows["int8"]):
        write_weights_alone(paths)
        rows["int8"] = _measured("int8", paths["int8"], inputs, expected)
        rows["int8"]["note"] = f"weights alone are in INT8: with activations, too, {fault}"
    table = pd.DataFrame(rows.values(), columns=COLUMNS)
    write_text(out / CHECK, table.to_csv(index=False, float_format="%.4g"))
    for row in filter(_fault, rows.values()):
        raise StudyError(f"{out / row['file']}: {_fault(row)}: do not use it")
    return table


def _measured(
    name: str, path: Path, inputs: tuple[torch.Tensor, ...], expected: np.ndarray
) -> dict[str, str | float]:
    """Return a format's row: its size, and how far its images are from those `expected`."""
    difference = 127.5 * np.abs(run_exported(path, *inputs) - expected)
    sizes = [p.stat().st_size for p in (path, path.with_suffix(".bin")) if p.exists()]
    found = difference.mean(), np.quantile(difference, QUANTILE), difference.max()
    values = [name, path.name, sum(sizes), *found, *TOLERANCES[name], ""]
    return dict(zip(COLUMNS, values, strict=True))


def _fault(row: dict[str, str | float]) -> str:
    """Say how a format is beyond its tolerance, if it is."""
    for measure, words in (("mean", "on average"), ("quantile", "or more in one pixel of 1,000")):
        found, allowed = row[f"{measure}_difference"], row[f"{measure}_tolerance"]
        if not found <= allowed:
            off = f"its images differ from torch's by {found:.2g} grey levels {words}"
            return f"{off}, allowed are {allowed:g}"
    return ""


def files(out: Path) -> dict[str, Path]:
    """Return the file of each format."""
    paths = {"safetensors": out / "student.safetensors", "onnx": out / "student.onnx"}
    return paths | {name: out / f"student-{name}.xml" for name in ("fp32", "fp16", "int8")}


def write_formats(out: Path, network: Student, seed: int) -> None:
    """Write the files of a student in eval mode."""
    paths = files(out)
    save_tensors(paths["safetensors"], network, network.config)
    write_json(out / CONFIG, network.config)
    example = draw_inputs(network, 2, seed, "example")
    names = [*INPUTS, "images"]
    with atomic_path(paths["onnx"]) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer warns of its own deprecations
        torch.onnx.export(
            Truncatable(network, seed),
            example,
            temporary,
            dynamo=False,  # one file, and an opset that older readers know
            opset_version=OPSET,
            input_names=names[:3],
            output_names=names[3:],
            dynamic_axes={name: {0: "n"} for name in names},
        )
    model = _convert(Truncatable(network, seed), example)
    save_ir(paths["fp32"], model.clone())
    save_ir(paths["fp16"], model, half=True)
    parts = [part.numpy() for part in draw_inputs(network, CALIBRATION_IMAGES, seed, "calibration")]
    items = [
        {name: part[[k]] for name, part in zip(INPUTS, parts, strict=True)}
        for k in range(CALIBRATION_IMAGES)
    ]
    model = _convert(Truncatable(plain_form(network), seed), example)
    save_ir(paths["int8"], _quantize(model, items))


def plain_form(network: Student) -> Student:
    """Return a copy that upsamples and convolves apart: the form that quantizes well."""
    network = deepcopy(network)
    for module in network.modules():
        if isinstance(module, UpsampleBlock):
            module.fused = False
    return network


def draw_inputs(network: Student, n: int, seed: int, name: str) -> tuple[torch.Tensor, ...]:
    """Return normal latents `(n, z_dim)`, one-hot labels `(n, c_dim)` and psi `(n, 1)`, all 1."""
    latents = torch.randn(n, network.z_dim, generator=torch_generator(seed, "export", name))
    return latents, torch.eye(network.c_dim)[torch.arange(n) % network.c_dim], torch.ones(n, 1)


def run_exported(path: Path, z: torch.Tensor, c: torch.Tensor, psi: torch.Tensor) -> np.ndarray:
    """Return the images `(n, 3, 32, 32)` in [-1, 1] that an exported file makes.

    The weights in safetensors know no truncation: psi does not count.
    """
    if path.suffix == ".safetensors":
        with torch.inference_mode():
            return load_student(path)(z, c).numpy()
    model = read_ir(path) if path.suffix == ".xml" else ov.Core().read_model(path)
    return compile_model(model)({"z": z.numpy(), "c": c.numpy(), "psi": psi.numpy()})[0]


def _convert(network: nn.Module, example: tuple[torch.Tensor, ...], n: int = -1) -> ov.Model:
    """Convert a `Truncatable`; it takes `n` images at once, -1: any number."""
    model = convert(network, example, [[n, part.shape[1]] for part in example])
    for port, name in zip([*model.inputs, *model.outputs], [*INPUTS, "images"], strict=True):
        port.get_tensor().set_names({name})
    return model


def _quantize(model: ov.Model, items: list[dict[str, np.ndarray]]) -> ov.Model:
    with quiet_nncf() as nncf:
        # NNCF's default ranges, means over the images, cut large activations off: pixels far from
        # torch's. Its bias correction takes the images farther away, too.
        parameters = nncf.AdvancedQuantizationParameters(
            disable_bias_correction=True,
            activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX,
        )
        return nncf.quantize(
            model,
            nncf.Dataset(items),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(items),
            advanced_parameters=parameters,
        )


def write_weights_alone(paths: dict[str, Path]) -> None:
    """Write the INT8 file anew, from that in FP32, with activations in floating point."""
    with quiet_nncf() as nncf:
        mode = nncf.CompressWeightsMode.INT8_SYM
        save_ir(paths["int8"], nncf.compress_weights(read_ir(paths["fp32"]), mode=mode))


def _export_teacher(xml: Path, weights: Path, student: dict) -> None:
    generator = load_teacher(weights)
    sizes = (generator.z_dim, generator.c_dim)
    if sizes != (student["z_dim"], student["c_dim"]):
        raise StudyError(f"{weights}: latents and labels {sizes} are not the student's")
    example = tuple(torch.zeros(TEACHER_BATCH, size) for size in (*sizes, 1))
    save_ir(xml, _convert(Truncatable(generator), example, TEACHER_BATCH))


def publish_generator(artifact: Path, target: Path) -> list[Path]:
    """Copy what a fresh checkout needs to show the student into `target`; return its files.

    The teacher, the ONNX and the FP16 files stay behind.
    """
    if not (artifact / CONFIG).exists():
        raise StudyError(f"{artifact} is missing: run notebook 07 first")
    models = [Path(name) for name in (FILES["student"], FILES["student INT8"], EVALUATOR)]
    weights = [path.with_suffix(".bin") for path in models]
    work = target.with_name(f".{target.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("student.safetensors", CONFIG, CHECK, *models, *weights):
        shutil.copyfile(artifact / name, work / name)
    replace_folder(work, target)
    return sorted(target.iterdir())
