"""Where the student comes from: trained here, or a file that an earlier training wrote."""

from pathlib import Path
from typing import Any

from lib.common.errors import StudyError
from lib.common.files import resolve, sha256_file
from lib.common.tensors import save_tensors
from lib.data.samples import SampleSet
from lib.student.build import Student
from lib.student.distillation import distill
from lib.student.options import StudentOptions
from lib.student.sampling import load_student

WEIGHTS = "student.safetensors"


def student_maker(
    student: str, *, options: StudentOptions, seed: int, device: str = "cpu", processes: int = 1
) -> dict[str, Any]:
    """Return the arguments of `Study.make` for the student, but its name.

    `student` is train or a file of weights; options and seed count in the first case alone.
    """
    inputs = {"samples": "teacher_samples"}
    if student != "train":
        file = resolve(student)
        if not file.is_file():
            raise StudyError(f"student: {file} is missing: name another file, or train")
        about = {"sha256": sha256_file(file)}
        how = {"build": adopt_student, "options": about, "run_options": {"file": file}}
        return how | {"inputs": inputs}
    if options.recipe == "original" or options.real_share > 0:
        inputs["real"] = "real/train"
    run = {"device": device, "num_processes": processes}
    about = {"seed": seed, "options": options}
    return {"build": distill, "inputs": inputs, "options": about, "run_options": run}


def read_student(file: Path, class_names: list[str]) -> Student:
    """Load a student of these classes from `file`; `StudyError` where it holds none."""
    student = load_student(file)
    found = student.config["class_names"]
    if found != class_names:
        fault = f"{file} holds a student of the classes {', '.join(map(str, found[:12]))}"
        wanted = f"{', '.join(class_names[:12])} are wanted"
        raise StudyError(f"{fault}; {wanted}: choose another file, or student: train")
    return student


def adopt_student(out: Path, *, samples: Path, file: Path, sha256: str) -> None:
    """Write `out/student.safetensors` from a `file` that `distill` or `publish_weights` wrote.

    `sha256` is the file's; its classes must be those of the teacher's SampleSet `samples`.
    """
    student = read_student(file, SampleSet.load(samples).class_names)
    save_tensors(out / WEIGHTS, student, student.config | {"origin": file.name, "sha256": sha256})
