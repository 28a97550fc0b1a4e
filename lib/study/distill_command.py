"""Train a profile's student from the command line, in one process or in many.

`python -m lib.study.distill_command params/cifar10.yaml OUT`, or on several machines that share OUT
`accelerate launch --multi_gpu --num_machines 2 … -m lib.study.distill_command …`; without GPUs
`torchrun --nnodes 2 …`, since `accelerate launch` starts one process there. It reads the artifacts
`teacher_samples` and `real` that the notebooks before have made.
"""

import argparse
import sys
from pathlib import Path

import torch

from lib.common.errors import StudyError
from lib.common.processes import count, join
from lib.student.distillation import distill
from lib.study.output_folder import output_folder
from lib.study.params import read_profile, validate


def train_student(profile: Path, out: Path, device: str | None = None) -> None:
    """Train with the profile's parameters into `out`; an interrupted run resumes there.

    `device` takes the place of the profile's.
    """
    params = validate(read_profile(profile))
    device = device or params.device
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("device cuda is not available here: choose cpu")
    join(device)
    options = params.group("student") | {"seed": params.seed, "device": device}
    if count() == 1:
        options["num_processes"] = params.num_processes
    artifacts = output_folder(params) / "artifacts"
    sets = {"samples": artifacts / "teacher_samples", "real": artifacts / "real" / "train"}
    out.mkdir(parents=True, exist_ok=True)
    distill(out, **sets, **options)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser("python -m lib.study.distill_command", description=__doc__)
    parser.add_argument("profile", type=Path, help="parameter file, such as params/cifar10.yaml")
    parser.add_argument("out", type=Path, help="folder for student.safetensors and its log")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="instead of the profile's")
    options = parser.parse_args(arguments)
    try:
        train_student(options.profile, options.out, options.device)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
