"""Train a profile's student from the command line, in one process or in many.

`python -m lib distill params/cifar10.yaml OUT`, or on several machines that share OUT
`accelerate launch --multi_gpu --num_machines 2 … -m lib distill …`; without GPUs
`torchrun --nnodes 2 … -m lib distill …`, since `accelerate launch` starts one process there. It
reads the artifacts `teacher_samples` and `real` that the notebooks before have made.
"""

from pathlib import Path

import torch

from lib.common.errors import StudyError
from lib.common.processes import count, join
from lib.student.distillation import distill
from lib.study.output_folder import output_folder
from lib.study.params import Params


def train_student(params: Params, out: Path, device: str | None = None) -> None:
    """Train with a profile's parameters into `out`; an interrupted run resumes there.

    `device` takes the place of the profile's.
    """
    device = device or params.device
    if device == "cuda" and not torch.cuda.is_available():
        raise StudyError("device cuda is not available here: choose cpu")
    join(device)
    processes = params.num_processes if count() == 1 else 1
    options = params.options("student")
    artifacts = output_folder(params) / "artifacts"
    sets = {"samples": artifacts / "teacher_samples", "real": artifacts / "real" / "train"}
    out.mkdir(parents=True, exist_ok=True)
    how = {"device": device, "num_processes": processes}
    distill(out, **sets, seed=params.seed, options=options, **how)
