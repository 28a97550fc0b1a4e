"""A trained student in the formats that others read, each checked against torch.

`python -m lib.app.student_export student.safetensors OUT` writes `student.safetensors` and
`config.json`, `student.onnx`, and OpenVINO IR: `student-fp32.xml`, `student-fp16.xml` (weights in
FP16) and `student-int8.xml` (quantized by NNCF). All take latents `z (n, z_dim)` and one-hot
labels `c (n, c_dim)`, float32, and give images `(n, 3, 32, 32)` in [-1, 1].
"""

import argparse
import sys
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import openvino as ov
import pandas as pd
import torch

from lib.common.errors import StudyError
from lib.common.files import atomic_path, write_json, write_text
from lib.common.openvino import compile_model, convert, read_ir, save_ir
from lib.common.seeds import torch_generator
from lib.common.tensors import save_weights
from lib.quantization.nncf import quiet_nncf
from lib.student.networks import Generator, UpsampleBlock
from lib.student.sampling import load_student, one_hot
from lib.study.output_folder import output_folder
from lib.study.params import read_profile, validate

# Largest mean absolute difference to torch's images, in grey levels of 255.
TOLERANCES = {"safetensors": 0.0, "onnx": 0.01, "fp32": 0.01, "fp16": 0.1, "int8": 8.0}
CHECK_IMAGES = 200
CALIBRATION_IMAGES = 300
OPSET = 17


def export_student(out: Path, *, student: Path, seed: int = 1) -> pd.DataFrame:
    """Write every format into the folder `out`, then `check.csv`; return that table.

    The table holds for each format its size in bytes and how far its images are from torch's, in
    grey levels: mean and largest difference over `CHECK_IMAGES` images of normal latents.

    Raises:
        StudyError: the student cannot be read, or a format is beyond its tolerance.
    """
    network = load_student(student)
    write_formats(out, network, seed)
    inputs = draw_inputs(network, CHECK_IMAGES, seed, "check")
    with torch.inference_mode():
        expected = network(*inputs).numpy()
    rows = []
    for name, path in files(out).items():
        images = run_exported(path, *inputs)
        difference = 127.5 * np.abs(images - expected)
        sizes = sum(p.stat().st_size for p in (path, path.with_suffix(".bin")) if p.exists())
        rows.append({"format": name, "file": path.name, "bytes": sizes})
        rows[-1] |= {"mean_difference": difference.mean(), "largest_difference": difference.max()}
        rows[-1]["tolerance"] = TOLERANCES[name]
    table = pd.DataFrame(rows)
    write_text(out / "check.csv", table.to_csv(index=False, float_format="%.4g"))
    for row in table[~(table["mean_difference"] <= table["tolerance"])].itertuples():
        raise StudyError(
            f"{out / row.file}: its images differ from torch's by {row.mean_difference:.2g} grey "
            f"levels on average, allowed are {row.tolerance:g}: do not use it"
        )
    return table


def files(out: Path) -> dict[str, Path]:
    """Return the file of each format."""
    paths = {"safetensors": out / "student.safetensors", "onnx": out / "student.onnx"}
    return paths | {name: out / f"student-{name}.xml" for name in ("fp32", "fp16", "int8")}


def write_formats(out: Path, network: Generator, seed: int) -> None:
    """Write the files of a student in eval mode."""
    paths = files(out)
    save_weights(paths["safetensors"], network, network.config)
    write_json(out / "config.json", network.config)
    example = draw_inputs(network, 2, seed, "example")
    _write_onnx(paths["onnx"], network, example)
    model = _convert(network, example)
    save_ir(paths["fp32"], model.clone())
    save_ir(paths["fp16"], model, half=True)
    plain = _convert(plain_form(network), example)
    save_ir(paths["int8"], _quantize(plain, network, seed))


def plain_form(network: Generator) -> Generator:
    """Return a copy that upsamples and convolves apart: the form that quantizes well."""
    network = deepcopy(network)
    for module in network.modules():
        if isinstance(module, UpsampleBlock):
            module.fused = False
    return network


def draw_inputs(network: Generator, n: int, seed: int, name: str) -> tuple[torch.Tensor, ...]:
    """Return normal latents `(n, z_dim)` and one-hot labels `(n, c_dim)`, cycling the classes."""
    latents = torch.randn(n, network.z_dim, generator=torch_generator(seed, "export", name))
    return latents, one_hot(torch.arange(n) % network.c_dim, network.c_dim)


def run_exported(path: Path, z: torch.Tensor, c: torch.Tensor) -> np.ndarray:
    """Return the images `(n, 3, 32, 32)` in [-1, 1] that an exported file makes."""
    if path.suffix == ".safetensors":
        with torch.inference_mode():
            return load_student(path)(z, c).numpy()
    model = read_ir(path) if path.suffix == ".xml" else ov.Core().read_model(path)
    return compile_model(model)({"z": z.numpy(), "c": c.numpy()})[0]


def _convert(network: Generator, example: tuple[torch.Tensor, ...]) -> ov.Model:
    model = convert(network, example, [[-1, network.z_dim], [-1, network.c_dim]])
    for port, name in zip([*model.inputs, *model.outputs], ("z", "c", "images"), strict=True):
        port.get_tensor().set_names({name})
    return model


def _write_onnx(path: Path, network: Generator, example: tuple[torch.Tensor, ...]) -> None:
    names = ["z", "c", "images"]
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer warns of its own deprecations
        torch.onnx.export(
            network,
            example,
            temporary,
            dynamo=False,  # one file, and an opset that older readers know
            opset_version=OPSET,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "n"} for name in names},
        )


def _quantize(model: ov.Model, network: Generator, seed: int) -> ov.Model:
    z, c = draw_inputs(network, CALIBRATION_IMAGES, seed, "calibration")
    items = [
        {"z": z[k : k + 1].numpy(), "c": c[k : k + 1].numpy()} for k in range(CALIBRATION_IMAGES)
    ]
    with quiet_nncf() as nncf:
        return nncf.quantize(
            model,
            nncf.Dataset(items),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=CALIBRATION_IMAGES,
            # with NNCF's bias correction the images come out farther from torch's
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.app.student_export", description=__doc__)
    parser.add_argument("student", type=Path, help="student.safetensors, or a profile's YAML file")
    parser.add_argument("out", type=Path, nargs="?", help="folder (the profile's own: export/)")
    options = parser.parse_args(arguments)
    try:
        student, out = options.student, options.out or options.student.with_name("export")
        if student.suffix == ".yaml":
            folder = output_folder(validate(read_profile(student)))
            student = folder / "artifacts" / "student" / "student.safetensors"
            out = options.out or folder / "export"
        table = export_student(out, student=student)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table.to_string(index=False, float_format="{:.3g}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main())
