"""Images of further generators: of a truncated teacher, an unfinished student, files of others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.calibration.kinds import KINDS, Kind
from lib.common.errors import StudyError
from lib.common.files import resolve, sha256_file
from lib.common.tensors import load_tensors
from lib.student.sampling import sample_student
from lib.teacher.options import SamplingOptions
from lib.teacher.sampling import sample_teacher

SIZES = {"batch_size": 64, "shard_size": 1000}


def further_samples(
    kind: Kind, files: dict[str, str], per_class: int, seed: int, folder: Callable[[str], Path]
) -> dict[str, Any]:
    """Return `inputs`, `options` and `run_options` of the artifact that a kind `needs`.

    `files` are the weights of other generators by the kind's name; `folder` finds an artifact.
    """
    options = {"per_class": per_class, "seed": seed}
    if kind.drawn == "truncated":
        weights = "teacher/teacher.safetensors"
        return {"inputs": {"weights": weights}, "options": options | {"truncation": kind.dose}}
    if kind.drawn == "unfinished" and kind.name not in files:
        moments = sorted(path.name for path in (folder("student") / "moments").iterdir())
        at = round(kind.dose**0.5 * (len(moments) - 1))  # moments lie at squares of their number
        return {"inputs": {"weights": f"student/moments/{moments[at]}"}, "options": options}
    file = _file(kind.name, files)
    about = options | {"sha256": sha256_file(file)}
    return {"options": about, "run_options": {"weights": file}}


def check_generators(sets: list[str], files: dict[str, str], student: str = "train") -> None:
    """Raise `StudyError` unless each set that draws from a file of weights has one.

    Where the `student` is not trained here, its earlier moments come from files, too.
    """
    from_files = ("file",) if student == "train" else ("file", "unfinished")
    for name in sets:
        if KINDS[name].drawn in from_files:
            load_tensors(_file(name, files))


def _file(name: str, files: dict[str, str]) -> Path:
    if name not in files:
        raise StudyError(
            f"calibration set {name} draws from a generator of its own: name the file of its "
            "weights in calibration_generators, or leave the set out"
        )
    return resolve(files[name])


def sample_generator(
    out: Path,
    *,
    weights: Path,
    per_class: int,
    seed: int,
    truncation: float = 1.0,
    sha256: str = "",
) -> None:
    """Write a SampleSet of `per_class` images a class by the student or teacher in `weights`.

    A student is not truncated. Resumes after an interruption. `sha256`, if given, must be that of
    the file.
    """
    if sha256 and sha256_file(weights) != sha256:
        raise StudyError(f"{weights} has changed since its hash was taken: run again")
    if "recipe" in load_tensors(weights)[1]:
        sample_student(out, student=weights, per_class=per_class, seed=seed, **SIZES)
    else:
        options = SamplingOptions(per_class=per_class, truncation=truncation, **SIZES)
        sample_teacher(out, teacher=weights, seed=seed, options=options)
