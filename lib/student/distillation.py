"""Distillation: train the student on a teacher's images, with the teacher as a black box."""

from pathlib import Path

from lib.common.errors import StudyError
from lib.common.processes import launch
from lib.data.samples import SampleSet
from lib.student.options import StudentOptions
from lib.student.original import OriginalTraining
from lib.student.training import StudentTraining


def distill(
    out: Path,
    *,
    samples: Path,
    seed: int,
    options: StudentOptions,
    real: Path | None = None,
    device: str = "cpu",
    num_processes: int = 1,
) -> None:
    """Train a student on the teacher's SampleSet `samples`; write its files, see `Training.run`.

    Only the recipe original, or a `real_share` above 0, wants the SampleSet `real`. In
    `moments/<kimg>.safetensors` lie the students of the snapshots' moments. `num_processes` share
    each batch on this machine; `accelerate launch` starts processes on several. Raises
    `StudyError` where the sets do not fit or a loss is no longer finite.
    """
    if num_processes > 1:
        given = {"samples": samples, "real": real, "seed": seed, "options": options}
        return launch(distill, num_processes, out, device=device, **given)
    kind = OriginalTraining if options.recipe == "original" else StudentTraining
    kind(*load_sets(samples, real, options), seed, options, device).run(Path(out))


def load_sets(
    samples: Path, real: Path | None, options: StudentOptions
) -> tuple[SampleSet, SampleSet | None]:
    """Load what a student is trained on; raise `StudyError` where it does not do."""
    teacher = SampleSet.load(samples)
    if teacher.latents is None:
        raise StudyError(f"{samples} has no latents: sample a teacher, real images do not do")
    if options.recipe == "default" and not options.real_share:
        return teacher, None
    if real is None:
        raise StudyError("the recipe original and real_share above 0 want real images: give some")
    others = SampleSet.load(real)
    if teacher.class_names != others.class_names:
        raise StudyError(f"{samples} and {real} have different classes: use the same data")
    return teacher, others
