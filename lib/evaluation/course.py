"""How near the student comes to its teacher in the course of its training."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.common.files import write_csv
from lib.common.progress import progress
from lib.common.seeds import torch_generator
from lib.data.samples import SampleSet
from lib.evaluation.distances import frechet_distance
from lib.evaluation.extractors import classifier_extractor, extract
from lib.student.sampling import generate, load_student

TABLE = "course.csv"


def training_course(
    out: Path, *, student: Path, samples: Path, evaluator: Path, per_class: int, seed: int
) -> None:
    """Write `course.csv` into `out`: `kimg` and `distance` of each of a student's moments.

    `student` is the folder that `distill` wrote; the distance is Fréchet's in the evaluator's
    features, of `per_class` images a class, of the same fresh latents, to all of the teacher's
    `samples`. So few images make it too large: it tells moments apart, no more.
    """
    network, teacher = classifier_extractor(evaluator), SampleSet.load(samples)
    reference, _ = extract(network, teacher.images)
    labels = np.arange(per_class * len(teacher.class_names)) % len(teacher.class_names)
    z_dim, draws = teacher.latents.shape[1], torch_generator(seed, "training course")
    latents, rows = torch.randn(len(labels), z_dim, generator=draws), []
    for path in progress(sorted((student / "moments").iterdir()), "course", unit="moment"):
        images = generate(load_student(path), latents, labels)
        features, _ = extract(network, images, desc=f"features at {path.stem} thousand")
        distance = frechet_distance(features, reference)
        rows.append({"kimg": float(path.stem), "distance": distance})
    write_csv(out / TABLE, pd.DataFrame(rows).assign(n=len(labels), network=network.distance))
