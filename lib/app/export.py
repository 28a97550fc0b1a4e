"""Write the folder that `lib.app.generator` reads: student, evaluator and, if any, teacher."""

import shutil
from pathlib import Path

import torch
from torch import nn

from lib.app.generator import CONFIG, EVALUATOR, FILES
from lib.app.student_export import export_student
from lib.common.errors import StudyError
from lib.common.files import read_json, replace_folder
from lib.common.openvino import convert, save_ir
from lib.quantization.models import export_classifiers
from lib.teacher.sampling import load_teacher

TEACHER_BATCH = 10  # images at once; the converted teacher takes no other number
PUBLISHED = ("student.safetensors", CONFIG, "check.csv")
PUBLISHED_MODELS = (FILES["student"], FILES["student INT8"], EVALUATOR)


def export_generator(
    out: Path, *, student: Path, evaluator: Path, check: Path, teacher: Path | None = None
) -> None:
    """Write the student's formats, `evaluator.xml` and, given its file, `teacher.xml` into `out`.

    `evaluator` is the classifier's folder, `check` a SampleSet on whose first images it is
    compared with torch. Raises `StudyError` where a format's images differ from torch's.
    """
    export_student(out, student=student)
    export_classifiers(out, classifiers={Path(EVALUATOR).stem: evaluator}, check=check)
    if teacher is not None:
        _export_teacher(out / FILES["teacher"], teacher, read_json(out / CONFIG))


def publish_generator(artifact: Path, target: Path) -> list[Path]:
    """Copy what a fresh checkout needs to show the student into `target`; return its files.

    The teacher, the ONNX and the FP16 files stay behind.
    """
    if not (artifact / CONFIG).exists():
        raise StudyError(f"{artifact} is missing: run notebook 07 first")
    models = [Path(name).with_suffix(end) for name in PUBLISHED_MODELS for end in (".xml", ".bin")]
    work = target.with_name(f".{target.name}.new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in (*PUBLISHED, *models):
        shutil.copyfile(artifact / name, work / name)
    replace_folder(work, target)
    return sorted(target.iterdir())


class _Labelled(nn.Module):
    """The teacher as a function of latents and one-hot labels, as the student is."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.generator(z, c, noise_mode="const")


def _export_teacher(xml: Path, weights: Path, student: dict) -> None:
    generator = load_teacher(weights)
    sizes = (generator.z_dim, generator.c_dim)
    if sizes != (student["z_dim"], student["c_dim"]):
        raise StudyError(f"{weights}: latents and labels {sizes} are not the student's")
    shapes = [(TEACHER_BATCH, side) for side in sizes]
    example = tuple(torch.zeros(shape) for shape in shapes)
    model = convert(_Labelled(generator), example)
    model.reshape(dict(enumerate(map(list, shapes))))
    for port, name in zip(model.inputs, "zc", strict=True):
        port.get_tensor().set_names({name})
    save_ir(xml, model)
